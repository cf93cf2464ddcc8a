//! Aggregates of histograms: their sum, and what cumulative ones counted over a time.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{ScalarValue, exec_err, plan_err, utils::SingleRowListArrayBuilder},
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
};

use super::{
    Histogram,
    column::{Columns, build, histogram_type},
    sums::{Sum, Sums, added, scalar},
};
use crate::functions::{
    about::about,
    counter::{Temporality, has_begun_anew},
    instant::{coerced_time, instants},
};

/// Which aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    /// The sum of delta histograms, or of what several series counted.
    Merge,
    /// What one series counted: of delta points their sum, of cumulative ones the last less the first, resets allowed for.
    Increase,
}

impl Function {
    pub(crate) const ALL: [Self; 2] = [Self::Merge, Self::Increase];
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct OfHistograms {
    function: Function,
    signature: Signature,
}

impl OfHistograms {
    pub(crate) fn new(function: Function) -> Self {
        Self { function, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for OfHistograms {
    fn name(&self) -> &str {
        match self.function {
            Function::Merge => "histogram_merge",
            Function::Increase => "histogram_increase",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_histogram = types.first().is_some_and(|of| *of == histogram_type() || of.is_null());
        match (self.function, types) {
            (Function::Merge, [_]) if is_histogram => Ok(vec![histogram_type()]),
            (Function::Increase, [_, time, rest @ ..]) if is_histogram && rest.len() < 3 => {
                let mut coerced = vec![histogram_type(), coerced_time(self.name(), time)?];
                if rest.first().is_some_and(|temporality| !temporality.is_string() && !temporality.is_null()) {
                    return plan_err!("{} takes a temporality as its third argument", self.name());
                }
                coerced.extend(rest.first().map(|_| DataType::Utf8));
                if let Some(start) = rest.get(1) {
                    coerced.push(coerced_time(self.name(), start)?);
                }
                Ok(coerced)
            }
            (Function::Merge, _) => plan_err!("histogram_merge takes one histogram, which is what histogram(…) gives"),
            (Function::Increase, _) => {
                plan_err!("histogram_increase takes histogram(…), time, and perhaps temporality and start_time")
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(histogram_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |part, data_type| {
            let item = Arc::new(Field::new_list_field(data_type, true));
            Arc::new(Field::new(format_state_name(args.name, part), DataType::List(item), true))
        };
        Ok(match self.function {
            Function::Merge => vec![Arc::new(Field::new(format_state_name(args.name, "sum"), histogram_type(), true))],
            Function::Increase => vec![
                list("histograms", histogram_type()),
                list("times", DataType::Int64),
                list("starts", DataType::Int64),
                list("delta", DataType::Boolean),
            ],
        })
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(match self.function {
            Function::Merge => Box::new(Sum::default()),
            Function::Increase => Box::new(Increase::default()),
        })
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        self.function == Function::Merge
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Sums::default()))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug, Clone)]
struct Point {
    time: i64,
    start: Option<i64>,
    histogram: Histogram,
}

impl Point {
    /// Source: Prometheus `isStartTimestampReset`, then `DetectReset`.
    fn is_reset_since(&self, before: &Self) -> Result<bool> {
        if has_begun_anew((before.time, before.start), (self.time, self.start)) {
            return Ok(true);
        }
        self.histogram.is_reset_since(&before.histogram)
    }
}

/// Keeps cumulative points until the answer, since others may lie between them.
#[derive(Debug, Default)]
struct Increase {
    points: Vec<Point>,
    bytes: usize,
    delta: Option<bool>,
}

impl Increase {
    fn push(&mut self, point: Point) {
        self.bytes += size_of::<Point>() + point.histogram.size();
        self.points.push(point);
    }

    fn say(&mut self, delta: Option<bool>) -> Result<()> {
        match (self.delta, delta) {
            (Some(known), Some(delta)) if known != delta => {
                exec_err!("temporality must be the same for all points of a group")
            }
            (known, delta) => {
                self.delta = known.or(delta);
                Ok(())
            }
        }
    }

    fn increase(&mut self) -> Result<Option<Histogram>> {
        self.points.sort_by_key(|point| (point.time, point.start));
        self.points.dedup_by(|one, other| one.time == other.time && one.histogram == other.histogram);
        if self.points.windows(2).any(|pair| pair[0].time == pair[1].time) {
            return exec_err!(
                "two histograms at one time: points of several series are in one group; group by series_id first, \
                 then histogram_merge what they counted"
            );
        }
        if self.delta == Some(true) {
            let mut sum = None;
            for point in &self.points {
                added(&mut sum, &point.histogram)?;
            }
            return Ok(sum);
        }
        let [first, .., last] = self.points.as_slice() else { return Ok(None) };
        let mut increase = last.histogram.clone();
        for pair in self.points.windows(2) {
            if pair[1].is_reset_since(&pair[0])? {
                increase.add(&pair[0].histogram, 1.0)?;
            }
        }
        increase.add(&first.histogram, -1.0)?;
        // Smallest and largest are those since the start, not of this time.
        (increase.min, increase.max) = (None, None);
        Ok(Some(increase))
    }
}

impl Accumulator for Increase {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (histograms, times) = (Columns::of_struct(values[0].as_struct()), instants(&values[1])?);
        let starts = values.get(3).map(instants).transpose()?;
        for row in (0..histograms.len()).filter(|row| times.is_valid(*row)) {
            let Some(histogram) = histograms.histogram(row)? else { continue };
            if let Some(said) = values.get(2).filter(|said| said.is_valid(row)) {
                let temporality = Temporality::parse(said.as_string::<i32>().value(row))?;
                self.say(Some(temporality == Temporality::Delta))?;
            }
            let start = starts.as_ref().filter(|starts| starts.is_valid(row)).map(|starts| starts.value(row));
            self.push(Point { time: times.value(row), start, histogram });
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut increase = self.increase()?;
        increase.iter_mut().for_each(Histogram::settle);
        Ok(scalar(increase))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |array: ArrayRef| SingleRowListArrayBuilder::new(array).build_list_scalar();
        let histograms: Vec<_> = self.points.iter().map(|point| Some(point.histogram.clone())).collect();
        let times = Int64Array::from_iter_values(self.points.iter().map(|point| point.time));
        let starts: Int64Array = self.points.iter().map(|point| point.start).collect();
        let delta = arrow::array::BooleanArray::from(vec![self.delta]);
        Ok(vec![
            list(Arc::new(build(&histograms))),
            list(Arc::new(times)),
            list(Arc::new(starts)),
            list(Arc::new(delta)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [histograms, times, starts, delta] = [0, 1, 2, 3].map(|index| states[index].as_list::<i32>());
        for state in (0..times.len()).filter(|state| times.is_valid(*state)) {
            let said = delta.value(state);
            self.say(said.as_boolean().iter().next().flatten())?;
            let (histograms, times, starts) = (histograms.value(state), times.value(state), starts.value(state));
            let (times, starts) = (times.as_primitive::<Int64Type>(), starts.as_primitive::<Int64Type>());
            let histograms = Columns::of_struct(histograms.as_struct());
            for row in 0..times.len() {
                let Some(histogram) = histograms.histogram(row)? else { continue };
                let start = starts.is_valid(row).then(|| starts.value(row));
                self.push(Point { time: times.value(row), start, histogram });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
