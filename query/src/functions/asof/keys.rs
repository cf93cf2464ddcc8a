//! What must be equal and the time of the rows of a batch: runs of rows with equal keys.
//!
//! Rows come in runs, as they are stored by series. So keys are encoded and looked up once for each run, not for each row.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, PrimitiveArray, RecordBatch, UInt32Array},
    compute::{partition, take},
    datatypes::{SchemaRef, TimestampMicrosecondType},
    row::{RowConverter, Rows, SortField},
};
use datafusion::{common::internal_err, error::Result, physical_expr::PhysicalExpr};

use crate::functions::instant::instants;

/// What must be equal, then the time.
pub(super) type Exprs = Vec<Arc<dyn PhysicalExpr>>;

/// Computes [`KeyRuns`].
pub(super) struct Keys {
    exprs: Exprs,
    converter: RowConverter,
}

/// The rows of one batch.
pub(super) struct KeyRuns {
    runs: Vec<Range<usize>>,
    /// One for each run; `None` where there is nothing that must be equal.
    keys: Option<Rows>,
    /// Whether a part of the key is null, which equals nothing; one for each run.
    has_null: Vec<bool>,
    times: PrimitiveArray<TimestampMicrosecondType>,
}

impl Keys {
    pub(super) fn new(exprs: &Exprs, schema: &SchemaRef) -> Result<Self> {
        let fields = exprs[..exprs.len() - 1].iter().map(|key| Ok(SortField::new(key.data_type(schema)?)));
        let converter = RowConverter::new(fields.collect::<Result<_>>()?)?;
        Ok(Self { exprs: exprs.clone(), converter })
    }

    pub(super) fn runs(&self, batch: &RecordBatch) -> Result<KeyRuns> {
        let arrays = self.exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()));
        let mut arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let Some(times) = arrays.pop() else { return internal_err!("an ASOF JOIN has a time") };
        let times = instants(&times)?;
        if arrays.is_empty() {
            let runs = std::iter::once(0..batch.num_rows()).collect();
            return Ok(KeyRuns { runs, keys: None, has_null: vec![false], times });
        }
        let runs = partition(&arrays)?.ranges();
        let first: UInt32Array = runs.iter().map(|run| run.start as u32).collect();
        let keys = arrays.iter().map(|key| take(key, &first, None)).collect::<Result<Vec<_>, _>>()?;
        let nulls: Vec<_> = keys.iter().filter_map(|key| key.logical_nulls()).collect();
        let has_null = (0..runs.len()).map(|run| nulls.iter().any(|nulls| nulls.is_null(run))).collect();
        Ok(KeyRuns { runs, keys: Some(self.converter.convert_columns(&keys)?), has_null, times })
    }
}

impl KeyRuns {
    /// The rows of each run, and the number of the run.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.runs.iter().cloned().enumerate()
    }

    pub(super) fn run_of(&self, row: usize) -> usize {
        self.runs.partition_point(|run| run.end <= row)
    }

    /// The key of a run as bytes that are ordered as keys are, nulls first.
    pub(super) fn key(&self, run: usize) -> &[u8] {
        self.keys.as_ref().map_or(&[], |keys| keys.row(run).data())
    }

    pub(super) fn has_null(&self, run: usize) -> bool {
        self.has_null[run]
    }

    pub(super) fn time(&self, row: usize) -> Option<i64> {
        self.times.is_valid(row).then(|| self.times.value(row))
    }
}
