//! NVIDIA GPU values from the management library (NVML), loaded at run time.

use std::ffi::OsString;

use nvml_wrapper::{
    Device, Nvml,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{Clock, TemperatureSensor},
    error::NvmlError,
};
use opentelemetry::KeyValue;

use crate::reading::{Sample, Source};

const CLOCKS: [(&str, Clock); 4] =
    [("graphics", Clock::Graphics), ("sm", Clock::SM), ("memory", Clock::Memory), ("video", Clock::Video)];

const THROTTLE_REASONS: [(&str, ThrottleReasons); 9] = [
    ("gpu_idle", ThrottleReasons::GPU_IDLE),
    ("applications_clocks_setting", ThrottleReasons::APPLICATIONS_CLOCKS_SETTING),
    ("sw_power_cap", ThrottleReasons::SW_POWER_CAP),
    ("hw_slowdown", ThrottleReasons::HW_SLOWDOWN),
    ("sync_boost", ThrottleReasons::SYNC_BOOST),
    ("sw_thermal_slowdown", ThrottleReasons::SW_THERMAL_SLOWDOWN),
    ("hw_thermal_slowdown", ThrottleReasons::HW_THERMAL_SLOWDOWN),
    ("hw_power_brake_slowdown", ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN),
    ("display_clock_setting", ThrottleReasons::DISPLAY_CLOCK_SETTING),
];

/// Names of failed readings that are no metrics of the catalogue.
pub(super) const READINGS: [&str; 4] = ["device", "device.count", "hw.id", "hw.model"];

/// Every word for why a reading failed.
pub(super) const ERROR_TYPES: [&str; 10] = [
    "not_supported",
    "no_permission",
    "gpu_lost",
    "reset_required",
    "timeout",
    "no_data",
    "not_in_driver",
    "driver_not_loaded",
    "blank",
    "other",
];

/// From here up a 32-bit value stands for a missing one: NVML's "not available" (all bits) and DCGM's blanks.
const BLANK_MIN: u32 = 0x7fff_fff0;

/// The same for 64 bits.
const BLANK_LONG_MIN: u64 = 0x7fff_ffff_ffff_fff0;

/// The GPUs of this machine, or the fact that there is no library to ask.
pub(crate) struct Gpus {
    library: Option<OsString>,
    nvml: Option<Nvml>,
    /// Whether the absence of the library has been logged, so that it is logged once.
    absence_logged: bool,
}

impl Gpus {
    /// Uses `library`, or the driver's own where `None`. Nothing is loaded before the first sample.
    pub(crate) fn new(library: Option<OsString>) -> Self {
        Self { library, nvml: None, absence_logged: false }
    }

    fn load(&mut self) -> Option<&Nvml> {
        if self.nvml.is_none() {
            let mut builder = Nvml::builder();
            if let Some(path) = &self.library {
                builder.lib_path(path);
            }
            match builder.init() {
                Ok(nvml) => {
                    tracing::info!(driver = nvml.sys_driver_version().ok(), "NVIDIA management library loaded");
                    self.nvml = Some(nvml);
                    self.absence_logged = false;
                }
                Err(error) if !self.absence_logged => {
                    self.absence_logged = true;
                    // Most hosts have no GPU: nothing to warn of.
                    tracing::info!(
                        error = &error as &dyn std::error::Error,
                        "no NVIDIA management library: GPU metrics are left out, host metrics go on"
                    );
                }
                // A driver may be installed or loaded later, so every sample tries again.
                Err(_) => {}
            }
        }
        self.nvml.as_ref()
    }
}

impl Source for Gpus {
    fn sample(&mut self) -> Sample {
        let mut sample = Sample::default();
        let Some(nvml) = self.load() else {
            sample.push("driftwatt.collector.gpu.library_available", 0.0, &[]);
            return sample;
        };
        match nvml.device_count() {
            Ok(count) => {
                sample.push("driftwatt.collector.gpu.library_available", 1.0, &[]);
                sample.push("driftwatt.collector.gpu.device.count", f64::from(count), &[]);
                let known = (0..count).filter(|index| read_device(nvml, *index, &mut sample)).count();
                if count > 0 && known == 0 {
                    // So it looks after a driver reload too, when the library holds on to the driver that is gone.
                    self.nvml = None;
                }
            }
            Err(error) => {
                // The library was unloaded under us or the driver is gone: start over with the next sample.
                sample.fail("device.count", error_type(&error));
                sample.push("driftwatt.collector.gpu.library_available", 0.0, &[]);
                self.nvml = None;
            }
        }
        sample
    }
}

/// Reads one GPU and says whether it could be told which one it is.
fn read_device(nvml: &Nvml, index: u32, sample: &mut Sample) -> bool {
    let Some(device) = ok(sample, "device", nvml.device_by_index(index)) else { return false };
    // Without its id a GPU's values belong to no series.
    let Some(id) = ok(sample, "hw.id", device.uuid()) else { return false };
    let mut attributes =
        vec![KeyValue::new("hw.id", id), KeyValue::new("hw.type", "gpu"), KeyValue::new("hw.vendor", "NVIDIA")];
    if let Some(model) = ok(sample, "hw.model", device.name()) {
        attributes.push(KeyValue::new("hw.model", model));
    }
    read_load(&device, &attributes, sample);
    read_power(&device, &attributes, sample);
    read_clocks(&device, &mut attributes, sample);
    true
}

fn read_load(device: &Device<'_>, attributes: &[KeyValue], sample: &mut Sample) {
    if let Some(utilization) = ok(sample, "hw.gpu.utilization", device.utilization_rates()) {
        for (metric, percent) in
            [("hw.gpu.utilization", utilization.gpu), ("driftwatt.gpu.memory.io.utilization", utilization.memory)]
        {
            if percent <= 100 {
                sample.push(metric, f64::from(percent) / 100.0, attributes);
            } else {
                sample.fail(metric, "blank");
            }
        }
    }
    if let Some(memory) = ok(sample, "hw.gpu.memory.usage", device.memory_info()) {
        for (metric, bytes) in [
            ("hw.gpu.memory.usage", memory.used),
            ("hw.gpu.memory.limit", memory.total),
            ("driftwatt.gpu.memory.reserved", memory.reserved),
        ] {
            if let Some(bytes) = known_long(sample, metric, bytes) {
                sample.push(metric, bytes, attributes);
            }
        }
        // With a blank on one side there is no share.
        if memory.used <= memory.total && (1..BLANK_LONG_MIN).contains(&memory.total) {
            sample.push("hw.gpu.memory.utilization", memory.used as f64 / memory.total as f64, attributes);
        }
    }
}

fn read_power(device: &Device<'_>, attributes: &[KeyValue], sample: &mut Sample) {
    for (metric, milliwatts) in
        [("hw.power", device.power_usage()), ("driftwatt.gpu.power.limit", device.enforced_power_limit())]
    {
        if let Some(milliwatts) = known(sample, metric, milliwatts) {
            sample.push(metric, milliwatts / 1000.0, attributes);
        }
    }
    if let Some(millijoules) = ok(sample, "hw.energy", device.total_energy_consumption())
        && let Some(millijoules) = known_long(sample, "hw.energy", millijoules)
    {
        sample.push("hw.energy", millijoules / 1000.0, attributes);
    }
    if let Some(degrees) = known(sample, "hw.temperature", device.temperature(TemperatureSensor::Gpu)) {
        sample.push("hw.temperature", degrees, attributes);
    }
}

fn read_clocks(device: &Device<'_>, attributes: &mut Vec<KeyValue>, sample: &mut Sample) {
    for (domain, clock) in CLOCKS {
        if let Some(megahertz) = known(sample, "driftwatt.gpu.clock.frequency", device.clock_info(clock)) {
            attributes.push(KeyValue::new("driftwatt.gpu.clock.domain", domain));
            sample.push("driftwatt.gpu.clock.frequency", megahertz * 1e6, attributes);
            attributes.pop();
        }
    }
    if let Some(reasons) = ok(sample, "driftwatt.gpu.throttle", device.current_throttle_reasons()) {
        for (name, value) in throttle_flags(reasons) {
            attributes.push(KeyValue::new("driftwatt.gpu.throttle.reason", name));
            sample.push("driftwatt.gpu.throttle", value, attributes);
            attributes.pop();
        }
    }
}

fn throttle_flags(reasons: ThrottleReasons) -> [(&'static str, f64); 9] {
    THROTTLE_REASONS.map(|(name, reason)| (name, f64::from(u8::from(reasons.contains(reason)))))
}

/// The value, or `None` and a counted failure.
fn ok<T>(sample: &mut Sample, reading: &'static str, result: Result<T, NvmlError>) -> Option<T> {
    result.map_err(|error| sample.fail(reading, error_type(&error))).ok()
}

/// The value, or `None` and a counted failure where it is a sentinel.
fn known(sample: &mut Sample, reading: &'static str, result: Result<u32, NvmlError>) -> Option<f64> {
    let value = ok(sample, reading, result)?;
    if value >= BLANK_MIN {
        sample.fail(reading, "blank");
        return None;
    }
    Some(f64::from(value))
}

fn known_long(sample: &mut Sample, reading: &'static str, value: u64) -> Option<f64> {
    if value >= BLANK_LONG_MIN {
        sample.fail(reading, "blank");
        return None;
    }
    Some(value as f64)
}

/// A short word of [`ERROR_TYPES`] for an attribute; the text of the error goes to the log.
fn error_type(error: &NvmlError) -> &'static str {
    let word = match error {
        // Expected on many devices (energy before Volta, utilisation under MIG), so not worth a line each time.
        NvmlError::NotSupported => return "not_supported",
        NvmlError::NoPermission => "no_permission",
        NvmlError::GpuLost => "gpu_lost",
        NvmlError::ResetRequired => "reset_required",
        NvmlError::Timeout => "timeout",
        NvmlError::NoData => "no_data",
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "not_in_driver",
        NvmlError::DriverNotLoaded | NvmlError::LibraryNotFound | NvmlError::Uninitialized => "driver_not_loaded",
        _ => "other",
    };
    tracing::debug!(%error, word, "GPU reading failed");
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_one_reading_says_so_and_there_is_no_other() {
        let mut gpus = Gpus::new(Some("/nonexistent/libnvidia-ml.so.1".into()));
        for _ in 0..2 {
            let sample = gpus.sample();
            let read: Vec<_> = sample.readings.iter().map(|r| (r.metric, r.value)).collect();
            assert_eq!(read, [("driftwatt.collector.gpu.library_available", 0.0)]);
            assert!(sample.failures.is_empty(), "an absent library is a fact, not a failed reading");
        }
    }

    #[test]
    fn each_throttle_reason_is_one_flag() {
        let flags = throttle_flags(ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_SLOWDOWN);
        let set: Vec<_> = flags.iter().filter(|(_, value)| *value == 1.0).map(|(name, _)| *name).collect();
        assert_eq!(set, ["sw_power_cap", "hw_slowdown"]);
        assert_eq!(flags.iter().filter(|(_, value)| *value == 0.0).count(), 7);
    }
}
