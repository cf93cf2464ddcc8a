//! Random requests: old and new series of every kind, points in and out of order, late, repeated, around midnight.

use std::sync::Arc;

use super::rng::Rng;
use crate::{
    memtable::DAY_US,
    series::{AttributeValue, Kind, Series, SeriesDefinition, Temporality},
    write_batch::{HistogramPoint, HistogramShape, Rejection, SampleColumns, WriteBatch},
};

/// A UTC midnight.
pub(super) const MIDNIGHT: i64 = 20_781 * DAY_US;

/// A request that can be told from every other: its marker is a point that no other request has.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) batch: WriteBatch,
    pub(super) marker_time: i64,
}

/// Makes requests.
#[derive(Debug)]
pub(super) struct Load {
    series: Vec<Arc<Series>>,
    /// Times go on from here.
    now: i64,
    request_count: i64,
    pub(super) sent: Vec<Request>,
}

fn series(kind: Kind, index: usize) -> Arc<Series> {
    let cumulative = matches!(kind, Kind::Sum | Kind::Histogram);
    Series::new(SeriesDefinition {
        metric: format!("{}.{}", kind.as_str(), index % 3).into(),
        unit: "1".into(),
        description: "".into(),
        kind,
        temporality: if cumulative { Temporality::Cumulative } else { Temporality::Unspecified },
        monotonic: kind == Kind::Sum,
        bounds: if kind == Kind::Histogram { vec![1.0, 2.0] } else { vec![] },
        resource: vec![("host.name".into(), AttributeValue::String(format!("h{}", index % 4)))].into(),
        scope_name: "".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: vec![("index".into(), AttributeValue::Int(index as i64))],
    })
}

/// The series of every marker.
pub(super) fn marker_series() -> Arc<Series> {
    let mut definition = series(Kind::Gauge, 0).definition.clone();
    definition.metric = "marker".into();
    Series::new(definition)
}

const KINDS: [Kind; 5] = [Kind::Gauge, Kind::Sum, Kind::Histogram, Kind::ExponentialHistogram, Kind::Summary];

impl Load {
    pub(super) fn new() -> Self {
        let series = (0..12).map(|index| series(KINDS[index % KINDS.len()], index)).collect();
        Self { series, now: MIDNIGHT - 3_600_000_000, request_count: 0, sent: Vec::new() }
    }

    /// A new request, remembered so that it can be sent again.
    pub(super) fn request(&mut self, rng: &mut Rng) -> Request {
        let marker_time = MIDNIGHT + DAY_US / 2 + self.request_count;
        self.request_count += 1;
        let mut batch = WriteBatch { series: vec![marker_series()], ..WriteBatch::default() };
        batch.samples.push(0, 0, marker_time, 1, SampleColumns::INT);
        for _ in 0..rng.below(4) {
            let series = self.pick_series(rng);
            let index = match batch.series.iter().position(|known| known.id == series.id) {
                Some(index) => index as u32,
                None => {
                    batch.series.push(Arc::clone(&series));
                    batch.series.len() as u32 - 1
                }
            };
            for _ in 0..rng.below(5) {
                let (start_time, time) = (self.start_time(rng, &series), self.time(rng));
                push_point(rng, &mut batch, index, start_time, time);
                if rng.percent(10) {
                    // The same point twice in one request: the second stays.
                    push_point(rng, &mut batch, index, start_time, time);
                }
            }
        }
        if rng.percent(15) {
            batch.rejections.push(Rejection {
                time: self.time(rng),
                reason: "value_missing".into(),
                metric: "refused".into(),
                count: 1 + rng.below(9),
                message: "set a value".into(),
            });
        }
        let request = Request { batch, marker_time };
        self.sent.push(request.clone());
        request
    }

    /// The identities of `request` with other values, as an exporter that corrects itself sends them.
    pub(super) fn corrected(&mut self, rng: &mut Rng, request: &Request) -> WriteBatch {
        let old = &request.batch;
        let mut batch = WriteBatch { series: old.series.clone(), ..WriteBatch::default() };
        let samples = &old.samples;
        for row in 0..samples.len() {
            push_point(rng, &mut batch, samples.series[row], samples.start_time[row], samples.time[row]);
        }
        for point in &old.histograms {
            push_point(rng, &mut batch, point.series, point.start_time, point.time);
        }
        batch
    }

    fn pick_series(&mut self, rng: &mut Rng) -> Arc<Series> {
        if rng.percent(15) {
            let index = self.series.len();
            self.series.push(series(*rng.pick(&KINDS), index));
            return Arc::clone(&self.series[index]);
        }
        Arc::clone(rng.pick(&self.series))
    }

    fn start_time(&self, rng: &mut Rng, series: &Series) -> i64 {
        match series.definition.temporality {
            Temporality::Cumulative => MIDNIGHT - DAY_US + rng.below(2) as i64,
            _ => 0,
        }
    }

    fn time(&mut self, rng: &mut Rng) -> i64 {
        match rng.below(10) {
            0 | 1 => MIDNIGHT - 2 + rng.below(4) as i64,
            2 => MIDNIGHT - 2 * DAY_US + rng.below(2 * DAY_US as u64) as i64,
            // A small grid, so that independent requests meet at one identity.
            3 => MIDNIGHT + rng.below(20) as i64 * 1_000_000,
            _ => {
                self.now += 1 + rng.below(300_000_000) as i64;
                self.now
            }
        }
    }
}

fn double(rng: &mut Rng) -> f64 {
    match rng.below(8) {
        0 => 0.0,
        1 => -0.0,
        2 => f64::from_bits(0x7ff8_0000_0000_0000 | rng.below(1 << 51)),
        3 => f64::INFINITY,
        4 => f64::from_bits(rng.bits()),
        _ => rng.below(1000) as f64 / 8.0,
    }
}

fn counts(rng: &mut Rng) -> Vec<u64> {
    (0..rng.below(4)).map(|_| if rng.percent(5) { rng.bits() } else { rng.below(9) }).collect()
}

fn push_point(rng: &mut Rng, batch: &mut WriteBatch, series: u32, start_time: i64, time: i64) {
    let shape = match batch.series[series as usize].definition.kind {
        Kind::Gauge | Kind::Sum => {
            let (bits, form) = match rng.below(6) {
                0 => (rng.bits(), SampleColumns::INT),
                1 => (rng.below(100), SampleColumns::INT),
                2 => (0, SampleColumns::NO_VALUE),
                _ => (double(rng).to_bits(), SampleColumns::DOUBLE),
            };
            batch.samples.push(series, start_time, time, bits, form);
            return;
        }
        Kind::Histogram => HistogramShape::Explicit { counts: counts(rng) },
        Kind::ExponentialHistogram => HistogramShape::Exponential {
            scale: rng.below(20) as i32 - 10,
            zero_count: rng.below(3),
            zero_threshold: double(rng),
            positive_offset: rng.below(100) as i32 - 50,
            positive_counts: counts(rng),
            negative_offset: rng.below(100) as i32 - 50,
            negative_counts: counts(rng),
        },
        Kind::Summary => {
            let quantiles: Vec<f64> = (0..rng.below(4)).map(|n| n as f64 / 4.0).collect();
            HistogramShape::Summary { values: quantiles.iter().map(|_| double(rng)).collect(), quantiles }
        }
    };
    let some = |rng: &mut Rng| rng.percent(70).then(|| double(rng));
    batch.histograms.push(HistogramPoint {
        series,
        start_time,
        time,
        recorded: !rng.percent(10),
        count: rng.bits(),
        sum: some(rng),
        min: some(rng),
        max: some(rng),
        shape,
    });
}
