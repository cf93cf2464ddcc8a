//! The logical node.

use std::{cmp::Ordering, fmt, sync::Arc};

use datafusion::{
    common::{DFSchema, DFSchemaRef},
    error::Result,
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore},
};

use super::Nearest;

/// Every row of the left once, with the columns of one row of the right or nulls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AsofJoin {
    left: LogicalPlan,
    right: LogicalPlan,
    /// What must be equal, then the time.
    pub(crate) left_keys: Vec<Expr>,
    pub(crate) right_keys: Vec<Expr>,
    pub(crate) nearest: Nearest,
    schema: DFSchemaRef,
}

impl AsofJoin {
    pub(crate) fn new(
        left: LogicalPlan,
        right: LogicalPlan,
        left_keys: Vec<Expr>,
        right_keys: Vec<Expr>,
        nearest: Nearest,
    ) -> Result<Self> {
        let of_left = left.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let of_right = right.schema().iter().map(|(qualifier, field)| {
            let field = field.as_ref().clone().with_nullable(true);
            (qualifier.cloned(), Arc::new(field))
        });
        let metadata = left.schema().metadata().clone();
        let schema = Arc::new(DFSchema::new_with_metadata(of_left.chain(of_right).collect(), metadata)?);
        Ok(Self { left, right, left_keys, right_keys, nearest, schema })
    }

    pub(crate) fn schemas(&self) -> [&DFSchemaRef; 2] {
        [self.left.schema(), self.right.schema()]
    }
}

impl PartialOrd for AsofJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.left_keys, &self.right_keys, self.nearest).partial_cmp(&(
            &other.left_keys,
            &other.right_keys,
            other.nearest,
        ))
    }
}

impl UserDefinedLogicalNodeCore for AsofJoin {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.left_keys.iter().chain(&self.right_keys).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsofJoin: {:?}", self.nearest)?;
        for (left, right) in self.left_keys.iter().zip(&self.right_keys) {
            write!(f, ", {left} ~ {right}")?;
        }
        Ok(())
    }

    /// Columns of the keys come in anyway.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let of_left = self.left.schema().fields().len();
        let (left, right): (Vec<_>, Vec<_>) = output_columns.iter().partition(|column| **column < of_left);
        Some(vec![left, right.into_iter().map(|column: usize| column - of_left).collect()])
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let right_keys = exprs.split_off(self.left_keys.len());
        let mut inputs = inputs.into_iter();
        match (inputs.next(), inputs.next()) {
            (Some(left), Some(right)) => Self::new(left, right, exprs, right_keys, self.nearest),
            _ => datafusion::common::internal_err!("an ASOF JOIN has two inputs"),
        }
    }
}
