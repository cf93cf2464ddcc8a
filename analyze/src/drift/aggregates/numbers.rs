//! Distances of two samples.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array as _, ArrayRef, AsArray, Float64Array},
        datatypes::Float64Type,
    },
    common::{ScalarValue, utils::SingleRowListArrayBuilder},
    error::Result,
    logical_expr::Accumulator,
};

use super::Distance;
use crate::drift::{
    comparison::{ColumnOptions, Comparison},
    sort::sort_values,
};

/// Finite values of the reference and of the window under test.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) distance: Distance,
    pub(super) sides: [Vec<f64>; 2],
}

impl Accumulator for Numbers {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (side, column) in self.sides.iter_mut().zip(values) {
            side.extend(column.as_primitive::<Float64Type>().iter().flatten().filter(|value| value.is_finite()));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut keys = vec![];
        self.sides.iter_mut().for_each(|side| sort_values(side, &mut keys));
        let compared = Comparison::of_samples(&self.sides[0], &self.sides[1], ColumnOptions::default());
        // A side without values has no distance to anything.
        Ok(ScalarValue::Float64(compared.ok().and_then(|comparison| self.distance.of(&comparison))))
    }

    fn size(&self) -> usize {
        // Sorting takes as much again for a while.
        size_of_val(self) + self.sides.iter().map(|side| 2 * side.capacity() * size_of::<f64>()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |side: &mut Vec<f64>| {
            let values = Arc::new(Float64Array::from(std::mem::take(side)));
            SingleRowListArrayBuilder::new(values).build_list_scalar()
        };
        Ok(self.sides.iter_mut().map(list).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (side, lists) in self.sides.iter_mut().zip(states) {
            let lists = lists.as_list::<i32>();
            for state in (0..lists.len()).filter(|state| lists.is_valid(*state)) {
                side.extend(lists.value(state).as_primitive::<Float64Type>().values());
            }
        }
        Ok(())
    }
}
