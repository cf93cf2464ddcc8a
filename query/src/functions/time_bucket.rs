//! `time_bucket(width, time [, time zone or origin or offset …])`: the start of the bucket that a time is in.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, PrimitiveArray, timezone::Tz},
    compute::cast,
    datatypes::{DataType, IntervalUnit, TimestampMicrosecondType},
};
use datafusion::{
    common::{ScalarValue, exec_datafusion_err, exec_err, plan_err},
    error::Result,
    logical_expr::{
        ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
        sort_properties::{ExprProperties, SortProperties},
    },
};

use super::about::about;
use super::{
    bucket::Buckets,
    instant::{coerced_time, instant, instant_type, instants},
    width::Width,
};

/// Gives the type of `time` back. Width, zone, origin and offset are constants of the statement.
///
/// Source: TimescaleDB `time_bucket`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeBucket {
    name: &'static str,
    signature: Signature,
}

impl TimeBucket {
    pub(crate) fn new() -> Self {
        Self { name: "time_bucket", signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerced(self.name, types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let time = &args.args[1];
        let null = || ScalarValue::try_from(&time.data_type()).map(ColumnarValue::Scalar);
        let constants = args.args.iter().enumerate().filter(|(index, _)| *index != 1).map(|(_, value)| match value {
            ColumnarValue::Scalar(value) => Ok(value.clone()),
            ColumnarValue::Array(_) => exec_err!("width, zone, origin and offset of {} must be constants", self.name),
        });
        let Some(buckets) = buckets(&constants.collect::<Result<Vec<_>>>()?)? else { return null() };
        match time {
            ColumnarValue::Array(times) => Ok(ColumnarValue::Array(starts(&buckets, times)?)),
            ColumnarValue::Scalar(value) => {
                let starts = starts(&buckets, &value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&starts, 0)?))
            }
        }
    }

    /// Later times are in the same or later buckets. On a clock that is set back that need not hold.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let is_monotone = inputs.len() == 2 && inputs[0].sort_properties == SortProperties::Singleton;
        Ok(if is_monotone { inputs[1].sort_properties } else { SortProperties::Unordered })
    }
}

/// The argument types of `name`, which takes what `time_bucket` takes.
pub(crate) fn coerced(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if !(2..=5).contains(&types.len()) {
        return plan_err!("{name} takes a width, a time, and at most a time zone, an origin and an offset");
    }
    let coerced = types.iter().enumerate().map(|(index, data_type)| match (index, data_type) {
        (1, DataType::Timestamp(..)) => Ok(data_type.clone()),
        (1, other) => coerced_time(name, other),
        (0 | 2.., DataType::Interval(_) | DataType::Duration(_)) => Ok(DataType::Interval(IntervalUnit::MonthDayNano)),
        (0 | 2.., DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null) => Ok(DataType::Utf8),
        (2.., DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) => Ok(instant_type()),
        (0, other) => plan_err!("{name} takes an interval or a text as its width, not {other}"),
        (_, other) => plan_err!("{name} takes a time zone, an origin or an offset, not {other}"),
    });
    coerced.collect()
}

/// The buckets that `constants` describe, the width first; `None` if a constant is null.
pub(crate) fn buckets(constants: &[ScalarValue]) -> Result<Option<Buckets>> {
    let (mut zone, mut origin, mut offset) = (None, None, None);
    if constants.iter().any(ScalarValue::is_null) {
        return Ok(None);
    }
    for constant in constants.iter().skip(1) {
        match constant {
            ScalarValue::IntervalMonthDayNano(_) => offset = Width::signed(constant)?,
            ScalarValue::Utf8(Some(text)) => match text.parse::<Tz>() {
                Ok(found) => zone = Some(found),
                Err(_) => {
                    let unknown = || exec_datafusion_err!("{text:?} is neither a time zone nor a time");
                    origin = Some(instant(constant).ok_or_else(unknown)?);
                }
            },
            constant => origin = instant(constant),
        }
    }
    let Some(width) = constants.first().map(Width::of).transpose()?.flatten() else { return Ok(None) };
    Buckets::new(width, zone, origin, offset).map(Some)
}

fn starts(buckets: &Buckets, times: &ArrayRef) -> Result<ArrayRef> {
    let starts: PrimitiveArray<TimestampMicrosecondType> = instants(times)?.try_unary(|time| buckets.start(time))?;
    Ok(cast(&(Arc::new(starts.with_timezone("UTC")) as ArrayRef), times.data_type())?)
}
