//! Times of any unit and zone as UTC microseconds.

use arrow::{
    array::{ArrayRef, AsArray, PrimitiveArray},
    compute::cast,
    datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
};
use datafusion::{
    common::{ScalarValue, plan_err},
    error::Result,
};

/// The type that times are computed in.
pub(crate) fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type that an argument which is a time is coerced to.
pub(crate) fn coerced_time(name: &str, data_type: &DataType) -> Result<DataType> {
    match data_type {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => Ok(instant_type()),
        text if text.is_string() => Ok(instant_type()),
        other => plan_err!("{name} takes a time, not {other}"),
    }
}

pub(crate) fn instants(times: &ArrayRef) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let times = cast(times, &instant_type())?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().clone())
}

/// The microseconds of a time; `None` for null and for what is no time.
pub(crate) fn instant(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&instant_type()) {
        Ok(ScalarValue::TimestampMicrosecond(micros, _)) => micros,
        _ => None,
    }
}
