//! Which series of a device speaks for it.
//!
//! Five columns decide it, for thousands of devices of one to a few series each: ordinary windows partitioned by device cost
//! ten microseconds a device, most of a question about one host.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Int64Array, StructArray, TimestampMicrosecondArray},
        compute::cast,
        datatypes::{DataType, Field, FieldRef, Fields, Int64Type, TimeUnit, TimestampMicrosecondType},
        row::{RowConverter, SortField},
    },
    error::Result,
    logical_expr::{
        PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl,
        function::{PartitionEvaluatorArgs, WindowUDFFieldArgs},
    },
};

/// Name of the window function.
pub(crate) const CLAIMS_FUNCTION: &str = "device_claims";

/// `device_claims(device, claim, precedence, first_time, last_time, series_id) OVER (PARTITION BY date, role)`: a struct.
///
/// Series of one device with the same `claim` (the slice, place and part that they are about) say the same. `copied_until` is
/// when the last of those that began earlier ended, `shared_by` how many they are. `better_from` and `better_until` are when the
/// series of the device of smaller `precedence` began and ended, whatever their claim.
pub(crate) fn claims_function() -> WindowUDF {
    let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    let fields = vec![
        time("copied_until"),
        Field::new("shared_by", DataType::Int64, false),
        time("better_from"),
        time("better_until"),
    ];
    WindowUDF::from(Claims { signature: Signature::any(6, Volatility::Immutable), fields: fields.into() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Claims {
    signature: Signature,
    fields: Fields,
}

impl WindowUDFImpl for Claims {
    fn name(&self) -> &str {
        CLAIMS_FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _arguments: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator { fields: self.fields.clone() }))
    }

    fn field(&self, arguments: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), DataType::Struct(self.fields.clone()), false)))
    }
}

#[derive(Debug)]
struct Evaluator {
    fields: Fields,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], _row_count: usize) -> Result<ArrayRef> {
        let time_type = self.fields[0].data_type();
        let times = |array: &ArrayRef| -> Result<TimestampMicrosecondArray> {
            Ok(cast(array, time_type)?.as_primitive::<TimestampMicrosecondType>().clone())
        };
        let integers = |array: &ArrayRef| -> Result<Int64Array> {
            Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        };
        let (first, last) = (times(&values[3])?, times(&values[4])?);
        let ends = first.values().iter().copied().zip(last.values().iter().copied()).collect::<Vec<_>>();
        let (copied_until, shared_by) = copies(&groups(&values[..2])?, &ends, &integers(&values[5])?);
        let better = better(&groups(&values[..1])?, &ends, &integers(&values[2])?);
        let (better_from, better_until): (Vec<_>, Vec<_>) = better.into_iter().map(Option::unzip).unzip();
        let times = |values| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef;
        let columns =
            vec![times(copied_until), Arc::new(Int64Array::from(shared_by)), times(better_from), times(better_until)];
        Ok(Arc::new(StructArray::try_new(self.fields.clone(), columns, None)?))
    }
}

/// Until when earlier series of the same claim reach, and how many there are.
fn copies(claims: &[usize], ends: &[(i64, i64)], ids: &Int64Array) -> (Vec<Option<i64>>, Vec<i64>) {
    let mut rows: Vec<usize> = (0..claims.len()).collect();
    rows.sort_unstable_by_key(|row| (claims[*row], ends[*row].0, ids.value(*row)));
    let (mut copied_until, mut shared_by) = (vec![None; rows.len()], vec![0; rows.len()]);
    for same in rows.chunk_by(|a, b| claims[*a] == claims[*b]) {
        let mut until = None;
        for row in same {
            (copied_until[*row], shared_by[*row]) = (until, same.len() as i64);
            until = until.max(Some(ends[*row].1));
        }
    }
    (copied_until, shared_by)
}

/// From when to when series of the same device and smaller precedence reach.
fn better(devices: &[usize], ends: &[(i64, i64)], precedence: &Int64Array) -> Vec<Option<(i64, i64)>> {
    let mut rows: Vec<usize> = (0..devices.len()).collect();
    rows.sort_unstable_by_key(|row| (devices[*row], precedence.value(*row)));
    let mut better = vec![None; rows.len()];
    for device in rows.chunk_by(|a, b| devices[*a] == devices[*b]) {
        let mut before: Option<(i64, i64)> = None;
        for level in device.chunk_by(|a, b| precedence.value(*a) == precedence.value(*b)) {
            let mut so_far = before;
            for row in level {
                better[*row] = before;
                let (from, until) = ends[*row];
                so_far = Some(so_far.map_or((from, until), |(start, end)| (start.min(from), end.max(until))));
            }
            before = so_far;
        }
    }
    better
}

/// A number for each row, the same for rows of equal `keys`.
fn groups(keys: &[ArrayRef]) -> Result<Vec<usize>> {
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(keys)?;
    let mut numbers = HashMap::new();
    Ok(rows
        .iter()
        .map(|row| {
            let next = numbers.len();
            *numbers.entry(row).or_insert(next)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;

    use super::*;

    fn evaluated(rows: &[(&str, &str, i64, i64, i64)]) -> StructArray {
        let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
        let integers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let time =
            |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef;
        let values = [
            text(rows.iter().map(|row| row.0).collect()),
            text(rows.iter().map(|row| row.1).collect()),
            integers(rows.iter().map(|row| row.2).collect()),
            time(rows.iter().map(|row| row.3).collect()),
            time(rows.iter().map(|row| row.4).collect()),
            integers((0..rows.len() as i64).collect()),
        ];
        let function = claims_function();
        let mut evaluator = function.partition_evaluator_factory(PartitionEvaluatorArgs::default()).unwrap();
        evaluator.evaluate_all(&values, rows.len()).unwrap().as_struct().clone()
    }

    fn times(claims: &StructArray, name: &str) -> Vec<Option<i64>> {
        claims.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().iter().collect()
    }

    #[test]
    fn the_first_series_of_a_claim_and_the_best_source_of_a_device_speak() {
        let claims = evaluated(&[
            // Three that say the same, in no order, the longest not the last; another device beside them.
            ("a", "x", 2, 30, 40),
            ("b", "x", 2, 5, 6),
            ("a", "x", 2, 10, 90),
            ("a", "x", 2, 20, 25),
            // Another part of the same device, from a better source, and one from a still better one.
            ("a", "y", 1, 50, 60),
            ("a", "z", 0, 70, 80),
        ]);
        assert_eq!(times(&claims, "copied_until"), [Some(90), None, None, Some(90), None, None]);
        let shared_by = claims.column_by_name("shared_by").unwrap().as_primitive::<Int64Type>();
        assert_eq!(shared_by.values(), &[3, 1, 3, 3, 1, 1]);
        assert_eq!(times(&claims, "better_from"), [Some(50), None, Some(50), Some(50), Some(70), None]);
        assert_eq!(times(&claims, "better_until"), [Some(80), None, Some(80), Some(80), Some(80), None]);
    }
}
