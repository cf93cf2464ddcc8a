//! Traffic and errors of PCIe and NVLink. Slow, so only on request: without GPM the driver counts for 20 ms a direction.

use nvml_wrapper::{
    Device,
    enum_wrappers::{device::PcieUtilCounter, nv_link::ErrorCounter},
};
use opentelemetry::KeyValue;

use super::{
    faults::with,
    gpm::Profile,
    value::{known, known_long, ok},
};
use crate::reading::Sample;

const PCIE: &str = "driftwatt.gpu.pcie.throughput";

/// As many as any GPU has.
const LINKS_MAX: u32 = 18;

const ERRORS: [(&str, ErrorCounter); 4] = [
    ("replay", ErrorCounter::DlReplay),
    ("recovery", ErrorCounter::DlRecovery),
    ("crc_flit", ErrorCounter::DlCrcFlit),
    ("crc_data", ErrorCounter::DlCrcData),
];

pub(super) fn read(device: &Device<'_>, profile: &Profile, attributes: &[KeyValue], sample: &mut Sample) {
    for ((metric, direction), rate) in &profile.throughputs {
        sample.push(metric, *rate, &with(attributes, "network.io.direction", direction));
    }
    if !profile.throughputs.iter().any(|((metric, _), _)| *metric == PCIE) {
        for (direction, counter) in [("transmit", PcieUtilCounter::Send), ("receive", PcieUtilCounter::Receive)] {
            if let Some(kilobytes) = known(sample, PCIE, device.pcie_throughput(counter)) {
                sample.push(PCIE, kilobytes * 1000.0, &with(attributes, "network.io.direction", direction));
            }
        }
    }
    if let Some(replays) = known(sample, "driftwatt.gpu.pcie.replays", device.pcie_replay_counter()) {
        sample.push("driftwatt.gpu.pcie.replays", replays, attributes);
    }
    for index in 0..LINKS_MAX {
        let link = device.link_wrapper_for(index);
        // Also an error for a link that the GPU does not have.
        if !link.is_active().unwrap_or(false) {
            continue;
        }
        let mut of_link = attributes.to_vec();
        of_link.push(KeyValue::new("driftwatt.gpu.nvlink", index.to_string()));
        for (word, counter) in ERRORS {
            let count = ok(sample, "driftwatt.gpu.nvlink.errors", link.error_counter(counter));
            let count = count.and_then(|count| known_long(sample, "driftwatt.gpu.nvlink.errors", count));
            if let Some(count) = count {
                sample.push("driftwatt.gpu.nvlink.errors", count, &with(&of_link, "error.type", word));
            }
        }
    }
}
