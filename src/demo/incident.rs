//! A simulated incident with a known cause: a client stops scaling its images down, and nothing is wrong with the machines.
//!
//! Three hours of one service on two hosts. From [`CHANGE_MINUTE`] on, seven in ten requests come from version 4.2 of the client,
//! which sends photos as the camera took them (8 to 12 megapixels) instead of 1.05. The server, its GPUs and hosts stay as they are.

use driftwatt_analyze::simulated_fleet::Rng;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, number_data_point::Value,
    },
};

use super::{
    SCOPE,
    layout::GPU_MODEL,
    load::{DAY_NANOS, MINUTE_NANOS},
};
use crate::otlp::{
    attribute, counter, exponential, exponential_point, gauge, histogram, histogram_point, point, resource_metrics,
};

/// Name of the service.
pub(crate) const SERVICE: &str = "image-describe";
/// Minutes of the incident.
pub(crate) const MINUTES: u64 = 180;
/// Minute of the client's change.
pub(crate) const CHANGE_MINUTE: u64 = 100;
/// Days before the end of the simulated week at which it ends: no report about the week has its machines in it.
const DAYS_BEFORE: u64 = 15;
const HOSTS: [&str; 2] = ["sim-host-09", "sim-host-10"];
/// Requests a minute and host.
const REQUESTS_PER_MINUTE: f64 = 30.0;
/// Milliseconds of a request without its pixels, and of a megapixel.
const COST_MS: (f64, f64) = (45.0, 95.0);
/// Megapixels to which version 4.1 of the client scales down.
const SCALED_MEGAPIXELS: f64 = 1.05;
const DURATION_BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const PIXEL_SCALE: i32 = 3;
const CLIENTS: [&str; 2] = ["4.1", "4.2"];

/// The incident: everything follows from a seed and an end time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incident {
    seed: u64,
    start_unix_nanos: u64,
}

impl Incident {
    /// The incident of the simulated week that ends at `week_end_unix_nanos`.
    pub(crate) fn new(seed: u64, week_end_unix_nanos: u64) -> Self {
        let end = week_end_unix_nanos.saturating_sub(DAYS_BEFORE * DAY_NANOS);
        let start_unix_nanos = (end - end % MINUTE_NANOS).saturating_sub(MINUTES * MINUTE_NANOS);
        Self { seed, start_unix_nanos }
    }

    /// Its first and last time, UTC nanoseconds.
    pub(crate) fn span_unix_nanos(&self) -> (u64, u64) {
        (self.start_unix_nanos, self.start_unix_nanos + MINUTES * MINUTE_NANOS)
    }

    /// One request a host.
    pub(crate) fn requests(&self) -> impl Iterator<Item = ExportMetricsServiceRequest> + Send + use<> {
        let incident = *self;
        (0..HOSTS.len()).map(move |host| incident.host(host))
    }

    fn host(&self, host: usize) -> ExportMetricsServiceRequest {
        let mut rng = Rng::new(self.seed ^ (0x1_0000 + host as u64));
        let mut sent = Sent::default();
        for minute in 0..MINUTES {
            let end = self.start_unix_nanos + (minute + 1) * MINUTE_NANOS;
            let busy = sent.requests(minute, end, &mut rng);
            sent.machine((self.start_unix_nanos, end), busy, host, &mut rng);
        }
        let mut machine = vec![
            attribute("host.name", HOSTS[host]),
            attribute("deployment.environment.name", "simulated"),
            attribute("driftwatt.simulated", "true"),
        ];
        let system = resource_metrics(SCOPE, machine.clone(), std::mem::take(&mut sent.system).into_metrics());
        machine.extend([
            attribute("service.name", SERVICE),
            attribute("service.namespace", "simulated-incident"),
            attribute("service.instance.id", format!("{SERVICE}-{}", HOSTS[host])),
            attribute("driftwatt.team", "media"),
            attribute("driftwatt.model.name", "describe-vl"),
            attribute("driftwatt.model.version", "1.3.0"),
        ]);
        let service = resource_metrics(SCOPE, machine, sent.into_metrics());
        ExportMetricsServiceRequest { resource_metrics: vec![service, system] }
    }
}

/// What a host and its service report.
#[derive(Default)]
struct Sent {
    durations: Vec<HistogramDataPoint>,
    pixels: Vec<ExponentialHistogramDataPoint>,
    queue: Vec<NumberDataPoint>,
    utilization: Vec<NumberDataPoint>,
    clock: Vec<NumberDataPoint>,
    throttle: Vec<NumberDataPoint>,
    gpu_memory: Vec<NumberDataPoint>,
    system: System,
}

#[derive(Default)]
struct System {
    cpu: Vec<NumberDataPoint>,
    memory: Vec<NumberDataPoint>,
    pressure: Vec<NumberDataPoint>,
    /// Seconds waited for processor, memory and disk.
    waited: [f64; 3],
}

impl Sent {
    /// The requests of a minute, by version of the client; the share of it in which the GPU worked.
    fn requests(&mut self, minute: u64, end: u64, rng: &mut Rng) -> f64 {
        let (mut seconds, mut pixels) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..rng.poisson(REQUESTS_PER_MINUTE) {
            let client = usize::from(minute >= CHANGE_MINUTE && rng.uniform() < 0.7);
            let megapixels = match (rng.uniform() < 0.4, client) {
                // Some images are small from the start.
                (true, _) => rng.log_normal(0.5, 0.4).clamp(0.1, SCALED_MEGAPIXELS),
                (false, 0) => SCALED_MEGAPIXELS,
                (false, _) => 8.0 + 4.0 * rng.uniform(),
            };
            let (fixed, per_megapixel) = COST_MS;
            seconds[client].push((fixed + per_megapixel * megapixels) / 1e3 * rng.log_normal(1.0, 0.2));
            pixels[client].push((megapixels * 1e6).round());
        }
        let interval = (end - MINUTE_NANOS, end);
        for (client, name) in CLIENTS.iter().enumerate().filter(|(client, _)| !pixels[*client].is_empty()) {
            let version = attribute("client.version", *name);
            let mut duration = histogram_point(interval, &DURATION_BOUNDS, &seconds[client]);
            duration.attributes = vec![attribute("http.route", "/v1/describe"), version.clone()];
            self.durations.push(duration);
            let mut sizes = exponential_point(interval, PIXEL_SCALE, &pixels[client]);
            sizes.attributes = vec![version];
            self.pixels.push(sizes);
        }
        seconds.iter().flatten().sum::<f64>() / 60.0
    }

    /// What the machine reports in a minute: as always.
    fn machine(&mut self, (start, end): (u64, u64), busy: f64, host: usize, rng: &mut Rng) {
        let labels = [attribute("hw.id", format!("SIM-GPU-{:02}-0", host + 9)), attribute("hw.model", GPU_MODEL)];
        let with = |key: &str, value: &str| -> Vec<KeyValue> {
            labels.iter().cloned().chain([attribute(key, value)]).collect()
        };
        let double = |points: &mut Vec<NumberDataPoint>, value: f64, attributes: &[KeyValue]| {
            points.push(point(end, Value::AsDouble(value), attributes));
        };
        double(&mut self.queue, rng.poisson(0.2) as f64, &[]);
        double(&mut self.utilization, (0.03 + busy + 0.01 * rng.normal()).clamp(0.0, 1.0), &labels);
        double(&mut self.clock, (1.755e9 + 4e6 * rng.normal()).round(), &with("driftwatt.gpu.clock.domain", "sm"));
        double(&mut self.throttle, 0.0, &with("driftwatt.gpu.throttle.reason", "hw_thermal_slowdown"));
        double(&mut self.gpu_memory, 0.31 + 0.002 * rng.normal(), &labels);
        let system = &mut self.system;
        double(&mut system.cpu, (0.11 + 0.01 * rng.normal()).clamp(0.0, 1.0), &[]);
        double(&mut system.memory, 0.42 + 0.003 * rng.normal(), &[attribute("system.memory.state", "used")]);
        for (at, (resource, share)) in [("cpu", 0.02), ("memory", 0.001), ("io", 0.004)].into_iter().enumerate() {
            system.waited[at] += 60.0 * share * (0.5 + rng.uniform());
            let attributes =
                [attribute("driftwatt.pressure.resource", resource), attribute("driftwatt.pressure.share", "some")];
            let mut waited = point(end, Value::AsDouble(system.waited[at]), &attributes);
            waited.start_time_unix_nano = start;
            system.pressure.push(waited);
        }
    }

    fn into_metrics(self) -> Vec<Metric> {
        vec![
            histogram("http.server.request.duration", "s", self.durations),
            exponential("driftwatt.input.pixels", "{pixel}", self.pixels),
            gauge("driftwatt.queue.length", "{request}", self.queue),
            gauge("hw.gpu.utilization", "1", self.utilization),
            gauge("driftwatt.gpu.clock.frequency", "Hz", self.clock),
            gauge("driftwatt.gpu.throttle", "1", self.throttle),
            gauge("hw.gpu.memory.utilization", "1", self.gpu_memory),
        ]
    }
}

impl System {
    fn into_metrics(self) -> Vec<Metric> {
        vec![
            gauge("system.cpu.utilization", "1", self.cpu),
            gauge("system.memory.utilization", "1", self.memory),
            counter("driftwatt.pressure.stall.time", "s", self.pressure),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 1_763_942_400_000_000_000;

    #[test]
    fn a_seed_gives_the_same_incident_and_every_resource_says_that_it_is_simulated() {
        let requests = |seed| Incident::new(seed, END).requests().collect::<Vec<_>>();
        assert_eq!(requests(1), requests(1));
        assert_ne!(requests(1), requests(2));
        for resource in requests(1).iter().flat_map(|request| &request.resource_metrics) {
            let attributes = &resource.resource.as_ref().unwrap().attributes;
            assert!(attributes.contains(&attribute("driftwatt.simulated", "true")));
        }
    }

    #[test]
    fn it_ends_long_before_the_week() {
        let (start, end) = Incident::new(1, END).span_unix_nanos();
        assert_eq!((end - start, END - end), (MINUTES * MINUTE_NANOS, DAYS_BEFORE * DAY_NANOS));
    }
}
