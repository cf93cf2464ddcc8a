//! The logical node: one row for each run of input rows with equal keys.

use std::{cmp::Ordering, fmt, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, Field, TimeUnit},
    common::{DFSchema, DFSchemaRef},
    error::Result,
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore},
};

use crate::functions::histogram::histogram_type;

/// What is kept of the rows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Kept {
    Rows,
    Count,
    Sum,
    Min,
    Max,
    /// The sum of histograms without their bounds.
    Histogram,
}

/// One output column: what is kept of which input column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Partial {
    pub(crate) kept: Kept,
    /// Input column; of no meaning for [`Kept::Rows`].
    pub(crate) column: usize,
}

impl Partial {
    /// Whether [`Kept::Min`] and [`Kept::Max`] of `data_type` can be computed here.
    pub(crate) fn orders(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Float64 | DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _))
    }

    fn field(self, index: usize, input: &DFSchema) -> Field {
        let name = partial_name(index);
        match self.kept {
            Kept::Rows | Kept::Count => Field::new(name, DataType::Int64, false),
            Kept::Sum => Field::new(name, DataType::Float64, true),
            Kept::Histogram => Field::new(name, histogram_type(), true),
            Kept::Min | Kept::Max => Field::new(name, input.field(self.column).data_type().clone(), true),
        }
    }
}

/// Name of output column `index` after the keys.
pub(crate) fn partial_name(index: usize) -> String {
    format!("__partial_{index}")
}

/// One row for each run of input rows with equal keys: the keys, then the partials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SeriesRuns {
    input: LogicalPlan,
    /// The first columns of the input.
    pub(crate) key_count: usize,
    pub(crate) partials: Vec<Partial>,
    schema: DFSchemaRef,
}

impl SeriesRuns {
    pub(crate) fn new(input: LogicalPlan, key_count: usize, partials: Vec<Partial>) -> Result<Self> {
        let known = input.schema();
        let keys = (0..key_count).map(|index| {
            let (qualifier, field) = known.qualified_field(index);
            (qualifier.cloned(), Arc::clone(field))
        });
        let kept = partials.iter().enumerate().map(|(index, partial)| (None, Arc::new(partial.field(index, known))));
        let schema = DFSchema::new_with_metadata(keys.chain(kept).collect(), known.metadata().clone())?;
        Ok(Self { schema: Arc::new(schema), input, key_count, partials })
    }
}

impl PartialOrd for SeriesRuns {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.key_count, &self.partials).partial_cmp(&(other.key_count, &other.partials))
    }
}

impl UserDefinedLogicalNodeCore for SeriesRuns {
    fn name(&self) -> &'static str {
        "SeriesRuns"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesRuns: keys={}, {:?}", self.key_count, self.partials)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::new(inputs.swap_remove(0), self.key_count, self.partials.clone())
    }
}
