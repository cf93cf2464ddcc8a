//! What every kind of point has: times, flags, and the checks of them.

use super::{Fault, Walk};
use crate::{
    config::Limits,
    reason::Reason,
    wire::{Field, Malformed},
};

const NO_RECORDED_VALUE: u64 = 1;

/// Times and flags as received.
#[derive(Debug, Default)]
pub(super) struct PointHeader {
    start_time_unix_nano: u64,
    time_unix_nano: u64,
    flags: u64,
}

impl PointHeader {
    pub(super) fn read_start_time(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        self.start_time_unix_nano = field.fixed64()?;
        Ok(())
    }

    pub(super) fn read_time(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        self.time_unix_nano = field.fixed64()?;
        Ok(())
    }

    pub(super) fn read_flags(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        self.flags = field.varint()?;
        Ok(())
    }

    /// False for a staleness marker.
    pub(super) fn is_recorded(&self) -> bool {
        self.flags & NO_RECORDED_VALUE == 0
    }
}

impl Walk<'_, '_> {
    /// Start (0 when not given) and time in microseconds.
    pub(super) fn times(&self, header: &PointHeader) -> Result<(i64, i64), Fault> {
        if header.time_unix_nano == 0 {
            return Err(Reason::TIMESTAMP_MISSING.into());
        }
        let time = micros(header.time_unix_nano);
        check_time(time, self.now, &self.decoder.limits)?;
        if header.start_time_unix_nano > header.time_unix_nano {
            return Err(Reason::START_AFTER_TIME.into());
        }
        Ok((micros(header.start_time_unix_nano), time))
    }
}

/// Refuses a time, in microseconds, that is too far from `now`.
pub(super) fn check_time(time: i64, now: i64, limits: &Limits) -> Result<(), Reason> {
    if time > now.saturating_add(limits.future_skew_us) {
        return Err(Reason::TIMESTAMP_TOO_NEW);
    }
    if time < now.saturating_sub(limits.retention_us) {
        return Err(Reason::TIMESTAMP_TOO_OLD);
    }
    Ok(())
}

// A thousandth of the range fits an i64.
fn micros(nanos: u64) -> i64 {
    (nanos / 1000).cast_signed()
}

/// Refuses NaN and infinities.
pub(super) fn finite(value: Option<f64>) -> Result<(), Fault> {
    match value {
        Some(value) if !value.is_finite() => Err(Reason::VALUE_NOT_FINITE.into()),
        _ => Ok(()),
    }
}

/// Refuses counts that the signed column cannot hold.
pub(super) fn storable(count: u64) -> Result<(), Fault> {
    if i64::try_from(count).is_err() { Err(Reason::COUNT_TOO_LARGE.into()) } else { Ok(()) }
}

/// Sum that cannot overflow.
pub(super) fn total(counts: &[u64]) -> u128 {
    counts.iter().map(|count| u128::from(*count)).sum()
}
