//! Names of our data files: `part-<level>-<sequence>-[r-]<uuid>.parquet`.
//!
//! The name carries what the Delta log has no field for, so that replaying the log brings it back.

use uuid::Uuid;

/// What a data file's name says about its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName {
    /// How often the rows were merged: 0 a flush, 1 a window of flushes, 2 a whole day.
    pub(crate) level: u8,
    /// Highest log sequence of the rows. Of two rows of one identity the one in the file of the higher sequence is newer.
    pub(crate) sequence: u64,
    /// Rows of the file may repeat an identity that a file of a lower sequence holds.
    pub(crate) repeats: bool,
}

impl FileName {
    /// A name of another form: nothing is known, so everything is possible.
    pub(crate) const UNKNOWN: Self = Self { level: 0, sequence: 0, repeats: true };

    /// The name of a file of rows that have no identity, such as results of jobs.
    pub(crate) const RESULT: Self = Self { level: 0, sequence: 0, repeats: false };

    /// A fresh name of this meaning.
    pub(crate) fn to_text(self) -> String {
        let repeats = if self.repeats { "r-" } else { "" };
        format!("part-{}-{:020}-{repeats}{}.parquet", self.level, self.sequence, Uuid::new_v4())
    }

    /// The meaning of `name`, a file name without folders; `None` if it is not one of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
        let (level, name) = name.split_once('-')?;
        let (sequence, name) = name.split_once('-')?;
        let (repeats, uuid) = match name.strip_prefix("r-") {
            Some(uuid) => (true, uuid),
            None => (false, name),
        };
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        let ours = digits(level, 1) && digits(sequence, 20) && uuid.len() == 36 && Uuid::try_parse(uuid).is_ok();
        if !ours {
            return None;
        }
        Some(Self { level: level.parse().ok()?, sequence: sequence.parse().ok()?, repeats })
    }

    /// The meaning of the last part of `path`, [`FileName::UNKNOWN`] if it is not one of our names.
    pub(crate) fn of_path(path: &str) -> Self {
        path.rsplit('/').next().and_then(Self::parse).unwrap_or(Self::UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_what_it_was_made_of_and_foreign_names_are_told_apart() {
        for repeats in [false, true] {
            for (level, sequence) in [(0, 0), (1, 7), (2, u64::MAX)] {
                let name = FileName { level, sequence, repeats };
                assert_eq!(FileName::parse(&name.to_text()), Some(name));
                assert_eq!(FileName::of_path(&format!("date=2026-11-24/{}", name.to_text())), name);
            }
        }
        let uuid = Uuid::new_v4();
        for foreign in [
            format!("part-{uuid}.parquet"),
            format!("part-00000-{uuid}-c000.snappy.parquet"),
            format!("part-0-7-{uuid}.parquet"),
            format!("part-0-00000000000000000007-x-{uuid}.parquet"),
            format!("part-0-00000000000000000007-{uuid}.parquet.tmp"),
            "part-0-00000000000000000007-.parquet".into(),
        ] {
            assert_eq!(FileName::parse(&foreign), None, "{foreign}");
            assert_eq!(FileName::of_path(&foreign), FileName::UNKNOWN);
        }
    }
}
