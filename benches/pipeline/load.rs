//! What the clients send: OTLP requests of GPU nodes, encoded once; times and values are then written into the bytes.
//!
//! Protobuf keeps times and values at a fixed width, so a request costs the client a copy instead of an encoding, and the
//! clients leave the cores to the server that is measured.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
        number_data_point::Value,
    },
    resource::v1::Resource,
};
use prost::Message as _;

/// Clients that send at the same time.
pub(crate) const CLIENTS: u64 = 4;
/// Points of one request: [`SERIES`] series at [`TICKS`] times.
pub(crate) const POINTS_PER_REQUEST: u64 = SERIES * TICKS;

const SERIES: u64 = HOSTS * GPUS * METRICS.len() as u64;
const HOSTS: u64 = 10;
const GPUS: u64 = 10;
const TICKS: u64 = 4;
const TICK_NS: u64 = 15_000_000_000;
const DAY_NS: u64 = 86_400_000_000_000;
/// High half of the placeholders for times and values; not UTF-8, so no text of the request can hold it.
const MAGIC: u64 = 0xd21f_fad2;

/// Metric, unit, whether it is a counter.
const METRICS: [(&str, &str, bool); 5] = [
    ("hw.gpu.utilization", "1", false),
    ("hw.gpu.memory.usage", "By", false),
    ("hw.power", "W", false),
    ("hw.temperature", "Cel", false),
    ("hw.energy", "J", true),
];

/// Requests of one client.
pub(crate) struct Load {
    template: Vec<u8>,
    /// Where the time (even) and the value (odd) of each point are.
    offsets: Vec<usize>,
    walks: Vec<i64>,
    start_ns: u64,
    requests_made: u64,
    random: u64,
}

/// The clients' loads, `request_count` requests each: whole days before today, so that each run fills as many days.
pub(crate) fn loads(request_count: u64) -> anyhow::Result<Vec<Load>> {
    let now_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let days = (request_count * TICKS * TICK_NS).div_ceil(DAY_NS);
    let start_ns = (now_ns / DAY_NS).checked_sub(days).context("more points than there are days")? * DAY_NS;
    (0..CLIENTS).map(|client| Load::new(client, start_ns)).collect()
}

impl Load {
    fn new(client: u64, start_ns: u64) -> anyhow::Result<Self> {
        let resource_metrics = (0..HOSTS).map(|host| node(client, host, start_ns)).collect();
        let template = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
        let mut offsets = vec![None; (POINTS_PER_REQUEST * 2) as usize];
        for (offset, bytes) in template.windows(8).enumerate() {
            let bits = u64::from_le_bytes(bytes.try_into()?);
            if bits >> 32 == MAGIC {
                let slot = offsets.get_mut((bits & 0xffff_ffff) as usize).context("placeholder out of range")?;
                ensure!(slot.replace(offset).is_none(), "placeholder found twice");
            }
        }
        Ok(Self {
            template,
            offsets: offsets.into_iter().collect::<Option<_>>().context("placeholder not found")?,
            walks: vec![500; SERIES as usize],
            start_ns,
            requests_made: 0,
            random: 0x9e37_79b9_7f4a_7c15 + client,
        })
    }

    /// The body of the next request; its points follow those of the one before.
    pub(crate) fn next_body(&mut self) -> Vec<u8> {
        let mut body = self.template.clone();
        for point in 0..POINTS_PER_REQUEST {
            let tick = self.requests_made * TICKS + point % TICKS;
            let slot = (point * 2) as usize;
            let value = self.value((point / TICKS) as usize);
            for (offset, bits) in
                [(self.offsets[slot], self.start_ns + tick * TICK_NS), (self.offsets[slot + 1], value)]
            {
                body[offset..offset + 8].copy_from_slice(&bits.to_le_bytes());
            }
        }
        self.requests_made += 1;
        body
    }

    /// Bits of the next value of a series, with the resolution that such sensors have.
    fn value(&mut self, series: usize) -> u64 {
        let step = self.step();
        let walk = &mut self.walks[series];
        let metric = series / GPUS as usize % METRICS.len();
        if METRICS[metric].2 {
            *walk += 5000 + step;
            return walk.cast_unsigned();
        }
        *walk = (*walk + step / 4).clamp(0, 1000);
        match metric {
            0 => ((*walk / 10) as f64 / 100.0).to_bits(),
            1 => (*walk << 26).cast_unsigned(),
            2 => ((70_000 + *walk * 630 + step) as f64 / 1000.0).to_bits(),
            _ => ((30 + *walk / 20) as f64).to_bits(),
        }
    }

    /// Pseudo-random, −128 to 127 (xorshift64).
    fn step(&mut self) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 56) as i64 - 128
    }
}

fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    let value = any_value::Value::StringValue(value.into());
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Everything one host sends in a request.
fn node(client: u64, host: u64, start_ns: u64) -> ResourceMetrics {
    let name = format!("gpu-{client:02}-{host:03}");
    let attributes = vec![
        attribute("service.name", "gpu-node"),
        attribute("service.instance.id", format!("{name}-agent")),
        attribute("host.name", name),
        attribute("k8s.cluster.name", "bench"),
        attribute("k8s.node.name", format!("node-{client:02}-{host:03}.bench.internal")),
        attribute("deployment.environment.name", "production"),
        attribute("cloud.region", "eu-central-1"),
        attribute("driftwatt.team", "search"),
    ];
    let metrics = (0..METRICS.len() as u64).map(|metric| node_metric(client, host, metric, start_ns)).collect();
    let scope = InstrumentationScope { name: "bench".into(), version: "1".into(), ..InstrumentationScope::default() };
    ResourceMetrics {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }
}

fn node_metric(client: u64, host: u64, metric: u64, start_ns: u64) -> Metric {
    let (name, unit, counter) = METRICS[metric as usize];
    let first = (host * METRICS.len() as u64 + metric) * GPUS * TICKS;
    let point = |index: u64| {
        let gpu = index / TICKS;
        let placeholder = (MAGIC << 32) | ((first + index) * 2);
        let integer = matches!(metric, 1 | 4);
        NumberDataPoint {
            attributes: vec![
                attribute("hw.id", format!("GPU-{client:04x}-{host:04x}-{gpu:08x}")),
                attribute("hw.model", "NVIDIA H100 80GB HBM3"),
            ],
            start_time_unix_nano: if counter { start_ns } else { 0 },
            time_unix_nano: placeholder,
            value: Some(match integer {
                true => Value::AsInt((placeholder + 1).cast_signed()),
                false => Value::AsDouble(f64::from_bits(placeholder + 1)),
            }),
            ..NumberDataPoint::default()
        }
    };
    let data_points = (0..GPUS * TICKS).map(point).collect();
    let data = match counter {
        true => metric::Data::Sum(Sum {
            data_points,
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        false => metric::Data::Gauge(Gauge { data_points }),
    };
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Metric::default() }
}
