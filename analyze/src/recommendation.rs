//! From measured demand to a verdict with its reasons, and what became of it.

use chrono_tz::Tz;
use serde::Serialize;

use crate::{
    demand::{Calendar, Demand, Envelope, HOUR_OF_WEEK_COUNT},
    replay::{Fixed, Replay, ReplayRules, replay},
    sizing::{RequiredSize, ServiceShape, SizingRules, required},
    veto::{Evidence, Veto, vetoes},
    window::DAY_US,
};

const WEEK_HOURS: f64 = 168.0;
/// Days of data from which age no longer lowers the confidence.
const DAYS_FULL: f64 = 14.0;

/// What else says whether a service works; `None` where not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct SecondSignals {
    /// Mean requests per second.
    pub requests_per_second: Option<f64>,
    /// 95th percentile of queued requests per replica.
    pub queue_p95: Option<f64>,
    /// Mean memory held of the card, 0 to 1.
    pub memory_share: Option<f64>,
    /// Mean power of the range from rest to limit, 0 to 1.
    pub power_share: Option<f64>,
}

/// Price of a GPU-hour; unknown is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct GpuPrice {
    /// List price.
    pub list: Option<f64>,
    /// Price after commitments and discounts.
    pub effective: Option<f64>,
}

/// All that a verdict is made of.
#[derive(Debug, Clone)]
pub struct Examination<'a> {
    /// Service as it runs.
    pub shape: &'a ServiceShape,
    /// Measured demand.
    pub demand: &'a Demand,
    /// Other evidence; coverage, days and replicas are taken from the demand and the shape.
    pub evidence: Evidence,
    /// Second signals.
    pub signals: SecondSignals,
    /// Time zone of its users.
    pub zone: Tz,
    /// Unusual days.
    pub calendar: &'a Calendar,
    /// Price.
    pub price: GpuPrice,
    /// Now, UTC microseconds.
    pub now_us: i64,
}

/// Limits of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VerdictRules {
    /// Sizing.
    pub sizing: SizingRules,
    /// Replay and its budget.
    pub replay: ReplayRules,
    /// Minutes that demand is averaged over. Default 5; 1 suits a duty that is averaged by the card (DCGM profiling).
    pub average_minutes: usize,
    /// Share of the power range from which a low duty is not believed. Default 0.50.
    pub power_share_max: f64,
    /// Queued requests per replica from which a service is short, whatever its duty. Default 1.
    pub queue_p95_max: f64,
    /// Days until a recommendation expires. Default 14: demand moves on.
    pub expires_after_days: i64,
}

/// What to do about a service.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing is concluded: what is missing.
    Unknown(Vec<Veto>),
    /// Leave it: why.
    Keep(String),
    /// It looks too large, but something forbids the change.
    Vetoed(Vec<Veto>),
    /// Take replicas away.
    Shrink(Box<Recommendation>),
}

/// Money or hours of a week; unknown without a price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Saving {
    /// The next step, weighted by the confidence.
    pub low: f64,
    /// The next step.
    pub expected: f64,
    /// All steps down to the required size.
    pub high: f64,
}

/// A proposed change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// Service.
    pub service: String,
    /// Replicas today.
    pub current: u32,
    /// Replicas proposed.
    pub proposed: u32,
    /// Least of data age, coverage and stability, 0 to 1.
    pub confidence: f64,
    /// GPU-hours a week.
    pub gpu_hours: Saving,
    /// A week at list price.
    pub saving_list: Option<Saving>,
    /// A week at effective price.
    pub saving_effective: Option<Saving>,
    /// The three numbers: mean share busy, peak with burst in GPU-equivalents, share of replayed minutes over capacity.
    pub numbers: [f64; 3],
    /// Size and its parts.
    pub required: RequiredSize,
    /// Proof.
    pub replay: Replay,
    /// The same demand at today's size.
    pub replay_current: Replay,
    /// When it stops to hold, UTC microseconds.
    pub expires_us: i64,
    /// One sentence for people.
    pub explanation: String,
}

/// What became of a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerState {
    /// Waits for its owner.
    Proposed,
    /// Taken at this time.
    Accepted(i64),
    /// Refused at this time.
    Rejected(i64),
    /// Nobody decided in time.
    Expired,
    /// Nobody decided before a newer one of the same service.
    Superseded,
    /// Measured afterwards, GPU-hours a week.
    Realised {
        /// What was promised.
        predicted: f64,
        /// What came.
        realised: f64,
    },
}

/// A step that the ledger does not allow.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a recommendation that is {from} cannot become {to}")]
pub struct LedgerError {
    from: &'static str,
    to: &'static str,
}

impl Default for VerdictRules {
    fn default() -> Self {
        Self {
            sizing: SizingRules::default(),
            replay: ReplayRules::default(),
            average_minutes: 5,
            power_share_max: 0.50,
            queue_p95_max: 1.0,
            expires_after_days: 14,
        }
    }
}

/// The verdict on one service. A service without 90 % of its telemetry gets none.
pub fn examine(examination: &Examination<'_>, rules: &VerdictRules) -> Verdict {
    let shape = examination.shape;
    let demand = &examination.demand.averaged(rules.average_minutes);
    let envelope = Envelope::new(demand, examination.zone, examination.calendar);
    let known_weekend = envelope.buckets[5 * 24..HOUR_OF_WEEK_COUNT].iter().all(|bucket| bucket.minute_count > 0);
    let evidence = Evidence {
        coverage: examination.demand.coverage(),
        days: examination.demand.days(),
        replica_count: shape.replica_count,
        has_weekend: known_weekend,
        ..examination.evidence.clone()
    };
    let vetoes = vetoes(&evidence);
    if vetoes.iter().any(Veto::is_unknown) {
        return Verdict::Unknown(vetoes.into_iter().filter(Veto::is_unknown).collect());
    }
    let (Some(mean), Some(p95), Some(size)) =
        (demand.mean_share(), demand.p95_share(), required(&envelope, shape, &rules.sizing))
    else {
        return Verdict::Unknown(vec![Veto::Coverage(0.0)]);
    };
    if let Some(reason) = not_idle(mean, p95, &examination.signals, rules) {
        return Verdict::Keep(reason);
    }
    if size.next_replica_count >= shape.replica_count {
        return Verdict::Keep(format!(
            "{} replicas are required, or no step of a quarter exists below {}",
            size.replica_count, shape.replica_count
        ));
    }
    let replay_rules = ReplayRules { gpus_per_replica: shape.gpus_per_replica.max(1), ..rules.replay };
    let at = |count| replay(demand, count, &mut Fixed(count), &replay_rules);
    let (proof, replay_current) = (at(size.next_replica_count), at(shape.replica_count));
    if !proof.within(&replay_rules) {
        let over = proof.over_share().unwrap_or(1.0) * 100.0;
        return Verdict::Keep(format!(
            "replayed with {} replicas, {over:.2} % of minutes lack capacity",
            size.next_replica_count
        ));
    }
    if !vetoes.is_empty() {
        return Verdict::Vetoed(vetoes);
    }
    Verdict::Shrink(Box::new(recommendation(examination, rules, size, mean, proof, replay_current)))
}

fn not_idle(mean: f64, p95: f64, signals: &SecondSignals, rules: &VerdictRules) -> Option<String> {
    let over = |value: Option<f64>, limit: f64| value.filter(|value| *value >= limit);
    let none_known = [signals.requests_per_second, signals.queue_p95, signals.memory_share, signals.power_share]
        .iter()
        .all(Option::is_none);
    if mean >= rules.sizing.mean_below {
        return Some(format!("busy: {:.0} % of the held GPUs on average", mean * 100.0));
    }
    if p95 >= rules.sizing.p95_below {
        return Some(format!("works in bursts: 95th percentile of {:.0} %", p95 * 100.0));
    }
    if let Some(share) = over(signals.power_share, rules.power_share_max) {
        return Some(format!("power is at {:.0} % of its range: the low duty is not believed", share * 100.0));
    }
    if let Some(queue) = over(signals.queue_p95, rules.queue_p95_max) {
        return Some(format!("{queue:.1} requests queue per replica: short of something else than GPUs"));
    }
    none_known.then(|| "no second signal (requests, queue, memory or power) confirms the low duty".into())
}

fn recommendation(
    examination: &Examination<'_>,
    rules: &VerdictRules,
    required: RequiredSize,
    mean: f64,
    replay: Replay,
    replay_current: Replay,
) -> Recommendation {
    let (shape, demand) = (examination.shape, examination.demand);
    let (current, proposed) = (shape.replica_count, required.next_replica_count);
    let confidence = (demand.days() / DAYS_FULL).min(demand.coverage()).min(stability(demand)).clamp(0.0, 1.0);
    let hours = |replicas: u32| f64::from((current - replicas) * shape.gpus_per_replica.max(1)) * WEEK_HOURS;
    let gpu_hours = Saving {
        low: hours(proposed) * confidence,
        expected: hours(proposed),
        high: hours(required.replica_count.min(proposed)),
    };
    let over = replay.over_share().unwrap_or(1.0);
    let need = required.peak_gpus + required.burst_gpus;
    let explanation = format!(
        "{}: {:.0} % of {current} replicas was busy on average; the busiest hour of the week with a burst needs {need:.1} GPUs; \
         replayed with {proposed} replicas, {:.2} % of minutes lack capacity",
        shape.service,
        mean * 100.0,
        over * 100.0
    );
    Recommendation {
        service: shape.service.clone(),
        current,
        proposed,
        confidence,
        gpu_hours,
        saving_list: examination.price.list.map(|price| gpu_hours.times(price)),
        saving_effective: examination.price.effective.map(|price| gpu_hours.times(price)),
        numbers: [mean, need, over],
        required,
        replay,
        replay_current,
        expires_us: examination.now_us + rules.expires_after_days * DAY_US,
        explanation,
    }
}

/// How alike the means of both halves of the window are, 0 to 1.
fn stability(demand: &Demand) -> f64 {
    let minutes: Vec<Option<f64>> = demand.minutes().collect();
    let mean = |half: &[Option<f64>]| {
        let known: Vec<f64> = half.iter().copied().flatten().collect();
        known.iter().sum::<f64>() / known.len().max(1) as f64
    };
    let (first, second) = minutes.split_at(minutes.len() / 2);
    let (first, second) = (mean(first), mean(second));
    if first.max(second) > 0.0 { first.min(second) / first.max(second) } else { 1.0 }
}

impl Saving {
    pub(crate) fn times(self, price: f64) -> Self {
        Self { low: self.low * price, expected: self.expected * price, high: self.high * price }
    }
}

impl LedgerState {
    /// The name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Accepted(_) => "accepted",
            Self::Rejected(_) => "rejected",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Realised { .. } => "realised",
        }
    }

    /// The next state of a recommendation that holds until `expires_us`: from proposed to accepted, rejected, expired or
    /// superseded, from accepted to realised.
    ///
    /// # Errors
    /// [`LedgerError`] for any other step, and for accepting what has expired.
    pub fn advanced(self, to: Self, expires_us: i64) -> Result<Self, LedgerError> {
        let is_allowed = match (self, to) {
            (Self::Proposed, Self::Accepted(at_us)) => at_us < expires_us,
            (Self::Proposed, Self::Rejected(_) | Self::Expired | Self::Superseded)
            | (Self::Accepted(_), Self::Realised { .. }) => true,
            _ => false,
        };
        let from =
            if self == Self::Proposed && matches!(to, Self::Accepted(_)) { "past its expiry" } else { self.as_str() };
        if is_allowed { Ok(to) } else { Err(LedgerError { from, to: to.as_str() }) }
    }
}
