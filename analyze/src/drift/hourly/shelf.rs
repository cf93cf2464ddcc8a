//! Stored states that are up to date, wherever they come from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::DateTime;
use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use super::{
    HourlyState, PointKind, STATES, StateQuery,
    build::build,
    hours_of, segment_text,
    table::{StateRow, StoredHours, load, load_sql, state_batch},
};
use crate::{
    drift::{
        feature_state::StateKey,
        request::{Filter, Side, Subject, time_sql},
    },
    error::{Error, Result},
    rows::{Rows, literal},
    window::{HOUR_US, Window},
};

/// Hours that one query builds.
const HOURS_PER_QUERY: i64 = 24;
/// States that wait for the table; of more some are written at once.
const PENDING_MAX: usize = 4_096;

/// States of one run: read once, built where they are missing or stale, written together.
pub(crate) struct StateShelf<'a> {
    ctx: &'a SessionContext,
    store: &'a Store,
    now_us: i64,
    loaded: Mutex<Loaded>,
    pending: Mutex<BTreeMap<(StateKey, PointKind), StateRow>>,
}

/// What was read ahead, of one segment.
#[derive(Default)]
struct Loaded {
    segment: String,
    windows: Vec<Window>,
    features: HashSet<String>,
    /// Metrics that have series of numbers, and those that have series at all.
    numbers: HashSet<String>,
    known: HashSet<String>,
    hours: HashMap<(String, String), Arc<StoredHours>>,
}

/// The states of one side.
pub(crate) struct SideStates {
    pub(crate) kind: PointKind,
    /// By the start of their hour; hours without a row are not in it.
    pub(crate) hours: BTreeMap<i64, HourlyState>,
    /// The SQL that read what was stored.
    pub(crate) query: String,
}

impl<'a> StateShelf<'a> {
    /// For a run at `now_us`.
    pub(crate) fn new(ctx: &'a SessionContext, store: &'a Store, now_us: i64) -> Self {
        Self { ctx, store, now_us, loaded: Mutex::default(), pending: Mutex::default() }
    }

    /// Reads at once what is stored of `subjects` in all of `windows`, for the questions that follow; what was read ahead before is
    /// let go.
    ///
    /// # Errors
    /// Query errors.
    pub(crate) async fn read_ahead(&self, subjects: &[Subject], filters: &[Filter], windows: &[Window]) -> Result<()> {
        let features: Vec<String> = subjects.iter().map(Subject::label).collect();
        let segment = segment_text(filters);
        let metrics: HashSet<&str> = subjects.iter().map(Subject::name).collect();
        let sql = load_sql(&features, &segment, &time_sql(windows, "time"));
        let (hours, (known, numbers)) = futures::try_join!(load(self.ctx, &sql), kinds(self.ctx, &metrics, windows))?;
        let hours = hours.into_iter().map(|(of, hours)| (of, Arc::new(hours))).collect();
        let features = features.into_iter().collect();
        let loaded = Loaded { segment, windows: windows.to_vec(), features, numbers, known, hours };
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The states of `side`, up to date.
    ///
    /// # Errors
    /// [`Error::NotWholeHours`], [`Error::TooManyHours`], [`Error::StatesOfRole`]; those of the query and of the store.
    pub(crate) async fn side(&self, subject: &Subject, side: &Side, both: &[Window]) -> Result<SideStates> {
        if let Subject::Role(role) = subject {
            return Err(Error::StatesOfRole { role: role.clone() });
        }
        let hours = hours_of(&side.windows)?;
        let kind = self.kind(subject, &side.filters, both).await?;
        let query = StateQuery { subject: subject.clone(), kind, filters: side.filters.clone() };
        let sql = load_sql(&[subject.label()], &segment_text(&side.filters), &side.time_sql("time"));
        let stored = match self.read_before(&query, side) {
            Some(stored) => stored,
            None => {
                load(self.ctx, &sql).await?.remove(&(subject.label(), kind.as_str().into())).unwrap_or_default().into()
            }
        };
        // Asked before the points are read: what is written meanwhile is then newer than the state, whether it is in it or not.
        let windows = hours.iter().map(|hour_us| *hour_us..hour_us + HOUR_US).collect();
        let written = self.store.last_writes(subject.name(), windows).await?;
        let (mut found, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for (hour_us, written) in hours.into_iter().zip(written) {
            let is_fresh = |written_through: u64| written.is_some_and(|last| last <= written_through);
            let fresh = stored.get(&hour_us).filter(|stored| is_fresh(stored.written_through));
            let built = || self.built(&query, hour_us).filter(|row| is_fresh(row.written_through));
            match fresh.and_then(|stored| stored.decode()).or_else(|| built().map(|row| row.hourly)) {
                Some(hourly) => _ = found.insert(hour_us, hourly),
                // Nothing was ever written there, or all of it is gone.
                None if written == Some(0) => {}
                None => _ = missing.insert(hour_us, written),
            }
        }
        for window in runs(missing.keys().copied()) {
            for (hour_us, hourly) in build(self.ctx, &query, window).await? {
                // Where files do not say when they were written, a state is good for this run only.
                if let Some(Some(written_through)) = missing.get(&hour_us) {
                    self.keep(&query, hour_us, *written_through, &hourly).await?;
                }
                found.insert(hour_us, hourly);
            }
        }
        found.retain(|_, hourly| hourly.row_count > 0);
        Ok(SideStates { kind, hours: found, query: sql })
    }

    /// Writes what was built and not written yet.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn finish(&self) -> Result<()> {
        let rows = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let rows: Vec<StateRow> = rows.into_values().collect();
        if !rows.is_empty() {
            self.store.write_result(STATES, state_batch(&rows, self.now_us)?).await?;
        }
        Ok(())
    }

    /// An hour that is not over has no state to keep: it would be stale at once.
    async fn keep(&self, query: &StateQuery, hour_us: i64, written_through: u64, hourly: &HourlyState) -> Result<()> {
        if hour_us + HOUR_US > self.now_us {
            return Ok(());
        }
        let row = StateRow { key: query.key(hour_us), kind: query.kind, written_through, hourly: hourly.clone() };
        let waiting = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.insert((row.key.clone(), row.kind), row);
            pending.len()
        };
        if waiting >= PENDING_MAX { self.finish().await } else { Ok(()) }
    }

    /// What this run has built and not written yet.
    fn built(&self, query: &StateQuery, hour_us: i64) -> Option<StateRow> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.get(&(query.key(hour_us), query.kind)).cloned()
    }

    fn read_before(&self, query: &StateQuery, side: &Side) -> Option<Arc<StoredHours>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let feature = query.subject.label();
        let is_inside = |window: &Window| {
            loaded.windows.iter().any(|all| all.start_us <= window.start_us && window.end_us <= all.end_us)
        };
        let is_loaded = loaded.features.contains(&feature)
            && loaded.segment == segment_text(&side.filters)
            && side.windows.iter().all(is_inside);
        let hours = loaded.hours.get(&(feature, query.kind.as_str().to_owned()));
        is_loaded.then(|| hours.cloned().unwrap_or_default())
    }

    /// Numbers where the metric has series of them, else histograms. Of a metric whose series are gone, what its states are of.
    async fn kind(&self, subject: &Subject, filters: &[Filter], windows: &[Window]) -> Result<PointKind> {
        let Subject::Metric(metric) = subject else { return Ok(PointKind::Categories) };
        {
            let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            if loaded.known.contains(metric) {
                let has_numbers = loaded.numbers.contains(metric);
                return Ok(if has_numbers { PointKind::Samples } else { PointKind::Histograms });
            }
        }
        let (known, numbers) = kinds(self.ctx, &HashSet::from([metric.as_str()]), windows).await?;
        if !known.contains(metric) {
            let segment = segment_text(filters);
            let sql = load_sql(std::slice::from_ref(metric), &segment, &time_sql(windows, "time"));
            let stored = load(self.ctx, &sql).await?;
            let histograms = (metric.clone(), PointKind::Histograms.as_str().to_owned());
            let samples = (metric.clone(), PointKind::Samples.as_str().to_owned());
            let only_histograms = stored.contains_key(&histograms) && !stored.contains_key(&samples);
            return Ok(if only_histograms { PointKind::Histograms } else { PointKind::Samples });
        }
        Ok(if numbers.contains(metric) { PointKind::Samples } else { PointKind::Histograms })
    }
}

/// Of `metrics` those that have series on the days of `windows`, and those that have series of numbers.
async fn kinds(
    ctx: &SessionContext,
    metrics: &HashSet<&str>,
    windows: &[Window],
) -> Result<(HashSet<String>, HashSet<String>)> {
    if windows.is_empty() || metrics.is_empty() {
        return Ok(Default::default());
    }
    let names: Vec<String> = metrics.iter().map(|metric| literal(metric)).collect();
    let query = format!(
        "SELECT metric, kind FROM raw.series WHERE metric IN ({}) AND {} GROUP BY metric, kind",
        names.join(", "),
        days_sql(windows)
    );
    let rows = Rows::query(ctx, &query).await?;
    let (mut known, mut numbers) = (HashSet::new(), HashSet::new());
    for (metric, kind) in rows.texts("metric")?.into_iter().zip(rows.texts("kind")?) {
        let (Some(metric), Some(kind)) = (metric, kind) else { continue };
        if matches!(kind.as_str(), "gauge" | "sum") {
            numbers.insert(metric.clone());
        }
        known.insert(metric);
    }
    Ok((known, numbers))
}

/// SQL condition on `date` that holds on the days of `windows`.
pub(crate) fn days_sql(windows: &[Window]) -> String {
    let day = |time_us: i64| DateTime::from_timestamp_micros(time_us).unwrap_or_default().format("%Y-%m-%d");
    let days =
        |window: &Window| format!("date BETWEEN DATE '{}' AND DATE '{}'", day(window.start_us), day(window.end_us - 1));
    let each: Vec<String> = windows.iter().map(days).collect();
    format!("({})", each.join(" OR "))
}

/// Hours that follow each other, as windows of at most [`HOURS_PER_QUERY`] hours.
fn runs(hours: impl Iterator<Item = i64>) -> Vec<Window> {
    let mut runs: Vec<Window> = vec![];
    for hour_us in hours {
        match runs.last_mut() {
            Some(run) if run.end_us == hour_us && run.end_us - run.start_us < HOURS_PER_QUERY * HOUR_US => {
                run.end_us += HOUR_US;
            }
            _ => runs.push(Window { start_us: hour_us, end_us: hour_us + HOUR_US }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_follow_each_other_are_read_together() {
        let hours = (0..30).chain([40, 42, 43]).map(|hour| hour * HOUR_US);
        let runs: Vec<(i64, i64)> =
            runs(hours).iter().map(|run| (run.start_us / HOUR_US, run.end_us / HOUR_US)).collect();
        assert_eq!(runs, [(0, 24), (24, 30), (40, 41), (42, 44)]);
    }

    #[test]
    fn days_are_those_that_a_window_touches() {
        let window = Window { start_us: 0, end_us: 24 * HOUR_US };
        assert_eq!(days_sql(&[window]), "(date BETWEEN DATE '1970-01-01' AND DATE '1970-01-01')");
    }
}
