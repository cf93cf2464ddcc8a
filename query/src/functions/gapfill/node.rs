//! The logical node: the rows of its input, and one for each bucket of a group that has none.

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::datatypes::Field;
use datafusion::{
    common::{DFSchema, DFSchemaRef, ScalarValue},
    error::Result,
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore},
};

use super::Function;

/// One edge of the range of time that is filled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Edge {
    pub(crate) time: Expr,
    /// Whether the time itself is in the range.
    pub(crate) included: bool,
}

/// Columns of the input in their order: groups first, aggregates, then what is filled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GapFill {
    pub(crate) input: LogicalPlan,
    /// How many columns are groups.
    pub(crate) group_count: usize,
    /// Which of them is the bucket.
    pub(crate) bucket: usize,
    /// Width, then zone, origin and offset.
    pub(crate) constants: Vec<ScalarValue>,
    /// Those of the range that are said; the tightest holds.
    pub(crate) start: Vec<Edge>,
    pub(crate) finish: Vec<Edge>,
    /// How the last columns are filled.
    pub(crate) fills: Vec<Function>,
    schema: DFSchemaRef,
}

impl GapFill {
    pub(crate) fn new(
        input: LogicalPlan,
        group_count: usize,
        bucket: usize,
        constants: Vec<ScalarValue>,
    ) -> Result<Self> {
        let schema = schema(&input, group_count)?;
        Ok(Self { input, group_count, bucket, constants, start: vec![], finish: vec![], fills: vec![], schema })
    }

    /// The same over `input`, whose last columns are to be filled by `fills`.
    pub(crate) fn over(&self, input: LogicalPlan, fills: Vec<Function>) -> Result<Self> {
        let schema = schema(&input, self.group_count)?;
        Ok(Self { input, schema, fills, ..self.clone() })
    }
}

/// In rows that are added, all but the groups may be null.
fn schema(input: &LogicalPlan, group_count: usize) -> Result<DFSchemaRef> {
    let known = input.schema();
    let fields = known.iter().enumerate().map(|(index, (qualifier, field))| {
        let nullable = field.is_nullable() || index >= group_count;
        let field: Field = field.as_ref().clone().with_nullable(nullable);
        (qualifier.cloned(), Arc::new(field))
    });
    Ok(Arc::new(DFSchema::new_with_metadata(fields.collect(), known.metadata().clone())?))
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.group_count, self.bucket).partial_cmp(&(other.group_count, other.bucket))
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &'static str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.start.iter().chain(&self.finish).map(|edge| edge.time.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFill: bucket={}, fills={:?}", self.schema.field(self.bucket).name(), self.fills)?;
        for (name, edges) in [("start", &self.start), ("finish", &self.finish)] {
            for edge in edges {
                write!(f, ", {name}={}{}", if edge.included { "=" } else { "" }, edge.time)?;
            }
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut node = self.over(inputs.swap_remove(0), self.fills.clone())?;
        let mut exprs = exprs.into_iter();
        for edge in node.start.iter_mut().chain(&mut node.finish) {
            if let Some(time) = exprs.next() {
                edge.time = time;
            }
        }
        Ok(node)
    }
}
