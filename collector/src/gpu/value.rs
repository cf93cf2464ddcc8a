//! One answer of NVML: a value, or a counted failure and no value.

use nvml_wrapper::error::NvmlError;

use crate::reading::Sample;

/// Names of failed readings that are no metrics of the catalogue.
pub(super) const READINGS: [&str; 5] = ["device", "device.count", "hw.id", "hw.model", "mig.device"];

/// Every word for why a reading failed.
pub(super) const ERROR_TYPES: [&str; 12] = [
    "not_supported",
    "no_permission",
    "gpu_lost",
    "reset_required",
    "timeout",
    "no_data",
    "not_in_driver",
    "driver_not_loaded",
    "blank",
    "limit",
    "profiler_lost",
    "other",
];

/// From here up a 32-bit value stands for a missing one: NVML's "not available" (all bits) and DCGM's blanks.
const BLANK_MIN: u32 = 0x7fff_fff0;

/// The same for 64 bits.
const BLANK_LONG_MIN: u64 = 0x7fff_ffff_ffff_fff0;

/// The value, or `None` and a counted failure.
pub(super) fn ok<T>(sample: &mut Sample, reading: &'static str, result: Result<T, NvmlError>) -> Option<T> {
    result.map_err(|error| sample.fail(reading, error_type(&error))).ok()
}

/// The value, or `None` and a counted failure where it is a sentinel.
pub(super) fn known(sample: &mut Sample, reading: &'static str, result: Result<u32, NvmlError>) -> Option<f64> {
    let value = ok(sample, reading, result)?;
    if value >= BLANK_MIN {
        sample.fail(reading, "blank");
        return None;
    }
    Some(f64::from(value))
}

/// The same for 64 bits.
pub(super) fn known_long(sample: &mut Sample, reading: &'static str, value: u64) -> Option<f64> {
    if is_blank(value) {
        sample.fail(reading, "blank");
        return None;
    }
    Some(value as f64)
}

pub(super) fn is_blank(value: u64) -> bool {
    value >= BLANK_LONG_MIN
}

/// The share that a percentage is; above 100 it is none.
pub(super) fn share(sample: &mut Sample, reading: &'static str, percent: u32) -> Option<f64> {
    if percent > 100 {
        sample.fail(reading, "blank");
        return None;
    }
    Some(f64::from(percent) / 100.0)
}

/// A short word of [`ERROR_TYPES`] for an attribute; the text of the error goes to the log.
pub(super) fn error_type(error: &NvmlError) -> &'static str {
    let word = match error {
        // Expected on many devices (energy before Volta, utilisation under MIG), so not worth a line each time.
        NvmlError::NotSupported => return "not_supported",
        NvmlError::NoPermission => "no_permission",
        NvmlError::GpuLost => "gpu_lost",
        NvmlError::ResetRequired => "reset_required",
        NvmlError::Timeout => "timeout",
        NvmlError::NoData | NvmlError::NotFound => "no_data",
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "not_in_driver",
        NvmlError::DriverNotLoaded | NvmlError::LibraryNotFound | NvmlError::Uninitialized => "driver_not_loaded",
        _ => "other",
    };
    tracing::debug!(%error, word, "GPU reading failed");
    word
}
