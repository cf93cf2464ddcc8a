//! Points as GPU nodes send them: a bench on constant or purely random values would say nothing about size.

use std::sync::Arc;

use driftwatt_store::{
    AttributeValue, Attributes, Kind, SampleColumns, Series, SeriesDefinition, Temporality, WriteBatch,
};

/// 2026-11-23T00:00:00Z; a fixed day, so that every run writes the same partitions.
const START_US: i64 = 1_795_392_000_000_000;
const INTERVAL_US: i64 = 15_000_000;

/// Metric, unit, kind.
const METRICS: [(&str, &str, Kind); 5] = [
    ("hw.gpu.utilization", "1", Kind::Gauge),
    ("hw.gpu.memory.usage", "By", Kind::Gauge),
    ("hw.power", "W", Kind::Gauge),
    ("hw.temperature", "Cel", Kind::Gauge),
    ("hw.energy", "J", Kind::Sum),
];

/// Some series and where their values have got to.
pub(crate) struct Fleet {
    series: Vec<Arc<Series>>,
    walks: Vec<i64>,
    ticks: i64,
    random: u64,
}

fn text(pairs: &[(&str, String)]) -> Attributes {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), AttributeValue::String(value.clone()))).collect()
}

fn series(fleet: usize, index: usize) -> Arc<Series> {
    let (metric, unit, kind) = METRICS[index % METRICS.len()];
    let gpu = index / METRICS.len();
    let monotonic = kind == Kind::Sum;
    Series::new(SeriesDefinition {
        metric: metric.into(),
        unit: unit.into(),
        description: "".into(),
        kind,
        temporality: if monotonic { Temporality::Cumulative } else { Temporality::Unspecified },
        monotonic,
        bounds: vec![],
        resource: text(&[
            ("service.name", "gpu-node".into()),
            ("host.name", format!("gpu-{fleet:02}-{:03}", gpu / 8)),
            ("k8s.cluster.name", "bench".into()),
            ("deployment.environment.name", "production".into()),
        ])
        .into(),
        scope_name: "bench".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: text(&[("hw.id", format!("GPU-{fleet:04x}-{gpu:08x}")), ("hw.model", "NVIDIA H100 80GB HBM3".into())]),
    })
}

impl Fleet {
    /// `series_count` series; fleets of different `number` share none.
    pub(crate) fn new(number: usize, series_count: usize) -> Self {
        let series = (0..series_count).map(|index| series(number, index)).collect();
        Self { series, walks: vec![500; series_count], ticks: 0, random: 0x9e37_79b9_7f4a_7c15 + number as u64 }
    }

    /// The next `tick_count` points of every series, in time order.
    pub(crate) fn batch(&mut self, tick_count: usize) -> WriteBatch {
        let mut samples = SampleColumns::default();
        for index in 0..self.series.len() {
            for tick in 0..tick_count as i64 {
                let (bits, form) = self.value(index);
                let time = START_US + (self.ticks + tick) * INTERVAL_US;
                let start_time = if self.series[index].definition.monotonic { START_US } else { 0 };
                samples.push(index as u32, start_time, time, bits, form);
            }
        }
        self.ticks += tick_count as i64;
        WriteBatch { series: self.series.clone(), samples, ..WriteBatch::default() }
    }

    fn value(&mut self, index: usize) -> (u64, u8) {
        let step = self.step();
        let walk = &mut self.walks[index];
        if index % METRICS.len() == 4 {
            *walk += 5000 + step;
            return (walk.cast_unsigned(), SampleColumns::INT);
        }
        *walk = (*walk + step / 4).clamp(0, 1000);
        let value = match index % METRICS.len() {
            0 => (*walk / 10) as f64 / 100.0,
            1 => return ((*walk << 26).cast_unsigned(), SampleColumns::INT),
            2 => (70_000 + *walk * 630 + step) as f64 / 1000.0,
            _ => (30 + *walk / 20) as f64,
        };
        (value.to_bits(), SampleColumns::DOUBLE)
    }

    /// Pseudo-random, −128 to 127 (xorshift64).
    fn step(&mut self) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 56) as i64 - 128
    }
}
