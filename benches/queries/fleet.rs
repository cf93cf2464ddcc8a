//! What the questions are asked about.

use std::{ops::Range, sync::Arc};

use driftwatt_store::{
    AttributeValue, Attributes, Kind, SampleColumns, Series, SeriesDefinition, Temporality, WriteBatch,
};

pub(crate) const METRIC: &str = "hw.gpu.utilization";
/// 2026-11-16T00:00:00Z, a Monday; fixed, so that every run writes the same partitions.
pub(crate) const START_US: i64 = 1_794_787_200_000_000;
pub(crate) const DAYS: usize = 7;
pub(crate) const TICKS_PER_DAY: usize = 24 * 240;
const INTERVAL_US: i64 = 15_000_000;
const GPUS_PER_HOST: usize = 4;

fn text(pairs: &[(&str, String)]) -> Attributes {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), AttributeValue::String(value.clone()))).collect()
}

fn series(resource: &[(&str, String)], point: &[(&str, String)]) -> Arc<Series> {
    series_of(METRIC, Kind::Gauge, Temporality::Unspecified, &[], resource, point)
}

pub(crate) fn series_of(
    metric: &str,
    kind: Kind,
    temporality: Temporality,
    bounds: &[f64],
    resource: &[(&str, String)],
    point: &[(&str, String)],
) -> Arc<Series> {
    Series::new(SeriesDefinition {
        metric: metric.into(),
        unit: "1".into(),
        description: "".into(),
        kind,
        temporality,
        monotonic: false,
        bounds: bounds.to_vec(),
        resource: text(resource).into(),
        scope_name: "bench".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: text(point),
    })
}

/// GPUs whose utilisation walks in whole percent.
pub(crate) struct Fleet {
    series: Vec<Arc<Series>>,
    walks: Vec<i64>,
    ticks: i64,
    random: u64,
}

impl Fleet {
    pub(crate) fn new(host_count: usize) -> Self {
        let gpu = |index: usize| {
            let host =
                [("host.name", format!("gpu-{:04}", index / GPUS_PER_HOST)), ("service.name", "bench".to_owned())];
            series(&host, &[("hw.id", format!("GPU-{index:08x}"))])
        };
        let series: Vec<_> = (0..host_count * GPUS_PER_HOST).map(gpu).collect();
        Self { walks: vec![50; series.len()], series, ticks: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Ids as the tables show them.
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.series.iter().map(|series| series.id.0.cast_signed()).collect()
    }

    /// The next `tick_count` points of every series.
    pub(crate) fn batch(&mut self, tick_count: usize) -> WriteBatch {
        let mut samples = SampleColumns::default();
        for (index, walk) in self.walks.iter_mut().enumerate() {
            for tick in 0..tick_count as i64 {
                // xorshift64
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                *walk = (*walk + (self.random >> 61) as i64 - 3).clamp(0, 100);
                let value = *walk as f64 / 100.0;
                let time = START_US + (self.ticks + tick) * INTERVAL_US;
                samples.push(index as u32, 0, time, value.to_bits(), SampleColumns::DOUBLE);
            }
        }
        self.ticks += tick_count as i64;
        WriteBatch { series: self.series.clone(), samples, ..WriteBatch::default() }
    }
}

/// One point of each series of `range`: pods on a thousand nodes, in 64 shards.
pub(crate) fn labelled(range: Range<usize>) -> WriteBatch {
    let mut samples = SampleColumns::default();
    (0..range.len()).for_each(|index| samples.push(index as u32, 0, START_US, 1f64.to_bits(), SampleColumns::DOUBLE));
    let pod = |index: usize| {
        let resource = [
            ("k8s.node.name", format!("node-{:04}", index % 1000)),
            ("k8s.namespace.name", format!("team-{:02}", index % 40)),
            ("k8s.pod.name", format!("pod-{index:07}")),
        ];
        series(&resource, &[("shard", format!("{}", index % 64))])
    };
    WriteBatch { series: range.map(pod).collect(), samples, ..WriteBatch::default() }
}
