//! What the library says of one GPU as a whole: load, memory, power, clocks.

use nvml_wrapper::{
    Device,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{Clock, TemperatureSensor},
};
use opentelemetry::KeyValue;

use super::value::{is_blank, known, known_long, ok, share};
use crate::reading::Sample;

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

/// Reads one GPU and returns its duty cycle where there is one.
pub(super) fn read(device: &Device<'_>, attributes: &[KeyValue], sample: &mut Sample) -> Option<f64> {
    let mut attributes = attributes.to_vec();
    read_memory(device, &attributes, sample);
    read_power(device, &attributes, sample);
    read_clocks(device, &mut attributes, sample);
    read_load(device, &mut attributes, sample)
}

fn read_load(device: &Device<'_>, attributes: &mut Vec<KeyValue>, sample: &mut Sample) -> Option<f64> {
    let rates = ok(sample, "hw.gpu.utilization", device.utilization_rates());
    let duty = rates.as_ref().and_then(|rates| share(sample, "hw.gpu.utilization", rates.gpu));
    let memory = rates.and_then(|rates| share(sample, "driftwatt.gpu.memory.io.utilization", rates.memory));
    if let Some(memory) = memory {
        sample.push("driftwatt.gpu.memory.io.utilization", memory, attributes);
    }
    let mut of_codec = |codec| {
        let answer = ok(sample, "hw.gpu.utilization", codec)?;
        share(sample, "hw.gpu.utilization", answer)
    };
    let encoder = of_codec(device.encoder_utilization().map(|info| info.utilization));
    let decoder = of_codec(device.decoder_utilization().map(|info| info.utilization));
    for (task, value) in [("general", duty), ("encoder", encoder), ("decoder", decoder)] {
        if let Some(value) = value {
            attributes.push(KeyValue::new("hw.gpu.task", task));
            sample.push("hw.gpu.utilization", value, attributes);
            attributes.pop();
        }
    }
    duty
}

/// Memory of a GPU, or of the slice of one.
pub(super) fn read_memory(device: &Device<'_>, attributes: &[KeyValue], sample: &mut Sample) {
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
        if memory.used <= memory.total && memory.total > 0 && !is_blank(memory.total) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_throttle_reason_is_one_flag() {
        let flags = throttle_flags(ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_SLOWDOWN);
        let set: Vec<_> = flags.iter().filter(|(_, value)| *value == 1.0).map(|(name, _)| *name).collect();
        assert_eq!(set, ["sw_power_cap", "hw_slowdown"]);
        assert_eq!(flags.iter().filter(|(_, value)| *value == 0.0).count(), 7);
    }
}
