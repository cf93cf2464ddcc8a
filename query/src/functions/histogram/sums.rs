//! Sums of histograms: of one group, and of many groups at once.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray},
    compute::{not, nullif, prep_null_mask_filter},
};
use datafusion::{
    common::ScalarValue,
    error::Result,
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
};

use super::{
    Histogram,
    column::{Columns, build},
};

pub(super) fn scalar(histogram: Option<Histogram>) -> ScalarValue {
    ScalarValue::Struct(Arc::new(build(&[histogram])))
}

pub(super) fn added(sum: &mut Option<Histogram>, more: &Histogram) -> Result<()> {
    match sum {
        Some(sum) => sum.add(more, 1.0),
        None => {
            *sum = Some(more.clone());
            Ok(())
        }
    }
}

fn size(sum: &Option<Histogram>) -> usize {
    sum.as_ref().map_or(0, Histogram::size)
}

/// The sum of one group.
#[derive(Debug, Default)]
pub(super) struct Sum(Option<Histogram>);

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let histograms = Columns::of_struct(values[0].as_struct());
        (0..histograms.len()).try_for_each(|row| histograms.add_to(&mut self.0, row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = self.0.clone();
        sum.iter_mut().for_each(Histogram::settle);
        Ok(scalar(sum))
    }

    fn size(&self) -> usize {
        size_of_val(self) + size(&self.0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![scalar(self.0.clone())])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// One sum for each group. The rows of a batch are added where they are, not dealt out to their groups before.
#[derive(Debug, Default)]
pub(super) struct Sums {
    sums: Vec<Option<Histogram>>,
    /// What the sums take beside their places.
    bytes: usize,
}

impl Sums {
    fn emitted(&mut self, emit_to: EmitTo) -> Vec<Option<Histogram>> {
        let sums = emit_to.take_needed(&mut self.sums);
        self.bytes -= sums.iter().map(size).sum::<usize>();
        sums
    }
}

impl GroupsAccumulator for Sums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.sums.resize(group_count, None);
        let histograms = Columns::of_struct(values[0].as_struct());
        for (row, group) in group_indices.iter().enumerate() {
            if filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                continue;
            }
            let sum = &mut self.sums[*group];
            let before = size(sum);
            histograms.add_to(sum, row)?;
            self.bytes = self.bytes + size(sum) - before;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut sums = self.emitted(emit_to);
        sums.iter_mut().flatten().for_each(Histogram::settle);
        Ok(Arc::new(build(&sums)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(build(&self.emitted(emit_to)))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], group_count: usize) -> Result<()> {
        self.update_batch(states, group_indices, None, group_count)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(filter) = filter else { return Ok(vec![Arc::clone(&values[0])]) };
        Ok(vec![nullif(&values[0], &not(&prep_null_mask_filter(filter))?)?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.capacity() * size_of::<Option<Histogram>>() + self.bytes
    }
}
