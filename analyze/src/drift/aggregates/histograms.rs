//! Distances of two merged histograms, explicit or exponential.

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StructArray},
        compute::cast,
        datatypes::{DataType, Field, Float64Type, Int64Type},
    },
    common::{ScalarValue, exec_datafusion_err, exec_err},
    error::{DataFusionError, Result},
    logical_expr::Accumulator,
};

use super::Distance;
use crate::drift::{
    comparison::{ColumnOptions, CompareError, Comparison},
    feature_state::{ExplicitPoint, ExponentialPoint, FeatureState, StateError},
};

/// Parts of the value that `histogram()` gives; others are not looked at.
const PARTS: [&str; 6] = ["bounds", "bucket_counts", "scale", "zero_count", "positive_counts", "negative_counts"];

/// Whether values of this type are histograms.
pub(super) fn is_histogram(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => PARTS.iter().all(|name| fields.iter().any(|field| field.name() == name)),
        _ => false,
    }
}

/// Both sides, merged.
#[derive(Debug)]
pub(super) struct Histograms {
    pub(super) distance: Distance,
    pub(super) sides: [FeatureState; 2],
}

/// The columns of a batch of histograms.
struct Parts {
    numbers: Vec<ArrayRef>,
    integers: Vec<ArrayRef>,
    lists: Vec<ArrayRef>,
}

impl Parts {
    const NUMBERS: [&str; 4] = ["min", "max", "zero_count", "zero_threshold"];
    const INTEGERS: [&str; 3] = ["scale", "positive_offset", "negative_offset"];
    const LISTS: [&str; 4] = ["bounds", "bucket_counts", "positive_counts", "negative_counts"];

    fn of(histograms: &StructArray) -> Result<Self> {
        let columns = |names: &[&str], data_type: &DataType| {
            let column = |name: &&str| {
                let column = histograms.column_by_name(name);
                let column = column.ok_or_else(|| exec_datafusion_err!("a histogram without {name}"))?;
                Ok(cast(column, data_type)?)
            };
            names.iter().map(column).collect::<Result<Vec<_>>>()
        };
        let list = DataType::List(std::sync::Arc::new(Field::new_list_field(DataType::Float64, true)));
        Ok(Self {
            numbers: columns(&Self::NUMBERS, &DataType::Float64)?,
            integers: columns(&Self::INTEGERS, &DataType::Int64)?,
            lists: columns(&Self::LISTS, &list)?,
        })
    }

    fn number(&self, at: usize, row: usize) -> Option<f64> {
        let column = self.numbers[at].as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    }

    fn integer(&self, at: usize, row: usize) -> Option<i64> {
        let column = self.integers[at].as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    }

    fn list(&self, at: usize, row: usize) -> Option<Vec<f64>> {
        let column = self.lists[at].as_list::<i32>();
        column.is_valid(row).then(|| column.value(row).as_primitive::<Float64Type>().values().to_vec())
    }

    /// Adds the histogram of a row to `state`.
    fn add(&self, row: usize, state: &mut FeatureState) -> Result<()> {
        let (min, max) = (self.number(0, row), self.number(1, row));
        let counts = |list: usize| self.list(list, row).map(|counts| counts.into_iter().map(count).collect::<Vec<_>>());
        if let (Some(bounds), Some(counts)) = (self.list(0, row), counts(1))
            && !counts.is_empty()
        {
            let point = ExplicitPoint { bounds: &bounds, counts: &counts, sum: None, min, max };
            return state.add_explicit(&point).map_err(refused);
        }
        let Some(scale) = self.integer(0, row) else { return Ok(()) };
        let side = |list, offset| (counts(list).unwrap_or_default(), self.integer(offset, row).unwrap_or(0));
        let ((positive, positive_offset), (negative, negative_offset)) = (side(2, 1), side(3, 2));
        state
            .add_exponential(&ExponentialPoint {
                scale: small(scale)?,
                zero_count: count(self.number(2, row).unwrap_or(0.0)),
                zero_threshold: self.number(3, row).unwrap_or(0.0),
                positive: (small(positive_offset)?, &positive),
                negative: (small(negative_offset)?, &negative),
                sum: None,
                min,
                max,
            })
            .map_err(refused)
    }
}

fn refused(error: StateError) -> DataFusionError {
    exec_datafusion_err!("a histogram that cannot be compared: {error}")
}

fn small(value: i64) -> Result<i32> {
    i32::try_from(value).map_err(|_| exec_datafusion_err!("a histogram with the scale or offset {value}"))
}

fn count(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

impl Accumulator for Histograms {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (side, column) in self.sides.iter_mut().zip(values) {
            let Some(histograms) = column.as_struct_opt() else { return exec_err!("a histogram was expected") };
            let parts = Parts::of(histograms)?;
            for row in (0..histograms.len()).filter(|row| histograms.is_valid(*row)) {
                parts.add(row, side)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match Comparison::of_states(&self.sides[0], &self.sides[1], ColumnOptions::default()) {
            Ok(comparison) => Ok(ScalarValue::Float64(self.distance.of(&comparison))),
            Err(CompareError::Empty { .. }) => Ok(ScalarValue::Float64(None)),
            Err(error) => exec_err!("{error}"),
        }
    }

    fn size(&self) -> usize {
        // Buckets of a layout are few: the exponential ones are bounded, the explicit ones those of the bounds.
        let buckets = |state: &FeatureState| {
            let explicit: usize = state.histogram.explicit().values().map(Vec::len).sum();
            let exponential = state.histogram.exponential().map_or(0, |own| own.positive.len() + own.negative.len());
            explicit * 16 + exponential * 32
        };
        size_of_val(self) + self.sides.iter().map(buckets).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.sides.iter().map(|side| ScalarValue::Binary(Some(side.to_bytes()))).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (side, bytes) in self.sides.iter_mut().zip(states) {
            for bytes in bytes.as_binary::<i32>().iter().flatten() {
                let state = FeatureState::from_bytes(bytes).map_err(refused)?;
                if side.count().checked_add(state.count()).is_none() {
                    return Err(refused(StateError::CountOverflow));
                }
                side.merge(&state);
            }
        }
        Ok(())
    }
}
