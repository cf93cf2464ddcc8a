//! Who runs where in the simulated fleet: 8 hosts, 32 GPUs, 4 services.

/// How a service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Serves a language model: time to first token matters.
    Llm,
    /// Enlarges images: work grows with the pixels that come in.
    Image,
    /// Holds memory and waits for work that rarely comes.
    IdleHeld,
}

/// One simulated service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) team: &'static str,
    pub(crate) model: &'static str,
    pub(crate) behaviour: Behaviour,
    /// GPU utilisation at no load and at full load.
    pub(crate) utilization: (f64, f64),
    /// GPU memory in MiB at no load and at full load.
    pub(crate) memory_mib: (f64, f64),
    /// Requests per minute and instance at full load.
    pub(crate) requests_per_minute: f64,
    /// Median request duration at no load, seconds; for images, per megapixel.
    pub(crate) duration_seconds: f64,
    /// Hour of day (UTC) of the highest load.
    pub(crate) peak_hour: f64,
    /// Load on Saturday and Sunday against a working day.
    pub(crate) weekend: f64,
}

pub(crate) const SERVICES: [Service; 4] = [
    Service {
        name: "chat-llm",
        team: "assistant",
        model: "chat-70b",
        behaviour: Behaviour::Llm,
        utilization: (0.06, 0.88),
        memory_mib: (62_000.0, 76_000.0),
        requests_per_minute: 40.0,
        duration_seconds: 2.4,
        peak_hour: 14.0,
        weekend: 0.55,
    },
    Service {
        name: "code-llm",
        team: "developer-tools",
        model: "code-34b",
        behaviour: Behaviour::Llm,
        utilization: (0.03, 0.62),
        memory_mib: (48_000.0, 58_000.0),
        requests_per_minute: 36.0,
        duration_seconds: 0.9,
        peak_hour: 13.0,
        weekend: 0.2,
    },
    Service {
        name: "image-upscale",
        team: "media",
        model: "upscale-x4",
        behaviour: Behaviour::Image,
        utilization: (0.04, 0.45),
        memory_mib: (14_000.0, 22_000.0),
        requests_per_minute: 24.0,
        duration_seconds: 0.14,
        peak_hour: 19.0,
        weekend: 1.2,
    },
    Service {
        name: "batch-embed",
        team: "search",
        model: "embed-large",
        behaviour: Behaviour::IdleHeld,
        utilization: (0.0, 0.03),
        // 30 GiB held whatever happens.
        memory_mib: (30_720.0, 30_720.0),
        requests_per_minute: 0.4,
        duration_seconds: 0.3,
        peak_hour: 3.0,
        weekend: 1.0,
    },
];

/// Index into [`SERVICES`] of each GPU of each host.
pub(crate) const GPU_SERVICE: [[usize; 4]; 8] =
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [2, 2, 2, 2], [2, 2, 3, 3], [3, 3, 3, 3]];

pub(crate) const GPU_MODEL: &str = "NVIDIA H100 80GB HBM3 (simulated)";
pub(crate) const GPU_MEMORY_MIB: i64 = 81_559;
pub(crate) const HOST_MEMORY_BYTES: i64 = 1 << 40;

/// Name of host `host`, counted from 0.
pub(crate) fn host_name(host: usize) -> String {
    format!("sim-host-{:02}", host + 1)
}

/// Hardware id of a GPU; `SIM-` so that it can never be mistaken for a UUID of a driver.
pub(crate) fn gpu_id(host: usize, gpu: usize) -> String {
    format!("SIM-GPU-{:02}-{gpu}", host + 1)
}

/// The services of `host` with their GPUs, in order.
pub(crate) fn instances(host: usize) -> Vec<(usize, Vec<usize>)> {
    (0..SERVICES.len())
        .filter_map(|service| {
            let gpus: Vec<usize> = (0..4).filter(|&gpu| GPU_SERVICE[host][gpu] == service).collect();
            (!gpus.is_empty()).then_some((service, gpus))
        })
        .collect()
}

/// The price book of the simulated fleet, as TOML.
pub(crate) const PRICES: &str = include_str!("prices.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gpu_and_host_has_a_price() {
        let prices: toml::Table = PRICES.parse().unwrap();
        assert!(prices["gpu_hour"].get(GPU_MODEL).is_some());
        for host in 0..GPU_SERVICE.len() {
            assert!(prices["vcpus"].get(host_name(host)).is_some(), "{}", host_name(host));
        }
    }

    #[test]
    fn thirty_two_gpus_are_shared_by_four_services() {
        let mut gpus = [0; SERVICES.len()];
        (0..GPU_SERVICE.len()).flat_map(instances).for_each(|(service, held)| gpus[service] += held.len());
        assert_eq!(gpus, [12, 8, 6, 6]);
    }
}
