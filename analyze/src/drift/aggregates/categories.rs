//! Distances of two sets of categories.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array as _, ArrayRef, AsArray, Int64Array, StringArray},
        datatypes::Int64Type,
    },
    common::{ScalarValue, utils::SingleRowListArrayBuilder},
    error::Result,
    logical_expr::Accumulator,
};

use super::Distance;
use crate::drift::{
    category_counts::{CategoryCounts, OTHER},
    comparison::Comparison,
};

/// Counts by text of the reference and of the window under test.
#[derive(Debug)]
pub(super) struct Categories {
    pub(super) distance: Distance,
    pub(super) sides: [CategoryCounts; 2],
}

impl Accumulator for Categories {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (side, column) in self.sides.iter_mut().zip(values) {
            column.as_string::<i32>().iter().flatten().for_each(|text| side.add(text, 1));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let compared = Comparison::of_categories(&self.sides[0], &self.sides[1]);
        Ok(ScalarValue::Float64(compared.ok().and_then(|comparison| self.distance.of(&comparison))))
    }

    fn size(&self) -> usize {
        let names = |side: &CategoryCounts| side.named().map(|(name, _)| name.len() + 64).sum::<usize>();
        size_of_val(self) + self.sides.iter().map(names).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let lists = |side: &CategoryCounts| {
            let other = (side.other() > 0).then_some((OTHER, side.other()));
            let counts: Vec<(&str, u64)> = side.named().chain(other).collect();
            let names = StringArray::from_iter_values(counts.iter().map(|(name, _)| name));
            let counts =
                Int64Array::from_iter_values(counts.iter().map(|(_, count)| i64::try_from(*count).unwrap_or(i64::MAX)));
            let list = |values: ArrayRef| SingleRowListArrayBuilder::new(values).build_list_scalar();
            [list(Arc::new(names)), list(Arc::new(counts))]
        };
        Ok(self.sides.iter().flat_map(lists).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (side, lists) in self.sides.iter_mut().zip(states.chunks(2)) {
            let (names, counts) = (lists[0].as_list::<i32>(), lists[1].as_list::<i32>());
            for state in (0..names.len()).filter(|state| names.is_valid(*state)) {
                let (names, counts) = (names.value(state), counts.value(state));
                let counted = names.as_string::<i32>().iter().zip(counts.as_primitive::<Int64Type>().iter());
                for (name, count) in counted {
                    side.add(name.unwrap_or_default(), count.unwrap_or(0).max(0).unsigned_abs());
                }
            }
        }
        Ok(())
    }
}
