//! The last move of versions: before and after, and whether to go back.

mod cost;
mod inputs_drift;
mod requests;

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::{LineageRequest, accuracy::Labelled};
use crate::{
    diagnosis::{
        reader::{Reading, RowSource, Subject},
        report::{self as diagnosis_report, DiagnoseRequest, DiagnosisReport},
    },
    drift::{Filter, Side},
    error::Result,
    lineage::{
        deployment::{Release, Target},
        records::{EventRecord, ModelVersionRecord},
        rollback_advice::{Advice, Availability, advise},
        timeline::{Interval, Move, Timeline},
        version_card::{
            Between, CardRules, Estimate, LatencyBuckets, Measure, SideAggregates, Verdict, VersionCard, version_card,
        },
    },
    rows::{Rows, literal},
    window::{HOUR_US, MINUTE_US, Window},
};
use cost::CostQuestion;
use requests::RequestCounts;

/// Longest window on each side of a move.
const SIDE_US_MAX: i64 = 6 * HOUR_US;
/// Width of a bucket of single latencies: 1 %.
const BUCKET_GROWTH: f64 = 1.01;
/// Latencies that have a bucket of their own, milliseconds.
const BUCKETS_MS: (f64, f64) = (0.01, 3.6e6);

/// A move with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct MoveCard {
    /// What changed, and when.
    pub step: Move,
    /// Before and after; none where no requests could be read.
    pub card: Option<VersionCard>,
    /// Windows that were compared; none where one of them is empty.
    pub windows: Option<(Window, Window)>,
    /// What to do.
    pub advice: Option<Advice>,
    /// Why something is missing, as sentences.
    pub notes: Vec<String>,
}

/// Where a move is looked at.
pub(super) struct Place<'a> {
    pub(super) ctx: &'a SessionContext,
    pub(super) request: &'a LineageRequest,
    pub(super) target: &'a Target,
    /// Whether the service runs nowhere else.
    pub(super) is_only: bool,
    pub(super) timeline: &'a Timeline,
    pub(super) labels: &'a Labelled,
    /// What is known up to then, UTC microseconds.
    pub(super) at_us: i64,
}

/// What is known beside latency: sums of both sides, and why a measure has none.
#[derive(Default)]
struct Beside {
    between: Between,
    missing: BTreeMap<Measure, String>,
    notes: Vec<String>,
}

impl Place<'_> {
    /// The card of `step`.
    pub(super) async fn card(&self, step: Move) -> Result<MoveCard> {
        let nothing =
            |step: Move, why: String| MoveCard { step, card: None, windows: None, advice: None, notes: vec![why] };
        let Some((before, after)) = windows(self.timeline, &step, self.at_us) else {
            return Ok(nothing(step, "the windows before and after the move are too short to compare".to_owned()));
        };
        let filters = self.target.environment.iter();
        let filters = filters.map(|name| Filter::parse(&format!("deployment_environment={name}")));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let subject = Subject { service: self.request.service.clone(), filters };
        let span = Window::new(before.start_us, after.end_us)?;
        let question = DiagnoseRequest::new(subject.clone(), Some(span), Some(after.start_us), self.request.now_us)?;
        let report = match diagnosis_report::run(self.ctx, None, &question).await {
            Ok(report) => report,
            Err(error) if error.kind() == driftwatt_store::ErrorKind::Invalid => {
                return Ok(nothing(step, format!("before and after cannot be compared: {error}")));
            }
            Err(error) => return Err(error),
        };
        let mut sides = [before, after].map(|side| aggregates(&report.reading, side));
        let beside = self.beside(&report, &subject, &step, [before, after], &mut sides).await?;
        let releases = (step.from.clone(), step.to.clone());
        let mut card = version_card(releases, (&sides[0], &sides[1]), &beside.between, &CardRules::default());
        for row in card.rows.iter_mut().filter(|row| row.difference.is_none() && row.after.is_none()) {
            if let Some(why) = beside.missing.get(&row.measure) {
                row.verdict = Verdict::NotJudged(why.clone());
            }
        }
        self.reported_accuracy(&subject, (before, after), &mut card).await?;
        let availability = availability(self.ctx, &step.from, self.request.now_us).await?;
        let advice = advise(&card, self.timeline, (before, after), &availability);
        let notes = report.reading.notes.iter().cloned().chain(beside.notes).collect();
        Ok(MoveCard { step, card: Some(card), windows: Some((before, after)), advice: Some(advice), notes })
    }

    /// Reads errors, cost, accuracy and drift.
    async fn beside(
        &self,
        report: &DiagnosisReport,
        subject: &Subject,
        step: &Move,
        windows: [Window; 2],
        sides: &mut [SideAggregates; 2],
    ) -> Result<Beside> {
        let mut beside = Beside::default();
        beside.between.inputs_equal = report.diagnosis.comparison.as_ref().map(|comparison| {
            let part = comparison.conditional_ms;
            let n = comparison.counts.0.min(comparison.counts.1);
            Estimate { value: part.value, low: part.interval.0, high: part.interval.1, n }
        });
        let reading = &report.reading;
        let whose = whose(subject);
        let mut filters = subject.filters.clone();
        filters.push(Filter { key: "service_name".to_owned(), value: subject.service.clone() });
        let span = Window::new(windows[0].start_us, windows[1].end_us)?;
        let (latency, block_minutes) = match &reading.source {
            RowSource::Nothing => (None, 1),
            RowSource::SingleRequests { .. } => (reading.latency_metric.as_deref(), 1),
            RowSource::IntervalMeans { interval_minutes, .. } => {
                (reading.latency_metric.as_deref(), i64::from(*interval_minutes))
            }
        };
        let requests = RequestCounts::read(self.ctx, &whose, latency, span).await?;
        let question = CostQuestion {
            ctx: self.ctx,
            book: self.request.prices.as_ref(),
            service: &subject.service,
            simulated: reading.window.simulated,
            is_only: self.is_only,
            block_minutes,
            now_us: self.request.now_us,
        };
        let costs = question.read(&requests, windows).await?;
        let (stints, ran) = (self.stints(step), [&step.from, &step.to]);
        for (at, side) in sides.iter_mut().enumerate() {
            (side.errors, side.cost) = (requests.errors(windows[at]), costs.sides[at]);
            side.right = self.labels.of(ran[at], stints[at]);
        }
        let drift = inputs_drift::read(self.ctx, &whose, &filters, (windows[0], windows[1])).await?;
        beside.between.drift = drift.reading;
        let missing = [
            (Measure::ErrorShare, requests.unknown),
            (Measure::CostPerRequest, costs.missing),
            (Measure::Drift, drift.missing),
        ];
        beside.missing = missing.into_iter().filter_map(|(measure, why)| Some((measure, why?))).collect();
        beside.notes = [costs.note, drift.note].into_iter().flatten().collect();
        Ok(beside)
    }

    /// The whole time that each release ran around the move: labels are too few for hours.
    fn stints(&self, step: &Move) -> [Window; 2] {
        let runs = |release: &Release, interval: &&Interval| interval.status.release() == Some(release);
        let until = self.timeline.intervals.partition_point(|interval| interval.from_us < step.begin_us);
        let before = self.timeline.intervals[..until].iter().rev().take_while(|one| runs(&step.from, one)).last();
        let from = self.timeline.intervals.partition_point(|interval| interval.from_us < step.end_us);
        let after = self.timeline.intervals[from..].iter().take_while(|one| runs(&step.to, one)).last();
        let until_us = after.and_then(|interval| interval.to_us).unwrap_or(self.at_us).min(self.at_us);
        let start_us = before.map_or(step.begin_us, |interval| interval.from_us);
        [Window { start_us, end_us: step.begin_us }, Window { start_us: step.end_us, end_us: until_us }]
    }

    /// Where no label tells, the accuracy that the service reports is shown: a gauge says of how many predictions only with its
    /// maker, so nothing is concluded.
    async fn reported_accuracy(
        &self,
        subject: &Subject,
        (before, after): (Window, Window),
        card: &mut VersionCard,
    ) -> Result<()> {
        let Some(row) = card.rows.iter_mut().find(|row| row.measure == Measure::Accuracy && row.difference.is_none())
        else {
            return Ok(());
        };
        let condition = |window: Window| window.condition("time");
        let query = format!(
            "SELECT time >= {after_start} AS is_after, avg(value) AS accuracy, min(value) AS low, max(value) AS high, count(*) AS n \
             FROM models WHERE role = 'model.accuracy' AND ({} OR {}) AND {} AND value IS NOT NULL GROUP BY 1",
            condition(before),
            condition(after),
            whose(subject),
            after_start = crate::window::time_literal(after.start_us),
        );
        let rows = Rows::query(self.ctx, &query).await?;
        let (is_after, means) = (rows.flags("is_after")?, rows.numbers("accuracy")?);
        let (lows, highs, counts) = (rows.numbers("low")?, rows.numbers("high")?, rows.integers("n")?);
        for at in 0..rows.len() {
            let (Some(value), Some(low), Some(high)) = (means[at], lows[at], highs[at]) else { continue };
            let found = Estimate { value, low, high, n: counts[at].unwrap_or(0).unsigned_abs() };
            if is_after[at] { row.after = Some(found) } else { row.before = Some(found) }
        }
        if row.before.is_some() || row.after.is_some() {
            row.verdict = Verdict::NotJudged(
                "the service reports it without saying of how many predictions (lowest and highest report in brackets): send \
                 labels (POST /api/v1/labels, driftwatt labels FILE)"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// SQL that selects what is of the subject in a view.
fn whose(subject: &Subject) -> String {
    let side = Side { windows: Vec::new(), filters: subject.filters.clone() };
    format!("service_name = {}{}", literal(&subject.service), side.filter_sql())
}

/// Before and after, as far as one release each is known to have run.
fn windows(timeline: &Timeline, step: &Move, at_us: i64) -> Option<(Window, Window)> {
    let whole = |time_us: i64| time_us.div_euclid(MINUTE_US) * MINUTE_US;
    let known = |release: &Release, time_us: i64| {
        let holds = |interval: &&Interval| {
            interval.status.release() == Some(release)
                && interval.from_us <= time_us
                && interval.to_us.is_none_or(|to_us| to_us > time_us)
        };
        timeline.intervals.iter().find(holds)
    };
    let from = known(&step.from, step.begin_us - 1)?;
    let to = known(&step.to, step.end_us)?;
    let before_us = (step.begin_us - SIDE_US_MAX).max(from.from_us);
    let after_us = (step.end_us + SIDE_US_MAX).min(to.to_us.unwrap_or(at_us)).min(at_us);
    let before = Window::new(whole(before_us + MINUTE_US - 1), whole(step.begin_us)).ok()?;
    let after = Window::new(whole(step.end_us + MINUTE_US - 1), whole(after_us)).ok()?;
    Some((before, after))
}

/// Sums of one side. The minutes of the reading begin at its span.
fn aggregates(reading: &Reading, side: Window) -> SideAggregates {
    let window = &reading.window;
    let minute = |time_us: i64| usize::try_from((time_us - reading.span.start_us) / MINUTE_US).unwrap_or(0);
    let (from, to) = (minute(side.start_us), minute(side.end_us));
    let mut sums = SideAggregates { window_minutes: (to - from) as u64, ..SideAggregates::default() };
    let mut edges = Vec::new();
    let mut edge = BUCKETS_MS.0;
    while edge < BUCKETS_MS.1 {
        edges.push(edge);
        edge *= BUCKET_GROWTH;
    }
    let mut counts = vec![0u64; edges.len() + 1];
    let rows = window.rows(from, to);
    let mut at = rows.start;
    while at < rows.end {
        let of_minute = window.minutes[at];
        let (mut latency_ms, mut requests) = (0.0, 0u64);
        while at < rows.end && window.minutes[at] == of_minute {
            let (ms, weight) = (f64::from(window.latency_ms[at]), window.weight(at));
            latency_ms += ms * weight as f64;
            requests += weight;
            if !window.is_aggregated() {
                sums.latency_ms_squared += ms * ms;
                counts[edges.partition_point(|edge| *edge < ms)] += 1;
            }
            at += 1;
        }
        sums.latency_ms.add_minute(latency_ms, requests);
        sums.minutes_seen += 1;
    }
    // Means of intervals tell no quantile; what was counted by bucket does.
    if window.is_aggregated() {
        if let Some(buckets) = &window.buckets {
            sums.latency_buckets = buckets.card_buckets(from..to);
        }
    } else {
        sums.latency_buckets = LatencyBuckets { bounds_ms: edges, counts };
    }
    sums
}

async fn availability(ctx: &SessionContext, release: &Release, now_us: i64) -> Result<Availability> {
    if EventRecord::last_registry_read(ctx, now_us).await?.is_none() {
        return Ok(Availability::NotKnown);
    }
    Ok(match ModelVersionRecord::of_release(ctx, release, now_us).await? {
        None => Availability::NotUsable("the registry does not have it under this name".to_owned()),
        Some(row) if row.is_deleted() => Availability::NotUsable("it was deleted from the registry".to_owned()),
        Some(row) => match row.status.as_deref() {
            Some("ready") => Availability::Ready,
            Some(status) => Availability::NotUsable(format!("the registry has it as {status}")),
            None => Availability::NotKnown,
        },
    })
}
