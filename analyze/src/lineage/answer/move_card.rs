//! The last move of versions: before and after, and whether to go back.

use datafusion::prelude::SessionContext;

use super::LineageRequest;
use crate::{
    diagnosis::{
        reader::{Reading, Subject},
        report::{self as diagnosis_report, DiagnoseRequest},
    },
    drift::Filter,
    error::Result,
    lineage::{
        deployment::{Release, Target},
        records::{EventRecord, ModelVersionRecord},
        rollback_advice::{Advice, Availability, advise},
        timeline::{Move, Timeline},
        version_card::{
            CardRules, Estimate, LatencyBuckets, Measure, SideAggregates, Verdict, VersionCard, version_card,
        },
    },
    window::{HOUR_US, MINUTE_US, Window},
};

/// Longest window on each side of a move.
const SIDE_US_MAX: i64 = 6 * HOUR_US;
/// Measures that need more than requests and inputs.
const NOT_READ: [Measure; 4] = [Measure::CostPerRequest, Measure::ErrorShare, Measure::Accuracy, Measure::Drift];
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

/// The card of `step`, of what is known up to `at_us`.
pub(super) async fn read(
    ctx: &SessionContext,
    request: &LineageRequest,
    target: &Target,
    timeline: &Timeline,
    step: Move,
    at_us: i64,
) -> Result<MoveCard> {
    let nothing =
        |step: Move, why: String| MoveCard { step, card: None, windows: None, advice: None, notes: vec![why] };
    let Some((before, after)) = windows(timeline, &step, at_us) else {
        return Ok(nothing(step, "the windows before and after the move are too short to compare".to_owned()));
    };
    let filters = target.environment.iter().map(|name| Filter::parse(&format!("deployment_environment={name}")));
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    let subject = Subject { service: request.service.clone(), filters };
    let span = Window::new(before.start_us, after.end_us)?;
    let question = DiagnoseRequest::new(subject, Some(span), Some(after.start_us), request.now_us)?;
    let report = match diagnosis_report::run(ctx, None, &question).await {
        Ok(report) => report,
        Err(error) if error.kind() == driftwatt_store::ErrorKind::Invalid => {
            return Ok(nothing(step, format!("before and after cannot be compared: {error}")));
        }
        Err(error) => return Err(error),
    };
    let sides = [before, after].map(|side| aggregates(&report.reading, side));
    let inputs_equal = report.diagnosis.comparison.as_ref().map(|comparison| {
        let part = comparison.conditional_ms;
        let n = comparison.counts.0.min(comparison.counts.1);
        Estimate { value: part.value, low: part.interval.0, high: part.interval.1, n }
    });
    let releases = (step.from.clone(), step.to.clone());
    let mut card = version_card(releases, (&sides[0], &sides[1]), inputs_equal, &CardRules::default());
    for row in card.rows.iter_mut().filter(|row| NOT_READ.contains(&row.measure)) {
        row.verdict = Verdict::NotJudged("not examined by this answer".to_owned());
    }
    let availability = availability(ctx, &step.from, request.now_us).await?;
    let advice = advise(&card, timeline, (before, after), &availability);
    let notes = report.reading.notes.clone();
    Ok(MoveCard { step, card: Some(card), windows: Some((before, after)), advice: Some(advice), notes })
}

/// Before and after, as far as one release each is known to have run.
fn windows(timeline: &Timeline, step: &Move, at_us: i64) -> Option<(Window, Window)> {
    let whole = |time_us: i64| time_us.div_euclid(MINUTE_US) * MINUTE_US;
    let known = |release: &Release, time_us: i64| {
        let holds = |interval: &&crate::lineage::timeline::Interval| {
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
