//! The card: one row for each measure, judged.

use super::super::deployment::Release;
use super::estimate::{Estimate, difference};
use super::sums::{LatencyBuckets, MinuteSums};

/// Change of the cost of an hour from which a unit cost moved by more than the load.
const HOURLY_COST_SHARE: f64 = 0.05;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Mean latency, milliseconds.
    LatencyMean,
    /// Median latency, milliseconds.
    LatencyP50,
    /// 95th percentile of latency, milliseconds.
    LatencyP95,
    /// Mean latency at equal inputs, milliseconds: what remains of the difference once inputs are held equal.
    LatencyInputsEqual,
    /// Cost per request, in the currency of the price book.
    CostPerRequest,
    /// Share of failed requests.
    ErrorShare,
    /// Share of right answers among those with a label.
    Accuracy,
    /// Drift score of the inputs after the move, against those before.
    Drift,
}

impl Measure {
    fn higher_is_better(self) -> bool {
        self == Self::Accuracy
    }
}

/// What a difference means.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Better, and the interval excludes no change.
    Better,
    /// Worse, and the interval excludes no change.
    Worse,
    /// The interval includes no change.
    NoDifference,
    /// Another than before, which is neither better nor worse.
    Changed,
    /// Not judged, with the reason and what to send.
    NotJudged(String),
}

/// One measure before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What.
    pub measure: Measure,
    /// Before the move; `None` where it was not measured.
    pub before: Option<Estimate>,
    /// After the move; `None` where it was not measured.
    pub after: Option<Estimate>,
    /// After minus before; `None` where a side is missing.
    pub difference: Option<Estimate>,
    /// What that means.
    pub verdict: Verdict,
}

/// How the inputs after the move differ from those before, as the drift job sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftReading {
    /// The score; its measure is that of the drift job.
    pub score: f64,
    /// Whether that job calls it drift; none where it stands on too little.
    pub is_drift: Option<bool>,
    /// Values of the smaller side.
    pub n: u64,
}

/// What is compared between the sides, and not on each of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Between {
    /// The part of the change of mean latency, milliseconds, that remains at equal inputs, from the split of the verdict.
    pub inputs_equal: Option<Estimate>,
    /// Drift of the inputs.
    pub drift: Option<DriftReading>,
}

/// Sums of one side of the move.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SideAggregates {
    /// Minutes of the window.
    pub window_minutes: u64,
    /// Minutes of the window in which any host sent telemetry.
    pub minutes_seen: u64,
    /// Latency of each request, milliseconds, summed by minute.
    pub latency_ms: MinuteSums,
    /// Sum of squared latencies of single requests, ms²; 0 where it was not kept.
    pub latency_ms_squared: f64,
    /// Latency by bucket.
    pub latency_buckets: LatencyBuckets,
    /// Cost, in the currency of the price book.
    pub cost: MinuteSums,
    /// Failed requests.
    pub errors: MinuteSums,
    /// Right answers, of requests with a label.
    pub right: MinuteSums,
}

impl SideAggregates {
    /// Share of the window's minutes with telemetry, 0 to 1.
    pub fn coverage(&self) -> f64 {
        if self.window_minutes == 0 { 0.0 } else { (self.minutes_seen as f64 / self.window_minutes as f64).min(1.0) }
    }

    /// How much more the minutes differ than independent requests would; 1 where it is not known.
    fn design_effect(&self) -> f64 {
        let Some(mean) = self.latency_ms.mean() else { return 1.0 };
        let n = self.latency_ms.n;
        let variance_of_mean = (self.latency_ms_squared / n - mean.value * mean.value) / n;
        let between_minutes = ((mean.high - mean.value) / super::estimate::Z_95).powi(2);
        if variance_of_mean > 0.0 { (between_minutes / variance_of_mean).max(1.0) } else { 1.0 }
    }
}

/// When a difference is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CardRules {
    /// Requests on each side. Default 500.
    pub requests_min: u64,
    /// Minutes on each side. Default 20.
    pub minutes_min: u64,
    /// Share of the minutes with telemetry, on each side. Default 0.8.
    pub coverage_min: f64,
    /// Labels on each side, after their weights. Default 100.
    pub labels_min: u64,
}

impl Default for CardRules {
    fn default() -> Self {
        Self { requests_min: 500, minutes_min: 20, coverage_min: 0.8, labels_min: 100 }
    }
}

/// Before and after one move.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionCard {
    /// Release before.
    pub from: Release,
    /// Release after.
    pub to: Release,
    /// Share of minutes with telemetry before, 0 to 1.
    pub coverage_before: f64,
    /// The same after.
    pub coverage_after: f64,
    /// Requests before.
    pub requests_before: u64,
    /// Requests after.
    pub requests_after: u64,
    /// One row for each measure.
    pub rows: Vec<Row>,
}

impl VersionCard {
    /// The row of a measure.
    pub fn row(&self, measure: Measure) -> Option<&Row> {
        self.rows.iter().find(|row| row.measure == measure)
    }
}

/// Compares two windows around the move from `from` to `to`. What is missing has a row that says so.
pub fn version_card(
    (from, to): (Release, Release),
    (before, after): (&SideAggregates, &SideAggregates),
    between: &Between,
    rules: &CardRules,
) -> VersionCard {
    let judge = Judge { before, after, rules };
    let quantile = |side: &SideAggregates, q: f64| side.latency_buckets.quantile(q, side.design_effect());
    let quantiles = |q: f64| (quantile(before, q), quantile(after, q));
    let latency = (&before.latency_ms, &after.latency_ms);
    let rows = vec![
        judge.row(Measure::LatencyMean, (before.latency_ms.mean(), after.latency_ms.mean()), latency),
        judge.row(Measure::LatencyP50, quantiles(0.5), latency),
        judge.row(Measure::LatencyP95, quantiles(0.95), latency),
        judge.inputs_equal(between.inputs_equal),
        judge.cost(),
        judge.row(Measure::ErrorShare, (before.errors.share(), after.errors.share()), (&before.errors, &after.errors)),
        judge.accuracy(),
        judge.drift(between.drift),
    ];
    VersionCard {
        from,
        to,
        coverage_before: before.coverage(),
        coverage_after: after.coverage(),
        requests_before: before.latency_ms.n as u64,
        requests_after: after.latency_ms.n as u64,
        rows,
    }
}

struct Judge<'a> {
    before: &'a SideAggregates,
    after: &'a SideAggregates,
    rules: &'a CardRules,
}

impl Judge<'_> {
    fn row(
        &self,
        measure: Measure,
        (before, after): (Option<Estimate>, Option<Estimate>),
        sums: (&MinuteSums, &MinuteSums),
    ) -> Row {
        let difference = before.zip(after).map(|(before, after)| difference(&before, &after));
        let verdict = match (difference, self.too_little(sums)) {
            (_, Some(reason)) => Verdict::NotJudged(reason),
            (None, None) => Verdict::NotJudged(not_measured(measure).to_owned()),
            (Some(difference), None) => verdict(measure, &difference),
        };
        Row { measure, before, after, difference, verdict }
    }

    fn inputs_equal(&self, difference: Option<Estimate>) -> Row {
        let measure = Measure::LatencyInputsEqual;
        let verdict = match (difference, self.too_little((&self.before.latency_ms, &self.after.latency_ms))) {
            (None, _) => Verdict::NotJudged(not_measured(measure).to_owned()),
            (Some(_), Some(reason)) => Verdict::NotJudged(reason),
            (Some(difference), None) => verdict(measure, &difference),
        };
        Row { measure, before: None, after: None, difference, verdict }
    }

    /// A unit cost falls and rises with the load, of which a release is innocent: it is judged where the cost of an hour moved, too.
    fn cost(&self) -> Row {
        let sums = (&self.before.cost, &self.after.cost);
        let mut row = self.row(Measure::CostPerRequest, (sums.0.mean(), sums.1.mean()), sums);
        let an_hour = |side: &SideAggregates| 60.0 * side.cost.x / side.window_minutes.max(1) as f64;
        let (before, after) = (an_hour(self.before), an_hour(self.after));
        let is_of_load = match row.verdict {
            Verdict::Worse => after <= before * (1.0 + HOURLY_COST_SHARE),
            Verdict::Better => after >= before * (1.0 - HOURLY_COST_SHARE),
            _ => false,
        };
        if is_of_load {
            let an_hour = |sums: &MinuteSums, side: &SideAggregates| 60.0 * sums.n / side.window_minutes.max(1) as f64;
            let (requests_before, requests_after) = (an_hour(sums.0, self.before), an_hour(sums.1, self.after));
            row.verdict = Verdict::NotJudged(format!(
                "it moved with the load ({requests_before:.0} -> {requests_after:.0} requests an hour), while an hour cost {before:.2} -> {after:.2}"
            ));
        }
        row
    }

    /// Labels are few and of no minute in particular, so neither minutes nor coverage of telemetry bound them.
    fn accuracy(&self) -> Row {
        let measure = Measure::Accuracy;
        let (before, after) = (self.before.right.share(), self.after.right.share());
        let difference = before.zip(after).map(|(before, after)| difference(&before, &after));
        let verdict = match difference {
            None => Verdict::NotJudged(not_measured(measure).to_owned()),
            Some(difference) if difference.n < self.rules.labels_min => Verdict::NotJudged(format!(
                "{} labels {} the move, {} are needed",
                difference.n,
                if self.before.right.n <= self.after.right.n { "before" } else { "after" },
                self.rules.labels_min
            )),
            Some(difference) => verdict(measure, &difference),
        };
        Row { measure, before, after, difference, verdict }
    }

    /// A score has no interval and no side: whether it is drift is the drift job's to say.
    fn drift(&self, reading: Option<DriftReading>) -> Row {
        let measure = Measure::Drift;
        let point = |reading: DriftReading| Estimate {
            value: reading.score,
            low: reading.score,
            high: reading.score,
            n: reading.n,
        };
        let verdict = match reading {
            None => Verdict::NotJudged(not_measured(measure).to_owned()),
            Some(DriftReading { is_drift: None, n, .. }) => {
                Verdict::NotJudged(format!("the drift job does not judge {n} values of the smaller side"))
            }
            Some(DriftReading { is_drift: Some(true), .. }) => Verdict::Changed,
            Some(_) => Verdict::NoDifference,
        };
        Row { measure, before: None, after: reading.map(point), difference: None, verdict }
    }

    /// Why a difference is not judged: requests, minutes or coverage below the rules.
    fn too_little(&self, (before, after): (&MinuteSums, &MinuteSums)) -> Option<String> {
        for (side, sums, aggregates) in [("before", before, self.before), ("after", after, self.after)] {
            if sums.n == 0.0 {
                return None;
            }
            if sums.n < self.rules.requests_min as f64 {
                return Some(format!("{} requests {side} the move, {} are needed", sums.n, self.rules.requests_min));
            }
            // Two hosts of one minute are two of the sums, and one minute.
            let minutes = sums.minutes.min(aggregates.minutes_seen);
            if minutes < self.rules.minutes_min {
                return Some(format!("{minutes} minutes {side} the move, {} are needed", self.rules.minutes_min));
            }
            if aggregates.coverage() < self.rules.coverage_min {
                let (coverage, needed) = (aggregates.coverage() * 100.0, self.rules.coverage_min * 100.0);
                return Some(format!(
                    "telemetry in {coverage:.0} % of the minutes {side} the move, {needed:.0} % are needed"
                ));
            }
        }
        None
    }
}

fn verdict(measure: Measure, difference: &Estimate) -> Verdict {
    let (rose, fell) = (difference.low > 0.0, difference.high < 0.0);
    match (rose, fell, measure.higher_is_better()) {
        (true, _, true) | (_, true, false) => Verdict::Better,
        (true, _, false) | (_, true, true) => Verdict::Worse,
        _ => Verdict::NoDifference,
    }
}

fn not_measured(measure: Measure) -> &'static str {
    match measure {
        Measure::LatencyMean => {
            "no latency on both sides: send http.server.request.duration or gen_ai.server.request.duration"
        }
        Measure::LatencyP50 | Measure::LatencyP95 => {
            "no quantile on both sides: send a histogram whose last bound lies above the 95th percentile"
        }
        Measure::LatencyInputsEqual => {
            "inputs are not held equal: send the size of inputs with each request (tokens, pixels)"
        }
        Measure::CostPerRequest => "no cost on both sides: put prices of the machines into the price book",
        Measure::ErrorShare => "no error counts on both sides: send the status of requests",
        Measure::Accuracy => {
            "no labels on both sides: tell which answers were right (POST /api/v1/labels, driftwatt labels FILE), also late"
        }
        Measure::Drift => {
            "no input was measured on both sides: send the size of inputs with each request (tokens, pixels)"
        }
    }
}
