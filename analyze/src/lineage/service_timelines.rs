//! What ran of a service, from everything that is stored about it: its telemetry, marks, and what its aliases name.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use super::{
    deployment::{Observation, Release, Target},
    deployment_mark::{self, DeploymentMark},
    records::{DeploymentRecord, EventRecord, Statement, corrections},
    sightings::{self, Sighting, Sightings},
    timeline::{Timeline, TimelineRules, timelines},
};
use crate::{
    error::Result,
    rows::{Rows, has_result, literal},
    window::{DAY_US, Window},
};

/// Days before the present whose telemetry is read.
pub const DAYS_USUAL: u32 = 30;

/// What is known of a service.
#[derive(Debug, Clone)]
pub struct ServiceTimelines {
    /// Of each environment, or of none where nothing names one.
    pub timelines: BTreeMap<Target, Timeline>,
    /// The attribute that a reported version comes from, where it is not that of the model itself.
    pub indirect: BTreeMap<Release, &'static str>,
    /// Whether there was simulated telemetry, and real telemetry.
    pub data: (bool, bool),
    /// Telemetry was read of this time; marks and aliases of all time.
    pub window: Window,
    /// What is known less exactly than usual, as sentences.
    pub notes: Vec<String>,
}

/// Builds the timelines of `service` at the end of `window`, from its telemetry in the window, and from all marks and aliases.
///
/// With `model`, evidence about other models is left out: a server of several models reports several releases at once.
///
/// # Errors
/// Those of queries.
pub async fn read(
    ctx: &SessionContext,
    service: &str,
    model: Option<&str>,
    window: Window,
) -> Result<ServiceTimelines> {
    let rules = TimelineRules::default();
    let Sightings { seen, data, notes } = sightings::read(ctx, service, window, rules.sighting_hold_us).await?;
    let marks = deployment_mark::read(ctx, service).await?;
    let statements = Statement::of_service(ctx, service).await?;
    let mut observations = observations(service, &seen, &marks, &statements);
    let is_wanted = |observation: &Observation| {
        let named = observation.release().map(|release| release.model.as_str());
        model.is_none() || named.is_none() || named == model
    };
    observations.retain(is_wanted);
    let indirect = seen.iter().filter(|sighting| !sighting.is_of_model());
    let indirect = indirect.map(|sighting| (sighting.reported.release.clone(), sighting.reported.attribute)).collect();
    let timelines = timelines(&observations, &rules, window.end_us);
    Ok(ServiceTimelines { timelines, indirect, data, window, notes })
}

impl Sighting {
    fn is_of_model(&self) -> bool {
        self.reported.closeness == super::deployment::Closeness::Model
    }
}

/// All evidence, each at the environments that it is about.
fn observations(
    service: &str,
    seen: &[Sighting],
    marks: &[DeploymentMark],
    statements: &[Statement],
) -> Vec<Observation> {
    let named = seen.iter().map(|sighting| &sighting.environment);
    let named = named.chain(marks.iter().map(|mark| &mark.environment));
    let named = named.chain(statements.iter().map(|statement| &statement.target.environment));
    let environments: BTreeSet<String> = named.flatten().cloned().collect();
    // What names no environment is about the only one, else about none in particular.
    let only = environments.first().filter(|_| environments.len() == 1).cloned();
    let of = |environment: Option<String>| Target { service: service.to_owned(), environment };
    let place = |environment: &Option<String>| of(environment.clone().or_else(|| only.clone()));
    let mut found: Vec<Observation> =
        seen.iter().map(|sighting| sighting.observation(&place(&sighting.environment))).collect();
    let mut targets: BTreeSet<Target> = found.iter().map(|observation| observation.target.clone()).collect();
    targets.extend(environments.into_iter().map(|environment| of(Some(environment))));
    if targets.is_empty() {
        targets.insert(of(None));
    }
    // A statement without an environment is about all of them.
    let everywhere = |environment: &Option<String>| -> Vec<Target> {
        match environment {
            Some(_) => vec![place(environment)],
            None => targets.iter().cloned().collect(),
        }
    };
    for mark in marks {
        for target in everywhere(&mark.environment) {
            let model = model_of(&target, &found, statements, service);
            found.push(mark.observation(&target, &model));
        }
    }
    for statement in statements {
        let places = everywhere(&statement.target.environment);
        found.extend(places.into_iter().map(|target| Observation { target, ..statement.observation() }));
    }
    found
}

/// What the model of `target` is called, for marks that do not say: as its last report has it, else as its alias does.
fn model_of(target: &Target, found: &[Observation], statements: &[Statement], service: &str) -> String {
    let own = found.iter().filter(|observation| observation.target == *target);
    let last = own.max_by_key(|observation| observation.time_us).and_then(Observation::release);
    let stated = || statements.iter().rfind(|statement| statement.version.is_some()).map(|one| one.model.clone());
    last.map(|release| release.model.clone()).or_else(stated).unwrap_or_else(|| service.to_owned())
}

/// Services about which something was ever stated, by a mark or an alias, in the order of their names: those after `after`, at most
/// `rows_max`.
///
/// # Errors
/// Those of queries.
pub async fn stated_services(ctx: &SessionContext, after: Option<&str>, rows_max: usize) -> Result<Vec<String>> {
    let marked = format!("SELECT service_name FROM reports.{}", deployment_mark::TABLE);
    let followed = format!("SELECT service_name FROM reports.{} WHERE service_name IS NOT NULL", EventRecord::TABLE);
    let sources = [(deployment_mark::TABLE, marked), (EventRecord::TABLE, followed)];
    let sources: Vec<String> =
        sources.into_iter().filter(|(table, _)| has_result(ctx, table)).map(|(_, query)| query).collect();
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let after = after.map_or(String::new(), |after| format!(" WHERE service_name > {}", literal(after)));
    let query = format!(
        "SELECT DISTINCT service_name FROM ({}){after} ORDER BY 1 LIMIT {rows_max}",
        sources.join(" UNION ALL ")
    );
    Ok(Rows::query(ctx, &query).await?.texts("service_name")?.into_iter().flatten().collect())
}

/// Brings the table `deployments` up to what is known of `service` at `now_us`; how many rows that took.
///
/// # Errors
/// Those of queries and of the store.
pub async fn record(ctx: &SessionContext, store: &Store, service: &str, now_us: i64) -> Result<usize> {
    let window = Window::new(now_us - i64::from(DAYS_USUAL) * DAY_US, now_us)?;
    let found = read(ctx, service, None, window).await?;
    found.record(ctx, store, service, now_us).await
}

impl ServiceTimelines {
    /// Brings the table `deployments` up to this; how many rows that took.
    ///
    /// # Errors
    /// Those of queries and of the store.
    pub async fn record(&self, ctx: &SessionContext, store: &Store, service: &str, now_us: i64) -> Result<usize> {
        let recorded = DeploymentRecord::of_service(ctx, service).await?;
        let mut missing = Vec::new();
        for (target, timeline) in &self.timelines {
            let own: Vec<DeploymentRecord> =
                recorded.iter().filter(|row| row.environment == target.environment).cloned().collect();
            missing.extend(corrections(&own, &DeploymentRecord::of_timeline(target, timeline)));
        }
        if !missing.is_empty() {
            store.write_result(DeploymentRecord::TABLE, DeploymentRecord::to_batch(&missing, now_us)?).await?;
        }
        Ok(missing.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::{
        deployment::{Closeness, ReportedRelease},
        timeline::Status,
    };

    fn mark(time_us: i64, environment: Option<&str>, version: &str) -> DeploymentMark {
        DeploymentMark {
            time_us,
            service: "chat".into(),
            environment: environment.map(str::to_owned),
            model: None,
            version: version.into(),
            received_us: time_us,
        }
    }

    fn seen(environment: Option<&str>, version: &str, times_us: (i64, i64)) -> Sighting {
        let release = Release { model: "llama".into(), version: version.into() };
        let reported = ReportedRelease { release, attribute: "driftwatt.model.version", closeness: Closeness::Model };
        Sighting { environment: environment.map(str::to_owned), instance: "pod".into(), reported, times_us }
    }

    fn at(observations: &[Observation], environment: Option<&str>, time_us: i64) -> Option<(String, String)> {
        let built = timelines(observations, &TimelineRules::default(), 1_000);
        let target = Target { service: "chat".into(), environment: environment.map(str::to_owned) };
        match built.get(&target)?.at(time_us) {
            Status::Known { release, .. } => Some((release.model, release.version)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mark_without_environment_is_about_all_and_telemetry_without_is_about_the_only_one() {
        let known = |version: &str| Some(("llama".to_owned(), version.to_owned()));
        let both = observations("chat", &[seen(Some("prod"), "1", (5, 6))], &[mark(900, None, "2")], &[]);
        assert_eq!(at(&both, Some("prod"), 5), known("1"));
        assert_eq!(at(&both, Some("prod"), 950), known("2"));
        let only = observations("chat", &[seen(None, "1", (5, 6))], &[mark(900, Some("prod"), "2")], &[]);
        assert_eq!((at(&only, Some("prod"), 950), at(&only, None, 950)), (known("2"), None));
        let several = observations(
            "chat",
            &[seen(None, "1", (5, 6))],
            &[mark(900, Some("prod"), "2"), mark(900, Some("test"), "3")],
            &[],
        );
        assert_eq!((at(&several, None, 5), at(&several, Some("test"), 950).unwrap().1), (known("1"), "3".to_owned()));
        // Nothing but a mark: the service is its own model.
        let alone = observations("chat", &[], &[mark(5, None, "2")], &[]);
        assert_eq!(at(&alone, None, 7), Some(("chat".to_owned(), "2".to_owned())));
    }

    #[test]
    fn an_alias_names_the_model_of_marks_that_do_not() {
        let statement = Statement {
            target: Target { service: "chat".into(), environment: Some("prod".into()) },
            model: "llama".into(),
            alias: "champion".into(),
            version: Some("7".into()),
            not_before_us: 4,
            seen_us: 5,
            received_us: 5,
        };
        let found = observations("chat", &[], &[mark(50, Some("prod"), "8")], &[statement]);
        assert_eq!(at(&found, Some("prod"), 10), Some(("llama".to_owned(), "7".to_owned())));
        assert_eq!(at(&found, Some("prod"), 60), Some(("llama".to_owned(), "8".to_owned())));
    }

    #[tokio::test]
    async fn services_that_something_was_stated_of_come_page_by_page() {
        let ctx = SessionContext::new();
        for sql in [
            "CREATE SCHEMA reports",
            "CREATE TABLE reports.deployment_marks AS SELECT * FROM (VALUES ('b'), ('a'), ('it''s'), ('b')) AS t(service_name)",
        ] {
            ctx.sql(sql).await.unwrap().collect().await.unwrap();
        }
        let (mut pages, mut after): (Vec<Vec<String>>, Option<String>) = (Vec::new(), None);
        loop {
            let page = stated_services(&ctx, after.as_deref(), 2).await.unwrap();
            after = page.last().cloned();
            if after.is_none() {
                break;
            }
            pages.push(page);
        }
        assert_eq!(pages, [vec!["a", "b"], vec!["it's"]]);
    }
}
