//! The series of one day: each once, with ids that follow from its identity, and there for every point.

use std::{collections::HashSet, path::Path};

use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::fault::{Fault, FaultKind};

/// What the `series` files of one day say.
#[derive(Debug)]
pub(super) struct SeriesDay {
    ids: HashSet<i64>,
    /// Whether every row of the day was seen.
    pub(super) complete: bool,
    repeated: (u64, Option<u64>),
    misnamed: (u64, Option<u64>),
}

/// Number of rows concerned, and the first with the series it refers to.
pub(super) type MissingSeries = (u64, Option<(u64, i64)>);

impl Default for SeriesDay {
    fn default() -> Self {
        Self { ids: HashSet::new(), complete: true, repeated: (0, None), misnamed: (0, None) }
    }
}

fn count(tally: &mut (u64, Option<u64>), row: u64) {
    tally.0 += 1;
    tally.1.get_or_insert(row);
}

impl SeriesDay {
    /// Takes rows of `series`, the first of which is row `first_row` of its file.
    pub(super) fn add_rows(&mut self, first_row: u64, batch: &RecordBatch) {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let ids = batch.column_by_name("series_id").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(ids), Some(fingerprints), Some(identities)) = (ids, text("fingerprint"), text("identity")) else {
            // Reported as a wrong schema.
            self.complete = false;
            return;
        };
        for row in 0..batch.num_rows() {
            let (id, at) = (ids.value(row), first_row + row as u64);
            if !self.ids.insert(id) {
                count(&mut self.repeated, at);
            }
            let identity = identities.value(row).as_bytes();
            let same = xxh3_64(identity).cast_signed() == id
                && format!("{:032x}", xxh3_128(identity)) == fingerprints.value(row);
            if !same {
                count(&mut self.misnamed, at);
            }
        }
    }

    /// What was wrong with the rows of the file at `path`.
    pub(super) fn take_faults(&mut self, path: &Path) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let (rows, Some(row)) = std::mem::take(&mut self.repeated) {
            let message = format!("{rows} rows repeat a series of the day");
            faults.push(Fault::new(FaultKind::SeriesRepeated, path, message).at_row(row));
        }
        if let (rows, Some(row)) = std::mem::take(&mut self.misnamed) {
            let message = format!("series_id or fingerprint of {rows} rows is not the hash of the identity");
            faults.push(Fault::new(FaultKind::SeriesIdentity, path, message).at_row(row));
        }
        faults
    }

    /// Counts the points of series that neither the day nor the unflushed log knows.
    pub(super) fn look_up(
        &self,
        first_row: u64,
        batch: &RecordBatch,
        unflushed: &HashSet<i64>,
        missing: &mut MissingSeries,
    ) {
        let ids = batch.column_by_name("series_id").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let Some(ids) = ids else { return };
        let mut last = None;
        let mut known = true;
        for (row, id) in ids.values().iter().enumerate() {
            // Rows of one series follow each other.
            if last != Some(*id) {
                known = self.ids.contains(id) || unflushed.contains(id);
                last = Some(*id);
            }
            if !known {
                missing.0 += 1;
                missing.1.get_or_insert((first_row + row as u64, *id));
            }
        }
    }
}
