//! Table `checkpoints`: each examination of a folder.

use std::collections::BTreeSet;

use datafusion::arrow::array::RecordBatch;

use crate::{
    error::Result,
    lineage::checkpoint::{CheckpointAlarm, CheckpointState, ScheduleSource},
    result_table::ResultTable,
};

/// One examination of a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointRecord {
    /// When it was looked at.
    pub time_us: i64,
    /// Path of the folder.
    pub folder: String,
    /// Files that were seen; null where the folder could not be read.
    pub file_count: Option<u64>,
    /// The newest file; null where there is none.
    pub newest_path: Option<String>,
    /// Its time of change.
    pub newest_modified_us: Option<i64>,
    /// Its bytes.
    pub newest_size_bytes: Option<u64>,
    /// Its age, microseconds.
    pub age_us: Option<i64>,
    /// How often a checkpoint is due, microseconds; null where the folder could not be read.
    pub schedule_us: Option<i64>,
    /// `set`, `inferred` or `default`; null where the folder could not be read.
    pub schedule_source: Option<&'static str>,
    /// What is wrong, as sentences; empty for a folder in order.
    pub alarms: Vec<String>,
    /// The kinds of those; no column.
    pub kinds: BTreeSet<&'static str>,
}

impl CheckpointRecord {
    /// The result table.
    pub const TABLE: &str = "checkpoints";

    /// The row of one examination of `file_count` files.
    pub fn of_state(folder: &str, state: &CheckpointState, file_count: usize, time_us: i64) -> Self {
        Self {
            time_us,
            folder: folder.to_owned(),
            file_count: Some(file_count as u64),
            newest_path: state.newest.as_ref().map(|file| file.path.clone()),
            newest_modified_us: state.newest.as_ref().map(|file| file.modified_us),
            newest_size_bytes: state.newest.as_ref().map(|file| file.size_bytes),
            age_us: state.age_us,
            schedule_us: Some(state.schedule_us),
            schedule_source: Some(match state.schedule_source {
                ScheduleSource::Set => "set",
                ScheduleSource::Inferred => "inferred",
                ScheduleSource::Default => "default",
            }),
            alarms: state.alarms.iter().map(ToString::to_string).collect(),
            kinds: state.alarms.iter().map(CheckpointAlarm::kind).collect(),
        }
    }

    /// The row of a folder that could not be looked at, and why.
    pub fn unreadable(folder: &str, reason: String, time_us: i64) -> Self {
        Self {
            time_us,
            folder: folder.to_owned(),
            file_count: None,
            newest_path: None,
            newest_modified_us: None,
            newest_size_bytes: None,
            age_us: None,
            schedule_us: None,
            schedule_source: None,
            alarms: vec![reason],
            kinds: ["unreadable"].into(),
        }
    }

    /// The rows of the table.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if alarms cannot be written.
    pub fn to_batch(records: &[Self]) -> Result<RecordBatch> {
        let rows = || records.iter();
        let count = |of: Option<u64>| of.and_then(|count| i64::try_from(count).ok());
        let alarms = rows().map(|row| Ok(Some(serde_json::to_string(&row.alarms)?))).collect::<Result<Vec<_>>>()?;
        let mut table = ResultTable::at(rows().map(|row| row.time_us).collect());
        table
            .texts("folder", rows().map(|row| Some(row.folder.clone())))
            .integers("file_count", rows().map(|row| count(row.file_count)))
            .texts("newest_path", rows().map(|row| row.newest_path.clone()))
            .moments("newest_modified", rows().map(|row| row.newest_modified_us))
            .integers("newest_size_bytes", rows().map(|row| count(row.newest_size_bytes)))
            .integers("age_us", rows().map(|row| row.age_us))
            .integers("schedule_us", rows().map(|row| row.schedule_us))
            .texts("schedule_source", rows().map(|row| row.schedule_source.map(str::to_owned)))
            .integers("alarm_count", rows().map(|row| i64::try_from(row.alarms.len()).ok()))
            .texts("alarms", alarms);
        table.finish()
    }
}
