//! Points of one series in the order of time, whatever the order they came in.

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
};
use datafusion::{
    common::{ScalarValue, exec_err, utils::SingleRowListArrayBuilder},
    error::Result,
};

use super::instant::instants;

/// The bits that stand for a staleness marker, as in Prometheus: a NaN that no arithmetic gives.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
pub(crate) const STALE: f64 = f64::from_bits(STALE_BITS);
const NO_START: i64 = i64::MIN;

/// A value at a time in UTC microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) time: i64,
    pub(crate) value: f64,
    start: i64,
}

impl Point {
    pub(crate) fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE_BITS
    }

    /// When counting began, where the source says so.
    pub(crate) fn start(&self) -> Option<i64> {
        (self.start != NO_START && self.start < self.time).then_some(self.start)
    }

    fn key(&self) -> (i64, bool, i64, u64) {
        (self.time, self.is_stale(), self.start, self.value.to_bits())
    }
}

/// Every point is kept until the answer: points of several partitions may lie between each other. 24 bytes each, which
/// count against the memory of the query.
#[derive(Debug, Default, Clone)]
pub(crate) struct Points {
    points: Vec<Point>,
    /// What was taken away again at the front.
    gone: usize,
    is_unsorted: bool,
}

impl Points {
    fn push(&mut self, point: Point) {
        self.is_unsorted |= self.points.last().is_some_and(|last| last.key() > point.key());
        self.points.push(point);
    }

    /// Adds rows; those without a time are none.
    pub(crate) fn extend(&mut self, values: &ArrayRef, times: &ArrayRef, starts: Option<&ArrayRef>) -> Result<()> {
        let rows = Rows::of(values, times, starts)?;
        for row in 0..rows.times.len() {
            if let Some(point) = rows.point(row) {
                self.push(point);
            }
        }
        Ok(())
    }

    /// Takes rows away that were added, as a window moves on.
    pub(crate) fn retract(&mut self, values: &ArrayRef, times: &ArrayRef, starts: Option<&ArrayRef>) -> Result<()> {
        let rows = Rows::of(values, times, starts)?;
        for point in (0..rows.times.len()).filter_map(|row| rows.point(row)) {
            let Some(index) = self.points[self.gone..].iter().position(|known| known.key() == point.key()) else {
                return exec_err!("a point left a window that it had not entered");
            };
            if index == 0 {
                self.gone += 1;
            } else {
                self.points.remove(self.gone + index);
            }
        }
        if self.gone > self.points.len() / 2 {
            self.points.drain(..self.gone);
            self.gone = 0;
        }
        Ok(())
    }

    /// The points by time, each time once; a value goes before a marker.
    ///
    /// # Errors
    /// If two points of one time differ: they are of two series.
    pub(crate) fn in_order(&mut self) -> Result<Vec<Point>> {
        if self.is_unsorted {
            self.points[self.gone..].sort_unstable_by_key(Point::key);
            self.is_unsorted = false;
        }
        let mut points: Vec<Point> = Vec::with_capacity(self.points.len() - self.gone);
        for point in &self.points[self.gone..] {
            match points.last() {
                Some(last) if last.time == point.time && point.is_stale() => {}
                Some(last) if last.time == point.time && last.value.to_bits() == point.value.to_bits() => {}
                Some(last) if last.time == point.time => {
                    return exec_err!(
                        "two values at one time ({} and {}): points of several series are in one group; \
                         group or partition by series_id first",
                        last.value,
                        point.value
                    );
                }
                _ => points.push(*point),
            }
        }
        Ok(points)
    }

    pub(crate) fn size(&self) -> usize {
        self.points.capacity() * size_of::<Point>()
    }

    /// Times, values and starts, each one list.
    pub(crate) fn state(&self) -> [ScalarValue; 3] {
        let points = &self.points[self.gone..];
        let list = |array: ArrayRef| SingleRowListArrayBuilder::new(array).build_list_scalar();
        let times = Int64Array::from_iter_values(points.iter().map(|point| point.time));
        let values = PrimitiveArray::<Float64Type>::from_iter_values(points.iter().map(|point| point.value));
        let starts = match points.iter().all(|point| point.start == NO_START) {
            true => Int64Array::from(Vec::<i64>::new()),
            false => Int64Array::from_iter_values(points.iter().map(|point| point.start)),
        };
        [list(std::sync::Arc::new(times)), list(std::sync::Arc::new(values)), list(std::sync::Arc::new(starts))]
    }

    /// Adds what [`Self::state`] gave, one row for each state.
    pub(crate) fn merge(&mut self, times: &ArrayRef, values: &ArrayRef, starts: &ArrayRef) -> Result<()> {
        let (times, values, starts) = (times.as_list::<i32>(), values.as_list::<i32>(), starts.as_list::<i32>());
        for state in (0..times.len()).filter(|state| !times.is_null(*state)) {
            let (times, values, starts) = (times.value(state), values.value(state), starts.value(state));
            let times = times.as_primitive::<Int64Type>().values();
            let values = values.as_primitive::<Float64Type>().values();
            let starts = starts.as_primitive::<Int64Type>().values();
            self.points.reserve(times.len());
            for (index, (time, value)) in times.iter().zip(values).enumerate() {
                let start = starts.get(index).copied().unwrap_or(NO_START);
                self.push(Point { time: *time, value: *value, start });
            }
        }
        Ok(())
    }
}

struct Rows {
    values: PrimitiveArray<Float64Type>,
    times: PrimitiveArray<arrow::datatypes::TimestampMicrosecondType>,
    starts: Option<PrimitiveArray<arrow::datatypes::TimestampMicrosecondType>>,
}

impl Rows {
    fn of(values: &ArrayRef, times: &ArrayRef, starts: Option<&ArrayRef>) -> Result<Self> {
        let values = cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone();
        Ok(Self { values, times: instants(times)?, starts: starts.map(instants).transpose()? })
    }

    fn point(&self, row: usize) -> Option<Point> {
        let start = self.starts.as_ref().filter(|starts| starts.is_valid(row)).map_or(NO_START, |s| s.value(row));
        let value = if self.values.is_null(row) { STALE } else { self.values.value(row) };
        self.times.is_valid(row).then(|| Point { time: self.times.value(row), value, start })
    }
}

#[cfg(test)]
pub(crate) fn point(time: i64, value: Option<f64>, start: Option<i64>) -> Point {
    Point { time, value: value.unwrap_or(STALE), start: start.unwrap_or(NO_START) }
}
