//! One simulated host: what it and the services on it report in an hour.

use driftwatt_analyze::simulated_fleet::Rng;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        number_data_point::Value,
    },
};

use super::{
    SCOPE, containers,
    layout::{
        Behaviour, GPU_MEMORY_MIB, GPU_MODEL, HOST_MEMORY_BYTES, SERVICES, Service, gpu_id, host_name, instances,
    },
    load::{HOUR_NANOS, MINUTE_NANOS, draw_pixels, image_work, load, model_version},
};
use crate::otlp::{
    attribute, exponential, exponential_point, gauge, histogram, histogram_point, point, resource_metrics, up_down,
};

/// Bounds of `http.server.request.duration` in the semantic conventions, and two more for slow models.
const DURATION_BOUNDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0];
/// Bounds of `gen_ai.server.time_to_first_token` in the semantic conventions.
const FIRST_TOKEN_BOUNDS: [f64; 17] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0];
const PIXEL_INTERVAL_MINUTES: u64 = 5;
const PIXEL_SCALE: i32 = 3;

/// A host with its own random sequence, so that hosts do not depend on the order they are asked in.
#[derive(Debug)]
pub(crate) struct SimulatedHost {
    host: usize,
    start_unix_nanos: u64,
    rng: Rng,
    /// Of containers.
    container_rng: Rng,
    /// Slow noise of each GPU's utilisation, an AR(1) process: neighbouring minutes are alike.
    gpu_noise: [f64; 4],
    /// Utilisation of the GPUs in each minute of the hour, which the host's CPU follows.
    busy: [f64; 60],
}

impl SimulatedHost {
    /// Host number `host`, counted from 0, of the fleet of `seed`.
    pub(crate) fn new(seed: u64, host: usize, start_unix_nanos: u64) -> Self {
        let rng = Rng::new(Rng::new(seed).next_u64() ^ host as u64);
        let container_rng = Rng::new(seed ^ ((host as u64 + 1) << 32));
        Self { host, start_unix_nanos, rng, container_rng, gpu_noise: [0.0; 4], busy: [0.0; 60] }
    }

    /// What the host sends for the hour `hour` of the week.
    pub(crate) fn hour(&mut self, hour: u64) -> Vec<ResourceMetrics> {
        self.busy = [0.0; 60];
        let mut resources = Vec::new();
        for (number, gpus) in instances(self.host) {
            let service = &SERVICES[number];
            let mut metrics = self.gpus(service, &gpus, hour);
            metrics.extend(self.service(service, hour));
            resources.push(resource_metrics(SCOPE, self.service_attributes(service, hour), metrics));
            resources.push(self.container(number, hour));
        }
        let system = self.system(hour);
        resources.push(resource_metrics(SCOPE, self.host_attributes(), system));
        resources
    }

    fn time(&self, hour: u64, minute: u64) -> u64 {
        self.start_unix_nanos + hour * HOUR_NANOS + minute * MINUTE_NANOS
    }

    fn host_attributes(&self) -> Vec<KeyValue> {
        vec![
            attribute("host.name", host_name(self.host)),
            attribute("deployment.environment.name", "simulated"),
            attribute("driftwatt.simulated", "true"),
        ]
    }

    fn service_attributes(&self, service: &Service, hour: u64) -> Vec<KeyValue> {
        let version = self.version(service, hour);
        let mut attributes = self.host_attributes();
        attributes.extend([
            attribute("service.name", service.name),
            attribute("service.namespace", "simulated-fleet"),
            attribute("service.instance.id", format!("{}-{}", service.name, host_name(self.host))),
            attribute("driftwatt.team", service.team),
            attribute("driftwatt.model.name", service.model),
            attribute("driftwatt.model.version", version),
        ]);
        attributes
    }

    /// What the container of service number `service` asks for and uses.
    fn container(&mut self, service: usize, hour: u64) -> ResourceMetrics {
        let mut attributes = self.host_attributes();
        attributes.extend([
            attribute("service.name", SERVICES[service].name),
            attribute("service.namespace", "simulated-fleet"),
            attribute("driftwatt.team", SERVICES[service].team),
        ]);
        attributes.extend(containers::pod_attributes(&SERVICES[service], &host_name(self.host)));
        let rng = &mut self.container_rng;
        let metrics = containers::metrics(rng, service, self.host, hour, self.start_unix_nanos);
        resource_metrics(SCOPE, attributes, metrics)
    }

    /// Utilisation, memory, power and temperature of `gpus`, all of which work for `service`.
    fn gpus(&mut self, service: &Service, gpus: &[usize], hour: u64) -> Vec<Metric> {
        let mut columns: [Vec<NumberDataPoint>; 5] = Default::default();
        for &gpu in gpus {
            let labels = [attribute("hw.id", gpu_id(self.host, gpu)), attribute("hw.model", GPU_MODEL)];
            let typed = [labels[0].clone(), labels[1].clone(), attribute("hw.type", "gpu")];
            for minute in 0..60 {
                let time = self.time(hour, minute);
                let now = hour as f64 + minute as f64 / 60.0;
                let work = load(service, time) * image_work(service, now);
                let utilization = self.utilization(service, gpu, work);
                self.busy[minute as usize] += utilization / 4.0;
                let (low, high) = service.memory_mib;
                let memory_mib = ((low + (high - low) * work.min(1.5)) as i64).min(GPU_MEMORY_MIB);
                let power = 72.0 + 590.0 * utilization + 3.0 * self.rng.normal();
                let temperature = (31.0 + 0.06 * power + 0.5 * self.rng.normal()).round();
                columns[0].push(point(time, Value::AsDouble(utilization), &labels));
                columns[1].push(point(time, Value::AsInt(memory_mib << 20), &labels));
                columns[2].push(point(time, Value::AsInt(GPU_MEMORY_MIB << 20), &labels));
                columns[3].push(point(time, Value::AsDouble((power * 1000.0).round() / 1000.0), &typed));
                columns[4].push(point(time, Value::AsDouble(temperature), &typed));
            }
        }
        let [utilization, memory, limit, power, temperature] = columns;
        vec![
            gauge("hw.gpu.utilization", "1", utilization),
            up_down("hw.gpu.memory.usage", "By", self.start_unix_nanos, memory),
            up_down("hw.gpu.memory.limit", "By", self.start_unix_nanos, limit),
            gauge("hw.power", "W", power),
            gauge("hw.temperature", "Cel", temperature),
        ]
    }

    /// Utilisation as drivers give it: whole percent, as a ratio.
    fn utilization(&mut self, service: &Service, gpu: usize, work: f64) -> f64 {
        self.gpu_noise[gpu] = 0.9 * self.gpu_noise[gpu] + 0.02 * self.rng.normal();
        let (low, high) = service.utilization;
        let ratio = match service.behaviour {
            // Only now and then a blip.
            Behaviour::IdleHeld => (0.4 * self.gpu_noise[gpu]).clamp(low, high),
            Behaviour::Llm | Behaviour::Image => low + (high - low) * work + self.gpu_noise[gpu],
        };
        (ratio.clamp(0.0, 1.0) * 100.0).round() / 100.0
    }

    /// Request duration, queue and, by behaviour, time to first token or pixels.
    fn service(&mut self, service: &Service, hour: u64) -> Vec<Metric> {
        let route = [attribute("http.request.method", "POST"), attribute("http.route", "/v1/infer")];
        let mut observed = Observed::default();
        let mut pixels = Vec::new();
        for minute in 0..60 {
            let time = self.time(hour, minute);
            let interval = (time - MINUTE_NANOS, time);
            let now = hour as f64 + minute as f64 / 60.0;
            let load = load(service, time);
            let minute_seen = self.minute(service, hour, now, load);
            pixels.extend(&minute_seen.pixels);
            let mut duration = histogram_point(interval, &DURATION_BOUNDS, &minute_seen.durations);
            duration.attributes = route.to_vec();
            observed.durations.push(duration);
            if service.behaviour == Behaviour::Llm {
                observed.first_tokens.push(histogram_point(interval, &FIRST_TOKEN_BOUNDS, &minute_seen.first_tokens));
            }
            if service.behaviour == Behaviour::Image && (minute + 1).is_multiple_of(PIXEL_INTERVAL_MINUTES) {
                let start = time - PIXEL_INTERVAL_MINUTES * MINUTE_NANOS;
                observed.pixels.push(exponential_point((start, time), PIXEL_SCALE, &pixels));
                pixels.clear();
            }
            let pressed = match service.behaviour {
                Behaviour::Llm | Behaviour::Image => (load * image_work(service, now) - 0.7).max(0.0),
                // Work that rarely comes never waits.
                Behaviour::IdleHeld => 0.0,
            };
            let waiting = self.rng.poisson(12.0 * pressed);
            observed.queue.push(point(time, Value::AsInt(waiting as i64), &[]));
        }
        observed.into_metrics()
    }

    /// The requests of one minute. The model version is on the metrics' resource, so what it does to latency has to be
    /// in the latency as well: 2.1.0 is a tenth faster.
    fn minute(&mut self, service: &Service, hour: u64, now: f64, load: f64) -> MinuteSeen {
        let speed = if self.version(service, hour) == "2.1.0" { 0.9 } else { 1.0 };
        let median = service.duration_seconds * speed;
        let rng = &mut self.rng;
        let mut seen = MinuteSeen::default();
        for _ in 0..rng.poisson(service.requests_per_minute * load) {
            match service.behaviour {
                Behaviour::Llm => {
                    let first = rng.log_normal(0.16 * speed * (1.0 + load), 0.4);
                    seen.durations.push(first + rng.log_normal(median * (1.0 + 0.5 * load * load), 0.5));
                    seen.first_tokens.push(first);
                }
                Behaviour::Image => {
                    let size = draw_pixels(rng, now);
                    seen.durations.push(rng.log_normal(median * size / 1e6, 0.25));
                    seen.pixels.push(size);
                }
                Behaviour::IdleHeld => seen.durations.push(rng.log_normal(median, 0.3)),
            }
        }
        seen
    }

    fn version(&self, service: &Service, hour: u64) -> &'static str {
        // `code-llm` is the one that rolls out; its hosts are the fourth and the fifth.
        model_version(service, self.host.saturating_sub(3) as u64, hour)
    }

    /// CPU and memory of the host; call it after the hour's GPUs, whose work it follows.
    fn system(&mut self, hour: u64) -> Vec<Metric> {
        let used = [attribute("system.memory.state", "used")];
        let (mut cpu, mut memory, mut limit) = (Vec::new(), Vec::new(), Vec::new());
        for minute in 0..60 {
            let time = self.time(hour, minute);
            let busy = self.busy[minute as usize];
            let ratio = (0.04 + 0.35 * busy + 0.01 * self.rng.normal()).clamp(0.0, 1.0);
            let bytes = (140.0 + 260.0 * busy + self.rng.normal()) * f64::from(1 << 30);
            cpu.push(point(time, Value::AsDouble((ratio * 1e6).round() / 1e6), &[]));
            memory.push(point(time, Value::AsInt(bytes as i64), &used));
            limit.push(point(time, Value::AsInt(HOST_MEMORY_BYTES), &[]));
        }
        vec![
            gauge("system.cpu.utilization", "1", cpu),
            up_down("system.memory.usage", "By", self.start_unix_nanos, memory),
            up_down("system.memory.limit", "By", self.start_unix_nanos, limit),
        ]
    }
}

/// What a service instance saw in a minute.
#[derive(Debug, Default)]
struct MinuteSeen {
    durations: Vec<f64>,
    first_tokens: Vec<f64>,
    pixels: Vec<f64>,
}

/// The points of a service instance of an hour.
#[derive(Debug, Default)]
struct Observed {
    durations: Vec<HistogramDataPoint>,
    first_tokens: Vec<HistogramDataPoint>,
    pixels: Vec<ExponentialHistogramDataPoint>,
    queue: Vec<NumberDataPoint>,
}

impl Observed {
    fn into_metrics(self) -> Vec<Metric> {
        let mut metrics = vec![
            histogram("http.server.request.duration", "s", self.durations),
            gauge("driftwatt.queue.length", "{request}", self.queue),
        ];
        if !self.first_tokens.is_empty() {
            metrics.push(histogram("gen_ai.server.time_to_first_token", "s", self.first_tokens));
        }
        if !self.pixels.is_empty() {
            metrics.push(exponential("driftwatt.input.pixels", "{pixel}", self.pixels));
        }
        metrics
    }
}
