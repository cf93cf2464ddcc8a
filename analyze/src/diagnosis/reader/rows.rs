//! Rows of the window from points: single requests joined by time, or means of intervals.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Desk, RowSource, bucket_counts,
    groups::Groups,
    kept::Kept,
    labels,
    latency_points::{Choice, Latency},
    points::{self, Point},
    series::Series,
};
use crate::{
    diagnosis::{
        latency_buckets::LatencyBuckets,
        service_window::{Dimension, Feature, Labels, REQUESTS_MAX},
    },
    error::Result,
    lineage::timeline::Timeline,
    window::{MINUTE_US, Window},
};

/// Latency and at most seven inputs.
const COLUMNS: usize = 8;
/// Longest interval of a row, minutes.
const INTERVAL_MINUTES_MAX: i64 = 60;
/// Series and their points by which a sampled gauge is told from single requests.
const SERIES_LOOKED_AT: usize = 64;
/// See [`SERIES_LOOKED_AT`].
const POINTS_LOOKED_AT: usize = 300;
/// Share of equal distances in time from which points are samples of a gauge.
const REGULAR_SHARE: f64 = 0.8;

/// Rows and what belongs to them.
pub(super) struct ReadRows {
    pub(super) source: RowSource,
    pub(super) minutes: Vec<u32>,
    pub(super) latency_ms: Vec<f32>,
    pub(super) weights: Vec<u32>,
    pub(super) buckets: Option<LatencyBuckets>,
    pub(super) features: Vec<Feature>,
    pub(super) labels: Vec<Labels>,
    pub(super) arrivals: Vec<f32>,
    /// Group of each row.
    groups: Vec<u32>,
    /// Labels of each group.
    group_labels: Vec<BTreeMap<String, String>>,
}

/// Sums of one row.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    counts: [f32; COLUMNS],
    sums: [f64; COLUMNS],
}

/// Reads the chosen metrics.
pub(super) async fn read(desk: &mut Desk<'_>, series: &[Series], choice: &Choice) -> Result<ReadRows> {
    let groups = Groups::new(series, choice);
    let Some(latency) = &choice.latency else { return Ok(ReadRows::nothing(desk)) };
    if groups.failed > 0.0 {
        desk.notes.push(format!("{:.0} requests that failed are left out", groups.failed));
    }
    let single = !latency.is_counted && choice.inputs.iter().all(|input| !input.is_counted);
    let interval = if single { 1 } else { interval_minutes(series, choice) };
    let mut collected = Collected::new(desk.span, desk.minute_count, single, interval);
    for (view, roles) in asked(latency, choice) {
        let whose = desk.whose.clone();
        let wanted = |one: &&Series| roles.contains(&one.role.as_str()) && groups.place(&one.role, one.id).is_some();
        let wanted: Vec<&Series> = series.iter().filter(wanted).collect();
        if !wanted.is_empty() {
            let take = |role: &str, point: &Point| collected.take(&groups, role, point);
            points::read(desk, view, &roles, &whose, &wanted, take).await?;
        }
    }
    if !latency.is_counted && collected.is_sampled_gauge() {
        desk.notes.push(format!(
            "{} is a gauge that is read at a fixed interval: it says nothing of single requests. Send the latency as a histogram, \
             or a point per request",
            latency.metric
        ));
        return Ok(ReadRows::nothing(desk));
    }
    let total_s = collected.latency_sum;
    let mut rows = collected.finish(choice, groups);
    if let RowSource::IntervalMeans { has_buckets, .. } = &mut rows.source
        && latency.is_counted
    {
        let compared = |one: &&Series| {
            one.role == latency.role && one.metric == latency.metric && !one.labels.contains_key("error.type")
        };
        let ids: HashSet<i64> = series.iter().filter(compared).map(|series| series.id).collect();
        rows.buckets = bucket_counts::read(desk, &latency.metric, &ids, total_s).await?;
        *has_buckets = rows.buckets.is_some();
    }
    Ok(rows)
}

/// Views with the roles that are read of each.
fn asked<'a>(latency: &'a Latency, choice: &'a Choice) -> Vec<(&'static str, Vec<&'static str>)> {
    let of = |view: &'static str| choice.inputs.iter().filter(move |input| input.view == view).map(|input| input.name);
    vec![("latency", std::iter::once(latency.role).chain(of("latency")).collect()), ("inputs", of("inputs").collect())]
}

/// Minutes between the points of the slowest metric, in its fastest series.
fn interval_minutes(series: &[Series], choice: &Choice) -> i64 {
    let latency = choice.latency.iter().map(|latency| (latency.role, latency.metric.as_str()));
    let wanted = latency.chain(choice.inputs.iter().map(|input| (input.name, input.metric.as_str())));
    let spacing = |(role, metric): (&str, &str)| {
        let of_metric =
            series.iter().filter(|series| series.role == role && series.metric == metric && series.points >= 5);
        let fastest =
            of_metric.map(|series| (series.times_us.1 - series.times_us.0) / (series.points as i64 - 1)).min();
        fastest.unwrap_or(MINUTE_US)
    };
    // An export that is a little late does not make an interval of two minutes.
    let slowest = wanted.map(spacing).max().unwrap_or(MINUTE_US) - MINUTE_US / 5;
    (slowest.div_euclid(MINUTE_US) + 1).clamp(1, INTERVAL_MINUTES_MAX)
}

/// What has been read so far.
struct Collected {
    span: Window,
    minute_count: usize,
    single: bool,
    interval: i64,
    cells: Kept<Cell>,
    arrivals: Vec<f64>,
    requests: f64,
    /// Seconds.
    latency_sum: f64,
    /// Times of the latency points of some series.
    times: HashMap<i64, Vec<i64>>,
}

impl Collected {
    fn new(span: Window, minute_count: usize, single: bool, interval: i64) -> Self {
        Self {
            span,
            minute_count,
            single,
            interval,
            cells: Kept::new(REQUESTS_MAX),
            arrivals: vec![f64::NAN; minute_count],
            requests: 0.0,
            latency_sum: 0.0,
            times: HashMap::new(),
        }
    }

    fn take(&mut self, groups: &Groups, role: &str, point: &Point) {
        let Some((group, column)) = groups.place(role, point.series) else { return };
        let minute = (point.time_us - self.span.start_us - 1).div_euclid(MINUTE_US);
        if minute < 0 || minute >= self.minute_count as i64 {
            return;
        }
        let (count, sum) = point.counted.unwrap_or((1.0, point.value));
        if count <= 0.0 {
            return;
        }
        if column == 0 {
            self.arrive(minute as usize, count);
            self.latency_sum += sum;
            self.look_at(point);
        }
        let key = if self.single { point.time_us } else { minute / self.interval };
        if let Some(cell) = self.cells.of((group, key)) {
            cell.counts[column] += count as f32;
            cell.sums[column] += sum;
        }
    }

    /// A point that speaks of several minutes arrives in all of them.
    fn arrive(&mut self, minute: usize, count: f64) {
        self.requests += count;
        let interval = self.interval as usize;
        let first = minute / interval * interval;
        let minutes = first..(first + interval).min(self.minute_count);
        let share = count / minutes.len() as f64;
        for arrivals in &mut self.arrivals[minutes] {
            *arrivals = if arrivals.is_nan() { share } else { *arrivals + share };
        }
    }

    fn look_at(&mut self, point: &Point) {
        if point.counted.is_none() && (self.times.len() < SERIES_LOOKED_AT || self.times.contains_key(&point.series)) {
            let times = self.times.entry(point.series).or_default();
            if times.len() < POINTS_LOOKED_AT {
                times.push(point.time_us);
            }
        }
    }

    /// Whether most points of most series have the same distance in time, a second or more.
    fn is_sampled_gauge(&self) -> bool {
        let regular = |times: &Vec<i64>| {
            let mut times = times.clone();
            times.sort_unstable();
            let mut distances: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            distances.sort_unstable();
            let middle = distances[distances.len() / 2];
            let near = distances.iter().filter(|distance| (**distance - middle).abs() <= middle / 20).count();
            middle >= 1_000_000 && near as f64 >= REGULAR_SHARE * distances.len() as f64
        };
        let looked_at: Vec<_> = self.times.values().filter(|times| times.len() >= 10).collect();
        !looked_at.is_empty() && 2 * looked_at.iter().filter(|times| regular(times)).count() >= looked_at.len()
    }

    fn finish(self, choice: &Choice, groups: Groups) -> ReadRows {
        let Self { single, interval, requests, span, .. } = self;
        let positive = |cell: &Cell| cell.counts[0] >= 1.0 && cell.sums[0] > 0.0;
        // Two requests of the same attributes and time cannot be told apart.
        let clear = |cell: &Cell| positive(cell) && (!single || cell.counts.iter().all(|count| *count <= 1.0));
        let cells = self.cells.finish(clear);
        let minute = |key: i64| if single { (key - span.start_us - 1) / MINUTE_US } else { key * interval };
        let mean = |cell: &Cell, column: usize| match cell.counts[column] {
            count if count > 0.0 => cell.sums[column] / f64::from(count),
            _ => f64::NAN,
        };
        let features = choice.inputs.iter().enumerate().map(|(at, input)| Feature {
            role: input.role,
            values: cells.iter().map(|(_, cell)| (mean(cell, at + 1) * input.factor) as f32).collect(),
        });
        let row_groups: Vec<u32> = cells.iter().map(|((group, _), _)| *group).collect();
        let weights = cells.iter().map(|(_, cell)| cell.counts[0].round().max(1.0) as u32).collect();
        let (requests, rows) = (requests.round() as u64, cells.len());
        let source = match (rows, single) {
            (0, _) => RowSource::Nothing,
            (_, true) => RowSource::SingleRequests { requests, rows },
            _ => RowSource::IntervalMeans { requests, rows, interval_minutes: interval as u32, has_buckets: false },
        };
        ReadRows {
            source,
            minutes: cells.iter().map(|((_, key), _)| minute(*key) as u32).collect(),
            latency_ms: cells.iter().map(|(_, cell)| (1e3 * mean(cell, 0)) as f32).collect(),
            weights: if single { Vec::new() } else { weights },
            buckets: None,
            features: features.collect(),
            labels: labels::labels(&groups.labels, &row_groups),
            arrivals: self.arrivals.iter().map(|arrivals| *arrivals as f32).collect(),
            groups: row_groups,
            group_labels: groups.labels,
        }
    }
}

impl ReadRows {
    fn nothing(desk: &Desk<'_>) -> Self {
        Self {
            source: RowSource::Nothing,
            minutes: Vec::new(),
            latency_ms: Vec::new(),
            weights: Vec::new(),
            buckets: None,
            features: Vec::new(),
            labels: Vec::new(),
            arrivals: vec![f32::NAN; desk.minute_count],
            groups: Vec::new(),
            group_labels: Vec::new(),
        }
    }

    /// Gives rows the version that ran at their time, where the requests do not carry one themselves.
    pub(super) fn add_versions(&mut self, timeline: Option<&Timeline>, span: Window) {
        let Some(timeline) = timeline else { return };
        if self.minutes.is_empty() || self.labels.iter().any(|labels| labels.dimension == Dimension::Version) {
            return;
        }
        let mut values: Vec<String> = Vec::new();
        let mut known: HashMap<(u32, u32), u16> = HashMap::new();
        let mut codes = Vec::with_capacity(self.minutes.len());
        for (&minute, &group) in self.minutes.iter().zip(&self.groups) {
            let code = *known.entry((minute, group)).or_insert_with(|| {
                let time_us = span.start_us + i64::from(minute) * MINUTE_US + MINUTE_US / 2;
                let instance =
                    self.group_labels.get(group as usize).and_then(|labels| labels.get("service_instance_id"));
                let status =
                    instance.map_or_else(|| timeline.at(time_us), |instance| timeline.at_instance(instance, time_us));
                let value = status.release().map_or("unknown", |release| &release.version);
                let place = values.iter().position(|other| other == value).unwrap_or_else(|| {
                    values.push(value.to_owned());
                    values.len() - 1
                });
                place as u16
            });
            codes.push(code);
        }
        if values.iter().any(|value| value != "unknown") {
            let name = "deployment".to_owned();
            self.labels.push(Labels { dimension: Dimension::Version, name, values, codes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(single: bool, interval: i64) -> Collected {
        Collected::new(Window { start_us: 0, end_us: 10 * MINUTE_US }, 10, single, interval)
    }

    #[test]
    fn a_point_at_the_end_of_a_minute_is_of_that_minute_and_one_of_several_minutes_of_all() {
        let mut of_one = collected(false, 1);
        of_one.arrive(0, 30.0);
        assert_eq!((of_one.arrivals[0], of_one.arrivals[1].is_nan()), (30.0, true));
        let mut of_five = collected(false, 5);
        of_five.arrive(4, 100.0);
        of_five.arrive(4, 50.0);
        assert_eq!(of_five.arrivals[..5], [30.0; 5]);
        assert!(of_five.arrivals[5].is_nan());
    }

    #[test]
    fn samples_of_a_gauge_are_no_requests() {
        let mut regular = collected(true, 1);
        let mut irregular = collected(true, 1);
        let mut rng = crate::simulated_fleet::Rng::new(1);
        let mut at = 0;
        for step in 0..100 {
            at += (2e6 * rng.uniform()) as i64;
            let point = |time_us| Point { series: 1, time_us, value: 1.0, counted: None };
            regular.look_at(&point(step * 15_000_000 + (rng.uniform() * 2e5) as i64));
            irregular.look_at(&point(at));
        }
        assert!(regular.is_sampled_gauge());
        assert!(!irregular.is_sampled_gauge());
    }
}
