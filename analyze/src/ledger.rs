//! What became of recommendations: the table `recommendation_ledger`, which is only ever appended to.
//!
//! Without a row a recommendation is proposed. People accept or reject it; later runs of the job renew it while they propose the
//! same, and find what expired, what another one of the same service superseded, and what an accepted one came to in the week that
//! begins a day after it was accepted.
//!
//! Invariant: of a service at most one recommendation is open, the newest, and at most one is accepted and not yet measured.
//! Else a daily run would offer the same saving every day, to be counted each time.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use driftwatt_store::Store;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    gpu_minutes::GpuMinutes,
    gpu_state::{GpuSample, GpuState, GpuUse, StateRules, Workload, classify},
    recommend,
    recommendation::LedgerState,
    result_table::ResultTable,
    rows::{Rows, has_result},
    window::{DAY_US, MINUTE_US, Window},
};

/// Result table.
pub const TABLE: &str = "recommendation_ledger";

/// Days of the week that a saving is measured in, and hours of it.
const MEASURED_DAYS: i64 = 7;
const WEEK_HOURS: f64 = 168.0;
/// Share of the minutes of that week in which the service has to be seen.
const COVERAGE_MIN: f64 = 0.90;

/// What people say to a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It is, or will be, carried out.
    Accept,
    /// It is not.
    Reject,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Of this recommendation.
    pub id: String,
    /// Service.
    pub service: String,
    /// Whether the data comes from a generator.
    pub simulated: bool,
    /// What became of it.
    #[serde(serialize_with = "name_of")]
    pub state: LedgerState,
    /// GPU-hours a week that were promised.
    pub predicted_gpu_hours: Option<f64>,
    /// GPU-hours of the week after that were not held any more, negative where more were; none where not measured.
    pub realised_gpu_hours: Option<f64>,
    /// Money a week that was promised.
    pub predicted_saving: Option<f64>,
    /// The same part of it as of the hours.
    pub realised_saving: Option<f64>,
    /// Currency of both; empty without prices.
    pub currency: String,
    /// Why, in somebody's words.
    pub note: Option<String>,
}

fn name_of<S: serde::Serializer>(state: &LedgerState, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

/// A recommendation as it was recorded, with its state.
#[derive(Debug, Clone)]
struct Recorded {
    entry: Entry,
    /// When it was made.
    made_us: i64,
    expires_us: i64,
    /// Replicas before and after.
    replicas: (u32, u32),
    gpus_per_replica: u32,
}

/// A recommendation that waits for somebody to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) simulated: bool,
    /// Replicas before and after.
    pub(crate) replicas: (u32, u32),
    pub(crate) gpus_per_replica: u32,
}

impl Recorded {
    /// GPUs held before.
    fn gpu_count(&self) -> f64 {
        f64::from(self.replicas.0) * f64::from(self.gpus_per_replica)
    }
}

/// The newest recommendation of each service, by whether that is simulated and its name.
struct Newest<'a>(HashMap<(bool, &'a str), &'a Recorded>);

impl<'a> Newest<'a> {
    fn of(all: &'a [Recorded]) -> Self {
        let mut newest: HashMap<(bool, &str), &Recorded> = HashMap::new();
        for recorded in all {
            let known = newest.entry((recorded.entry.simulated, &recorded.entry.service)).or_insert(recorded);
            // Of two of one moment the last by id, so that one is open.
            if (known.made_us, &known.entry.id) < (recorded.made_us, &recorded.entry.id) {
                *known = recorded;
            }
        }
        Self(newest)
    }

    /// The id of that of the same service, unless it is this one.
    fn instead_of(&self, entry: &Entry) -> Option<&'a str> {
        let newest = self.0.get(&(entry.simulated, entry.service.as_str()))?;
        Some(newest.entry.id.as_str()).filter(|id| *id != entry.id)
    }
}

/// Records what somebody says to the recommendation `id`.
///
/// # Errors
/// [`Error::UnknownRecommendation`]; [`Error::Ledger`] where it was decided before, has expired or is superseded;
/// [`Error::RecommendationWaits`] where another of the service was accepted and is not measured yet; those of query and store.
pub async fn decide(
    ctx: &SessionContext,
    store: &Store,
    id: &str,
    decision: Decision,
    note: Option<&str>,
    now_us: i64,
) -> Result<Entry> {
    let all = recorded(ctx).await?;
    let recorded = all.iter().find(|recorded| recorded.entry.id == id);
    let recorded = recorded.ok_or_else(|| Error::UnknownRecommendation { id: id.to_owned() })?.clone();
    let to = match decision {
        Decision::Accept => LedgerState::Accepted(now_us),
        Decision::Reject => LedgerState::Rejected(now_us),
    };
    let known = match recorded.entry.state {
        LedgerState::Proposed if Newest::of(&all).instead_of(&recorded.entry).is_some() => LedgerState::Superseded,
        known => known,
    };
    let state = known.advanced(to, recorded.expires_us)?;
    let is_waited_for = |other: &&Recorded| {
        matches!(other.entry.state, LedgerState::Accepted(_))
            && (other.entry.simulated, &other.entry.service) == (recorded.entry.simulated, &recorded.entry.service)
    };
    if decision == Decision::Accept
        && let Some(other) = all.iter().find(is_waited_for)
    {
        return Err(Error::RecommendationWaits { id: id.to_owned(), other: other.entry.id.clone() });
    }
    let entry = Entry { state, note: note.map(str::to_owned), ..recorded.entry };
    append(store, std::slice::from_ref(&entry), now_us).await?;
    Ok(entry)
}

/// What waits for somebody to decide at `now_us`, one of a service.
///
/// # Errors
/// Those of queries.
pub(crate) async fn open(ctx: &SessionContext, now_us: i64) -> Result<Vec<Open>> {
    let all = recorded(ctx).await?;
    let newest = Newest::of(&all);
    let is_open = |one: &&Recorded| {
        one.entry.state == LedgerState::Proposed && now_us < one.expires_us && newest.instead_of(&one.entry).is_none()
    };
    let open = |one: &Recorded| Open {
        id: one.entry.id.clone(),
        service: one.entry.service.clone(),
        simulated: one.entry.simulated,
        replicas: one.replicas,
        gpus_per_replica: one.gpus_per_replica,
    };
    Ok(all.iter().filter(is_open).map(open).collect())
}

/// Finds and records what expired, what was superseded, and what accepted recommendations came to.
///
/// # Errors
/// Those of query and store.
pub async fn settle(ctx: &SessionContext, store: &Store, now_us: i64) -> Result<Vec<Entry>> {
    let mut settled = Vec::new();
    let mut due: BTreeMap<i64, Vec<(Recorded, Window)>> = BTreeMap::new();
    let all = recorded(ctx).await?;
    let newest = Newest::of(&all);
    for recorded in all.iter().cloned() {
        match (recorded.entry.state, newest.instead_of(&recorded.entry)) {
            (LedgerState::Proposed, Some(newer)) => {
                let state = recorded.entry.state.advanced(LedgerState::Superseded, recorded.expires_us)?;
                settled.push(Entry { state, note: Some(format!("by {newer}")), ..recorded.entry });
            }
            (LedgerState::Proposed, None) if now_us >= recorded.expires_us => {
                let state = recorded.entry.state.advanced(LedgerState::Expired, recorded.expires_us)?;
                settled.push(Entry { state, ..recorded.entry });
            }
            (LedgerState::Accepted(at_us), _) if now_us >= at_us + (1 + MEASURED_DAYS) * DAY_US => {
                let window = Window::new(at_us + DAY_US, at_us + (1 + MEASURED_DAYS) * DAY_US)?;
                due.entry(window.start_us.div_euclid(DAY_US)).or_default().push((recorded, window));
            }
            _ => {}
        }
    }
    // What was accepted on one day is measured in one read of its weeks.
    for (day, accepted) in due {
        let minutes = GpuMinutes::read(ctx, Window::new(day * DAY_US, (day + 1 + MEASURED_DAYS) * DAY_US)?).await?;
        for (recorded, window) in accepted {
            settled.push(realised(&minutes, recorded, window)?);
        }
    }
    append(store, &settled, now_us).await?;
    Ok(settled)
}

/// What `recorded` came to in the week `window`.
fn realised(minutes: &GpuMinutes, recorded: Recorded, window: Window) -> Result<Entry> {
    let (service, simulated) = (&recorded.entry.service, recorded.entry.simulated);
    let minute_count = (MEASURED_DAYS * DAY_US / MINUTE_US) as usize;
    let mut held = vec![0_u32; minute_count];
    for gpu in minutes.gpus.iter().filter(|gpu| gpu.simulated == simulated) {
        let is_its = |minute: usize| {
            let holder = gpu.holder.get(minute).and_then(|holder| minutes.holders.get(usize::from(*holder)));
            holder.is_some_and(|holder| holder.service.as_ref() == Some(service))
        };
        let of = GpuUse { service: Some(service.clone()), workload: Workload::Serving, shared: gpu.shared_by > 1 };
        let samples: Vec<GpuSample> = gpu.samples(minutes.window, is_its).collect();
        // Intervals, since a source may send less often than every minute.
        for interval in classify(&samples, &of, window.start_us, window.end_us, &StateRules::default()) {
            let at = |time_us: i64| ((time_us - window.start_us) / MINUTE_US) as usize;
            if interval.state != GpuState::NoTelemetry {
                held.iter_mut().take(at(interval.end_us)).skip(at(interval.start_us)).for_each(|count| *count += 1);
            }
        }
    }
    let seen: Vec<f64> = held.into_iter().filter(|count| *count > 0).map(f64::from).collect();
    let coverage = seen.len() as f64 / minute_count as f64;
    // A service that is not seen is not one that holds nothing.
    let held_mean = (coverage >= COVERAGE_MIN).then(|| seen.iter().sum::<f64>() / seen.len() as f64);
    let predicted = recorded.entry.predicted_gpu_hours;
    let realised = held_mean.map(|held| (recorded.gpu_count() - held) * WEEK_HOURS);
    let share = realised.zip(predicted.filter(|hours| *hours > 0.0)).map(|(came, promised)| came / promised);
    let note = match held_mean {
        Some(held) => format!("{held:.2} GPUs held on average, {} before", recorded.gpu_count()),
        None => format!("not measured: the service was seen in {:.0} % of the week, 90 % are needed", coverage * 100.0),
    };
    let to = LedgerState::Realised { predicted: predicted.unwrap_or(f64::NAN), realised: realised.unwrap_or(f64::NAN) };
    Ok(Entry {
        state: recorded.entry.state.advanced(to, recorded.expires_us)?,
        realised_gpu_hours: realised,
        realised_saving: recorded.entry.predicted_saving.zip(share).map(|(saving, share)| saving * share),
        note: Some(note),
        ..recorded.entry
    })
}

/// All proposals, each with the state that its last row gives it.
async fn recorded(ctx: &SessionContext) -> Result<Vec<Recorded>> {
    if !has_result(ctx, recommend::TABLE) {
        return Ok(vec![]);
    }
    // Of one that was renewed the last row counts.
    let query = format!(
        "SELECT id, service_name AS service, simulated, expires, replica_count, proposed_count, gpus_per_replica, \
         gpu_hours_saved AS hours, saving_expected AS saving, currency, CAST(time AS BIGINT) AS made FROM (SELECT *, \
         row_number() OVER (PARTITION BY id ORDER BY time DESC) AS newest FROM reports.{} WHERE id IS NOT NULL) \
         WHERE newest = 1 ORDER BY id",
        recommend::TABLE
    );
    let rows = Rows::query(ctx, &query).await?;
    let states = states(ctx).await?;
    let (ids, services, simulated) = (rows.texts("id")?, rows.texts("service")?, rows.flags("simulated")?);
    let (expires, hours) = (rows.integers("expires")?, rows.numbers("hours")?);
    let counts = ["replica_count", "proposed_count", "gpus_per_replica"].map(|name| rows.integers(name));
    let [before, after, per_replica] = counts;
    let (before, after, per_replica) = (before?, after?, per_replica?);
    let (savings, currencies, made) = (rows.numbers("saving")?, rows.texts("currency")?, rows.integers("made")?);
    let count = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok());
    let recorded = (0..rows.len()).filter_map(|row| {
        let (id, service) = (ids[row].clone()?, services[row].clone()?);
        let entry = Entry {
            state: states.get(&id).copied().unwrap_or(LedgerState::Proposed),
            id,
            service,
            simulated: simulated[row],
            predicted_gpu_hours: hours[row],
            realised_gpu_hours: None,
            predicted_saving: savings[row],
            realised_saving: None,
            currency: currencies[row].clone().unwrap_or_default(),
            note: None,
        };
        Some(Recorded {
            entry,
            made_us: made[row]?,
            expires_us: expires[row]?,
            replicas: (count(before[row])?, count(after[row])?),
            gpus_per_replica: count(per_replica[row])?,
        })
    });
    Ok(recorded.collect())
}

/// The state that the last row of each recommendation gives.
async fn states(ctx: &SessionContext) -> Result<HashMap<String, LedgerState>> {
    if !has_result(ctx, TABLE) {
        return Ok(HashMap::new());
    }
    let query = format!(
        "SELECT id, state, CAST(time AS BIGINT) AS at, predicted_gpu_hours, realised_gpu_hours FROM (SELECT *, \
         row_number() OVER (PARTITION BY id ORDER BY time DESC, place DESC) AS newest FROM reports.{TABLE}) \
         WHERE newest = 1"
    );
    let rows = Rows::query(ctx, &query).await?;
    let (ids, names, times) = (rows.texts("id")?, rows.texts("state")?, rows.integers("at")?);
    let (predicted, realised) = (rows.numbers("predicted_gpu_hours")?, rows.numbers("realised_gpu_hours")?);
    let known = (0..rows.len()).filter_map(|row| {
        let at_us = times[row]?;
        let hours = |hours: Option<f64>| hours.unwrap_or(f64::NAN);
        let state = match names[row].as_deref()? {
            "accepted" => LedgerState::Accepted(at_us),
            "rejected" => LedgerState::Rejected(at_us),
            "expired" => LedgerState::Expired,
            "superseded" => LedgerState::Superseded,
            "realised" => LedgerState::Realised { predicted: hours(predicted[row]), realised: hours(realised[row]) },
            _ => return None,
        };
        Some((ids[row].clone()?, state))
    });
    Ok(known.collect())
}

async fn append(store: &Store, entries: &[Entry], now_us: i64) -> Result<()> {
    if !entries.is_empty() {
        store.write_result(TABLE, to_batch(entries, now_us)?).await?;
    }
    Ok(())
}

fn to_batch(entries: &[Entry], now_us: i64) -> Result<RecordBatch> {
    let rows = || entries.iter();
    // Rows of one moment are told apart by how far they are.
    let place = |state: LedgerState| match state {
        LedgerState::Proposed => 0,
        LedgerState::Accepted(_) | LedgerState::Rejected(_) | LedgerState::Expired | LedgerState::Superseded => 1,
        LedgerState::Realised { .. } => 2,
    };
    let mut table = ResultTable::new(now_us, entries.len());
    table
        .texts("id", rows().map(|row| Some(row.id.clone())))
        .texts("service_name", rows().map(|row| Some(row.service.clone())))
        .flags("simulated", rows().map(|row| row.simulated))
        .texts("state", rows().map(|row| Some(row.state.as_str().to_owned())))
        .integers("place", rows().map(|row| Some(place(row.state))))
        .numbers("predicted_gpu_hours", rows().map(|row| row.predicted_gpu_hours))
        .numbers("realised_gpu_hours", rows().map(|row| row.realised_gpu_hours))
        .numbers("predicted_saving", rows().map(|row| row.predicted_saving))
        .numbers("realised_saving", rows().map(|row| row.realised_saving))
        .texts("currency", rows().map(|row| Some(row.currency.clone())))
        .texts("note", rows().map(|row| row.note.clone()));
    table.finish()
}

impl Entry {
    /// One line for people.
    pub fn text(&self) -> String {
        let hours = |hours: Option<f64>| hours.map_or_else(|| "unknown".into(), |hours| format!("{hours:.0} GPU-h"));
        let mark = if self.simulated { "simulated " } else { "" };
        let came = match self.state {
            LedgerState::Realised { .. } => format!(", {} came of it", hours(self.realised_gpu_hours)),
            _ => String::new(),
        };
        let note = self.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let promised = hours(self.predicted_gpu_hours);
        format!("{} {mark}{}: {}, {promised} a week promised{came}{note}", self.id, self.service, self.state.as_str())
    }
}
