//! What a whole file is like, before anything of it is sent.

use super::reading::DatedRows;

/// Units in which times are written, microseconds.
const UNITS_US: [i64; 6] = [86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000, 1];

/// A file at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// All rows.
    pub row_count: u64,
    /// Rows without a time that can be read.
    pub undated_count: u64,
    /// Number of the first of them, from 0.
    pub first_undated: Option<u64>,
    /// First and last time, UTC microseconds.
    pub span_us: Option<(i64, i64)>,
    /// Greatest common divisor of all times, microseconds.
    divisor_us: i64,
    last_us: Option<i64>,
    /// A row has the time of an earlier one, or an earlier time.
    repeats: bool,
}

impl Survey {
    pub(super) fn see(&mut self, rows: &DatedRows) {
        self.row_count += rows.times_us.len() as u64;
        for (row, time_us) in rows.times_us.iter().enumerate() {
            let Some(time_us) = *time_us else {
                self.undated_count += 1;
                self.first_undated.get_or_insert(rows.first_row + row as u64);
                continue;
            };
            let (first, last) = self.span_us.unwrap_or((time_us, time_us));
            self.span_us = Some((first.min(time_us), last.max(time_us)));
            self.repeats |= self.last_us.is_some_and(|last| last >= time_us);
            self.last_us = Some(time_us);
            if self.divisor_us != 1 {
                self.divisor_us = common_divisor(self.divisor_us, time_us);
            }
        }
    }

    /// The unit in which all times are written, microseconds: a day, an hour, down to one.
    pub fn unit_us(&self) -> i64 {
        UNITS_US.into_iter().find(|unit| self.divisor_us % unit == 0).unwrap_or(1)
    }

    /// A point is known by its series and time, so rows of one time would be one. Where times repeat, each row is set apart by its number
    /// in the file, in microseconds, within the unit of its times; none where that is not needed, or where times are
    /// written to the microsecond.
    pub fn apart_us(&self) -> Option<i64> {
        let unit_us = self.unit_us();
        (self.repeats && unit_us > 1).then_some(unit_us)
    }

    /// Whether rows of one series may share a time and be one point.
    pub fn may_collide(&self) -> bool {
        self.repeats && (self.unit_us() == 1 || self.row_count > self.unit_us().unsigned_abs())
    }
}

fn common_divisor(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a as i64
}
