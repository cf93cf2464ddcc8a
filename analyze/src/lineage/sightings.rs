//! What instances reported of themselves, from the series of a service.
//!
//! Of each UTC day and series its first and last point are known without reading points. One release of one instance and day is
//! taken for one stretch; only where several releases were reported on a day is it read from its points when each was, so that a
//! rollback within a day is seen.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::deployment::{
    Closeness, Evidence, Observation, ReportedRelease, Target, release_of_resource, version_attributes,
};
use crate::{
    error::{Error, Result},
    rows::{Rows, literal},
    window::{DAY_US, Window, time_literal},
};

/// Kinds of series by labels, instance and day that are read.
const GROUPS_MAX: usize = 50_000;
/// Days on which points are read, the newest.
const DAYS_READ_MAX: usize = 31;
/// Series of one day whose points are read: the longest of each kind, then further ones.
const SERIES_READ_MAX: usize = 200;
/// Minutes of reports of one day that are read.
const REPORTS_MAX: usize = 500_000;

/// One instance that reported one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// `deployment.environment.name`.
    pub environment: Option<String>,
    /// `service.instance.id`, pod or host; empty where the telemetry names none.
    pub instance: String,
    /// What it reported.
    pub reported: ReportedRelease,
    /// First and last report of the stretch, UTC microseconds.
    pub times_us: (i64, i64),
}

/// What was read of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sightings {
    /// In order of time.
    pub seen: Vec<Sighting>,
    /// Whether there was simulated telemetry, and real telemetry.
    pub data: (bool, bool),
    /// What is known less exactly than usual, as sentences.
    pub notes: Vec<String>,
}

impl Sighting {
    /// It as evidence of what runs at `target`.
    pub fn observation(&self, target: &Target) -> Observation {
        let (time_us, until_us) = self.times_us;
        let evidence =
            Evidence::Sighting { instance: self.instance.clone(), release: self.reported.release.clone(), until_us };
        Observation { target: target.clone(), time_us, evidence, received_us: until_us }
    }
}

/// Series of one day that say the same.
struct Group {
    day: i64,
    sighting: Sighting,
}

/// What the instances of `service` reported in `window`; a stretch with `hold_us` or less of silence is one.
///
/// # Errors
/// [`Error::TooManyReleases`] where series differ in more ways than can be held; those of queries.
pub async fn read(ctx: &SessionContext, service: &str, window: Window, hold_us: i64) -> Result<Sightings> {
    let (groups, data) = groups(ctx, service, window).await?;
    let mut found = Sightings { data, ..Sightings::default() };
    let mut by_day: BTreeMap<i64, Vec<Group>> = BTreeMap::new();
    for group in closest(groups) {
        by_day.entry(group.day).or_default().push(group);
    }
    let mut days_left = DAYS_READ_MAX;
    for (day, groups) in by_day.into_iter().rev() {
        let releases: Vec<_> = groups.iter().map(|group| &group.sighting.reported.release).collect();
        let has_one = releases.windows(2).all(|pair| pair[0] == pair[1]);
        if has_one {
            found.seen.extend(joined(groups));
        } else if days_left == 0 {
            let note = format!(
                "on {} and some days before it is known of each release only when it was first and last reported: ask about fewer days",
                day_text(day)
            );
            if found.notes.is_empty() {
                found.notes.push(note);
            }
            found.seen.extend(joined(groups));
        } else {
            days_left -= 1;
            let (seen, is_all) = stretches(ctx, service, window, day, hold_us).await?;
            found.seen.extend(seen);
            if !is_all {
                let day = day_text(day);
                found.notes.push(format!(
                    "on {day} points of {SERIES_READ_MAX} series were read, and not of all: what only others reported may be missing"
                ));
            }
        }
    }
    found.seen.sort_by_key(|sighting| sighting.times_us);
    Ok(found)
}

fn day_text(day: i64) -> String {
    let day = chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap_or_default();
    day.format("%Y-%m-%d").to_string()
}

/// Of what one instance reported on one day, what names the model most closely: its other series name the program around it.
fn closest(groups: Vec<Group>) -> Vec<Group> {
    let place = |group: &Group| (group.day, group.sighting.environment.clone(), group.sighting.instance.clone());
    let mut best: BTreeMap<_, Closeness> = BTreeMap::new();
    for group in &groups {
        let known = best.entry(place(group)).or_insert(group.sighting.reported.closeness);
        *known = (*known).max(group.sighting.reported.closeness);
    }
    let is_closest = |group: &Group| best.get(&place(group)) == Some(&group.sighting.reported.closeness);
    groups.into_iter().filter(is_closest).collect()
}

/// Groups of one day, those of one instance and release as one.
fn joined(groups: Vec<Group>) -> Vec<Sighting> {
    let mut by_release: BTreeMap<_, Sighting> = BTreeMap::new();
    for Group { sighting, .. } in groups {
        let key = (sighting.environment.clone(), sighting.instance.clone(), sighting.reported.release.clone());
        let (from_us, until_us) = sighting.times_us;
        let times = &mut by_release.entry(key).or_insert(sighting).times_us;
        *times = (times.0.min(from_us), times.1.max(until_us));
    }
    by_release.into_values().collect()
}

/// Columns that tell the release, with the attribute that each stands for.
fn columns() -> Vec<(String, &'static str)> {
    let promoted = [("model_name", "driftwatt.model.name"), ("model_version", "driftwatt.model.version")];
    let mut columns: Vec<(String, &'static str)> =
        promoted.into_iter().map(|(column, key)| (column.to_owned(), key)).collect();
    let others = version_attributes().chain(["k8s.pod.label.model-name", "driftwatt.simulated"]);
    columns.extend(
        others
            .filter(|key| *key != "driftwatt.model.version")
            .map(|key| (format!("attributes[{}]", literal(key)), key)),
    );
    columns
}

/// The part of the query that both readings share: what names instance and release.
fn selected() -> String {
    let columns = columns();
    let named = columns.iter().enumerate().map(|(index, (column, _))| format!("{column} AS a{index}"));
    format!(
        "coalesce(service_instance_id, k8s_pod, host_name, '') AS instance, deployment_environment AS environment, {}",
        named.collect::<Vec<_>>().join(", ")
    )
}

fn grouped() -> String {
    let named = (0..columns().len()).map(|index| format!("a{index}"));
    ["instance".to_owned(), "environment".to_owned()].into_iter().chain(named).collect::<Vec<_>>().join(", ")
}

/// The condition of rows of `raw.series` that are of the service and had a point in the window.
pub(super) fn of_service(service: &str, window: Window) -> String {
    let (from, to) = (time_literal(window.start_us), time_literal(window.end_us));
    format!(
        "service_name = {} AND date >= CAST({from} AS DATE) AND date <= CAST({to} AS DATE) AND last_time >= {from} AND first_time < {to}",
        literal(service)
    )
}

/// Groups that name a release, and whether any, with or without, is simulated and real.
async fn groups(ctx: &SessionContext, service: &str, window: Window) -> Result<(Vec<Group>, (bool, bool))> {
    let query = format!(
        "SELECT {grouped}, CAST(date AS INT) AS day, CAST(min(first_time) AS BIGINT) AS first_us, \
         CAST(max(last_time) AS BIGINT) AS last_us FROM (SELECT date, first_time, last_time, {} FROM raw.series WHERE {}) \
         GROUP BY {grouped}, date LIMIT {}",
        selected(),
        of_service(service, window),
        GROUPS_MAX + 1,
        grouped = grouped(),
    );
    let rows = Rows::query(ctx, &query).await?;
    if rows.len() > GROUPS_MAX {
        return Err(Error::TooManyReleases { service: service.to_owned(), limit: GROUPS_MAX });
    }
    let days = rows.integers("day")?;
    let (first, last) = (rows.integers("first_us")?, rows.integers("last_us")?);
    let named = Named::read(&rows, service)?;
    let group = |row: usize| {
        let times_us = (first[row]?.max(window.start_us), last[row]?.min(window.end_us));
        Some(Group { day: days[row]?, sighting: named.sighting(row, times_us)? })
    };
    let simulated = (0..rows.len()).filter(|row| named.is_simulated(*row)).count();
    Ok(((0..rows.len()).filter_map(group).collect(), (simulated > 0, simulated < rows.len())))
}

/// Reports of one day by their minutes, and whether the points of all series were read.
async fn stretches(
    ctx: &SessionContext,
    service: &str,
    window: Window,
    day: i64,
    hold_us: i64,
) -> Result<(Vec<Sighting>, bool)> {
    let start_us = day * DAY_US;
    let day = Window::new(start_us.max(window.start_us), (start_us + DAY_US).min(window.end_us))?;
    // A release that ran for minutes must not be hidden by the many series of the one that ran all day.
    let series = format!(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {} ORDER BY lasted DESC, series_id) AS place FROM \
         (SELECT series_id, metric, CAST(last_time AS BIGINT) - CAST(first_time AS BIGINT) AS lasted, {} FROM raw.series WHERE {})) \
         ORDER BY place, lasted DESC, series_id LIMIT {SERIES_READ_MAX}",
        grouped(),
        selected(),
        of_service(service, day),
    );
    let chosen = Rows::query(ctx, &format!("SELECT series_id, metric FROM ({series})")).await?;
    let ids: Vec<String> = chosen.integers("series_id")?.into_iter().flatten().map(|id| id.to_string()).collect();
    let mut metrics: Vec<String> = chosen.texts("metric")?.into_iter().flatten().map(|name| literal(&name)).collect();
    metrics.sort();
    metrics.dedup();
    if ids.is_empty() {
        return Ok((Vec::new(), true));
    }
    let points = ["raw.samples", "raw.histograms"].map(|table| {
        format!(
            "SELECT series_id, date_trunc('minute', time) AS minute, min(time) AS first_time, max(time) AS last_time FROM {table} \
             WHERE metric IN ({}) AND series_id IN ({}) AND {} GROUP BY 1, 2",
            metrics.join(", "),
            ids.join(", "),
            day.condition("time"),
        )
    });
    let query = format!(
        "SELECT {grouped}, minute, CAST(min(first_time) AS BIGINT) AS first_us, CAST(max(last_time) AS BIGINT) AS last_us \
         FROM ({series}) s JOIN ({}) p ON s.series_id = p.series_id GROUP BY {grouped}, minute ORDER BY minute LIMIT {}",
        points.join(" UNION ALL "),
        REPORTS_MAX + 1,
        grouped = grouped(),
    );
    let rows = Rows::query(ctx, &query).await?;
    if rows.len() > REPORTS_MAX {
        return Err(Error::TooManyReleases { service: service.to_owned(), limit: REPORTS_MAX });
    }
    let (first, last) = (rows.integers("first_us")?, rows.integers("last_us")?);
    let named = Named::read(&rows, service)?;
    let report = |row: usize| {
        let sighting = named.sighting(row, (first[row]?, last[row]?))?;
        Some(Group { day: start_us / DAY_US, sighting })
    };
    let mut open: BTreeMap<_, Sighting> = BTreeMap::new();
    let mut ended = Vec::new();
    for Group { sighting, .. } in closest((0..rows.len()).filter_map(report).collect()) {
        let key = (sighting.environment.clone(), sighting.instance.clone(), sighting.reported.release.clone());
        match open.get_mut(&key) {
            Some(stretch) if sighting.times_us.0 - stretch.times_us.1 <= hold_us => {
                stretch.times_us.1 = stretch.times_us.1.max(sighting.times_us.1);
            }
            _ => ended.extend(open.insert(key, sighting)),
        }
    }
    ended.extend(open.into_values());
    Ok((ended, ids.len() < SERIES_READ_MAX))
}

/// The columns that name instance and release.
struct Named<'a> {
    service: &'a str,
    instances: Vec<Option<String>>,
    environments: Vec<Option<String>>,
    attributes: Vec<(&'static str, Vec<Option<String>>)>,
}

impl<'a> Named<'a> {
    fn read(rows: &Rows, service: &'a str) -> Result<Self> {
        let attribute =
            |(index, (_, key)): (usize, (String, &'static str))| Ok((key, rows.texts(&format!("a{index}"))?));
        Ok(Self {
            service,
            instances: rows.texts("instance")?,
            environments: rows.texts("environment")?,
            attributes: columns().into_iter().enumerate().map(attribute).collect::<Result<_>>()?,
        })
    }

    fn attributes(&self, row: usize) -> BTreeMap<String, String> {
        let own = self.attributes.iter().filter_map(|(key, values)| Some(((*key).to_owned(), values[row].clone()?)));
        own.chain([("service.name".to_owned(), self.service.to_owned())]).collect()
    }

    fn is_simulated(&self, row: usize) -> bool {
        self.attributes(row).get("driftwatt.simulated").is_some_and(|value| value == "true")
    }

    fn sighting(&self, row: usize, times_us: (i64, i64)) -> Option<Sighting> {
        Some(Sighting {
            environment: self.environments[row].clone(),
            instance: self.instances[row].clone().unwrap_or_default(),
            reported: release_of_resource(&self.attributes(row))?,
            times_us,
        })
    }
}
