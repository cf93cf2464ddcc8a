//! Table `events`: what happened to models, data, jobs and the registry, and what was stated about deployments.

use std::collections::BTreeMap;

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use serde_json::{Value, json};

use super::from_ms;
use crate::{
    error::Result,
    lineage::{
        deployment::{Evidence, Observation, Release, Target},
        mlflow::Change,
        open_lineage::{RunEvent, RunState},
    },
    result_table::ResultTable,
    rows::{Rows, has_result, literal},
    window::time_literal,
};

/// Statements of one service that are read, the newest.
const STATEMENTS_MAX: usize = 10_000;
/// Kind of the statement that a service runs what an alias names.
const STATED: &str = "deployment_stated";

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventRecord {
    /// When it happened, or at the latest when it was noticed.
    pub time_us: i64,
    /// The earliest time at which it can have happened; equal to `time_us` where the moment is exact.
    pub not_before_us: i64,
    /// When it reached us.
    pub received_us: i64,
    /// `mlflow` or `open_lineage`.
    pub source: &'static str,
    /// As in `alias_moved`, `version_added`, `run_completed`.
    pub kind: &'static str,
    /// Model, job, or service.
    pub subject: String,
    /// One sentence.
    pub text: String,
    /// `service.name`, where it is about a service.
    pub service: Option<String>,
    /// `deployment.environment.name`, where it is about one.
    pub environment: Option<String>,
    /// Name of the model.
    pub model: Option<String>,
    /// Its version now.
    pub version: Option<String>,
    /// The alias that names it.
    pub alias: Option<String>,
    /// Run of OpenLineage.
    pub run_id: Option<String>,
    /// What else the source said, as JSON.
    pub detail: Option<String>,
}

/// That a service runs what an alias of a registry names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statement {
    /// Whom it is about.
    pub target: Target,
    /// Name of the model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// Version in the words of the service; none where the alias was removed.
    pub version: Option<String>,
    /// UTC microseconds after which the alias moved.
    pub not_before_us: i64,
    /// UTC microseconds at which that was seen.
    pub seen_us: i64,
    /// UTC microseconds at which it was stated: later than seen where the service was said to follow the alias only afterwards.
    pub received_us: i64,
}

impl Statement {
    /// It as evidence of what runs.
    pub fn observation(&self) -> Observation {
        let release = self.version.clone().map(|version| Release { model: self.model.clone(), version });
        let evidence = Evidence::Alias { alias: self.alias.clone(), release, not_before_us: self.not_before_us };
        Observation { target: self.target.clone(), time_us: self.seen_us, evidence, received_us: self.received_us }
    }

    /// Statements about `service`, in order of time.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn of_service(ctx: &SessionContext, service: &str) -> Result<Vec<Self>> {
        let condition = format!("kind = '{STATED}' AND service_name = {}", literal(service));
        Self::query(ctx, &format!("reports.{} WHERE {condition}", EventRecord::TABLE)).await
    }

    /// The last statement of each target, model and alias.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn last(ctx: &SessionContext) -> Result<BTreeMap<(Target, String, String), Self>> {
        let key = |one: &Self| (one.target.clone(), one.model.clone(), one.alias.clone());
        let last = format!(
            "(SELECT *, row_number() OVER (PARTITION BY service_name, environment, model, alias \
             ORDER BY time DESC, received_time DESC) AS place FROM reports.{} WHERE kind = '{STATED}') WHERE place = 1",
            EventRecord::TABLE
        );
        Ok(Self::query(ctx, &last).await?.into_iter().map(|one| (key(&one), one)).collect())
    }

    async fn query(ctx: &SessionContext, rows: &str) -> Result<Vec<Self>> {
        if !has_result(ctx, EventRecord::TABLE) {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT time, not_before, received_time, service_name, environment, model, alias, version FROM {rows} \
             ORDER BY time DESC, received_time DESC LIMIT {STATEMENTS_MAX}"
        );
        let rows = Rows::query(ctx, &query).await?;
        let times = |name: &str| rows.integers(name);
        let (time, not_before, received) = (times("time")?, times("not_before")?, times("received_time")?);
        let (services, environments) = (rows.texts("service_name")?, rows.texts("environment")?);
        let (models, aliases, versions) = (rows.texts("model")?, rows.texts("alias")?, rows.texts("version")?);
        let statement = |row: usize| {
            Some(Self {
                target: Target { service: services[row].clone()?, environment: environments[row].clone() },
                model: models[row].clone()?,
                alias: aliases[row].clone()?,
                version: versions[row].clone(),
                not_before_us: not_before[row]?,
                seen_us: time[row]?,
                received_us: received[row]?,
            })
        };
        Ok((0..rows.len()).rev().filter_map(statement).collect())
    }
}

impl EventRecord {
    /// The result table.
    pub const TABLE: &str = "events";

    /// The row of a change of the registry, noticed by the poll at `noticed_us` and not by the one at `previous_us`.
    pub fn of_change(change: &Change, previous_us: Option<i64>, noticed_us: i64) -> Self {
        let between = (previous_us.unwrap_or(noticed_us), noticed_us);
        let mut row = Self { received_us: noticed_us, source: "mlflow", ..Self::default() };
        let (times, kind, model, version, text) = match change {
            Change::VersionAdded(version) => {
                let times = from_ms(version.creation_timestamp).map_or(between, |time_us| (time_us, time_us));
                let text = format!("{} {} was registered", version.name, version.version);
                (times, "version_added", &version.name, Some(&version.version), text)
            }
            Change::VersionRemoved { model, version } => {
                (between, "version_removed", model, Some(version), format!("{model} {version} was deleted"))
            }
            Change::VersionUpdated(version) => {
                let text = format!("tags, stage or status of {} {} changed", version.name, version.version);
                (between, "version_updated", &version.name, Some(&version.version), text)
            }
            Change::ModelTagsChanged { model, tags } => {
                row.detail = Some(json!({ "tags": tags }).to_string());
                (between, "model_tags_changed", model, None, format!("tags of {model} changed"))
            }
            Change::AliasMoved { model, alias, from, to, not_before_us, seen_us } => {
                let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "nothing".to_owned());
                row.alias = Some(alias.clone());
                row.detail = Some(json!({ "from": from, "to": to }).to_string());
                let text = format!("alias {alias} of {model} moved from {} to {}", name(from), name(to));
                ((*not_before_us, *seen_us), "alias_moved", model, to.as_ref(), text)
            }
        };
        (row.not_before_us, row.time_us) = times;
        Self { kind, subject: model.clone(), model: Some(model.clone()), version: version.cloned(), text, ..row }
    }

    /// The row of a statement.
    pub fn of_statement(statement: &Statement) -> Self {
        let Statement { target, model, alias, version, .. } = statement;
        let text = match version {
            Some(version) => format!("{} follows {alias} of {model}, which names {version}", target.service),
            None => format!("{} follows {alias} of {model}, which was removed", target.service),
        };
        Self {
            time_us: statement.seen_us,
            not_before_us: statement.not_before_us,
            received_us: statement.received_us,
            source: "mlflow",
            kind: STATED,
            subject: target.service.clone(),
            text,
            service: Some(target.service.clone()),
            environment: target.environment.clone(),
            model: Some(model.clone()),
            version: version.clone(),
            alias: Some(alias.clone()),
            ..Self::default()
        }
    }

    /// That the registry was read whole between `began_us` and `ended_us`.
    pub fn registry_read(began_us: i64, ended_us: i64, models: usize, versions: usize) -> Self {
        Self {
            time_us: ended_us,
            not_before_us: began_us,
            received_us: ended_us,
            source: "mlflow",
            kind: "registry_read",
            subject: "registry".to_owned(),
            text: format!("the registry was read: {models} models, {versions} versions"),
            detail: Some(json!({ "models": models, "versions": versions }).to_string()),
            ..Self::default()
        }
    }

    /// That the registry could not be read at `time_us`.
    pub fn registry_failed(reason: &str, time_us: i64) -> Self {
        Self {
            time_us,
            not_before_us: time_us,
            received_us: time_us,
            source: "mlflow",
            kind: "registry_failed",
            subject: "registry".to_owned(),
            text: format!("the registry could not be read: {reason}"),
            ..Self::default()
        }
    }

    /// The row of a run event, received at `received_us`.
    pub fn of_run(event: &RunEvent, received_us: i64) -> Self {
        let (kind, what) = match event.state {
            RunState::Start => ("run_started", "started"),
            RunState::Running => ("run_running", "runs"),
            RunState::Complete => ("run_completed", "completed"),
            RunState::Abort => ("run_aborted", "was aborted"),
            RunState::Fail => ("run_failed", "failed"),
            RunState::Other => ("run_noted", "sent metadata"),
        };
        let error = event.error_message.as_ref().map_or(String::new(), |message| format!(": {message}"));
        let subject = format!("{}/{}", event.job_namespace, event.job_name);
        let detail = json!({
            "producer": event.producer,
            "parent_run_id": event.parent_run_id,
            "code_version": event.code_version,
            "nominal_start_us": event.nominal_start_us,
            "facets_left_out": event.facets_left_out,
        });
        Self {
            time_us: event.time_us,
            not_before_us: event.time_us,
            received_us,
            source: "open_lineage",
            kind,
            text: format!("run {} of {subject} {what}{error}", event.run_id),
            subject,
            run_id: Some(event.run_id.clone()),
            detail: Some(detail.to_string()),
            ..Self::default()
        }
    }

    /// The rows of the table.
    ///
    /// # Errors
    /// None in practice: the columns are of equal length.
    pub fn to_batch(records: &[Self]) -> Result<RecordBatch> {
        let rows = || records.iter();
        let mut table = ResultTable::at(rows().map(|row| row.time_us).collect());
        table
            .moments("not_before", rows().map(|row| Some(row.not_before_us)))
            .moments("received_time", rows().map(|row| Some(row.received_us)))
            .texts("source", rows().map(|row| Some(row.source.to_owned())))
            .texts("kind", rows().map(|row| Some(row.kind.to_owned())))
            .texts("subject", rows().map(|row| Some(row.subject.clone())))
            .texts("text", rows().map(|row| Some(row.text.clone())))
            .texts("service_name", rows().map(|row| row.service.clone()))
            .texts("environment", rows().map(|row| row.environment.clone()))
            .texts("model", rows().map(|row| row.model.clone()))
            .texts("version", rows().map(|row| row.version.clone()))
            .texts("alias", rows().map(|row| row.alias.clone()))
            .texts("run_id", rows().map(|row| row.run_id.clone()))
            .texts("detail", rows().map(|row| row.detail.clone()));
        table.finish()
    }

    /// The last move of each alias of the registry.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn last_alias_moves(ctx: &SessionContext, rows_max: usize) -> Result<Vec<Change>> {
        let rows = Self::last(ctx, "alias_moved", "model, alias", None, rows_max).await?;
        let Some(rows) = rows else { return Ok(Vec::new()) };
        let (time, not_before) = (rows.integers("time")?, rows.integers("not_before")?);
        let (models, aliases, versions) = (rows.texts("model")?, rows.texts("alias")?, rows.texts("version")?);
        let details = rows.texts("detail")?;
        let moved = |row: usize| {
            let detail: Value = serde_json::from_str(details[row].as_deref()?).ok()?;
            Some(Change::AliasMoved {
                model: models[row].clone()?,
                alias: aliases[row].clone()?,
                from: detail["from"].as_str().map(str::to_owned),
                to: versions[row].clone(),
                not_before_us: not_before[row]?,
                seen_us: time[row]?,
            })
        };
        Ok((0..rows.len()).filter_map(moved).collect())
    }

    /// The tags of each model of the registry, as they were last told.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn last_model_tags(
        ctx: &SessionContext,
        rows_max: usize,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
        let rows = Self::last(ctx, "model_tags_changed", "model", None, rows_max).await?;
        let Some(rows) = rows else { return Ok(BTreeMap::new()) };
        let tags = |detail: Option<String>| {
            let detail: Value = serde_json::from_str(detail.as_deref()?).ok()?;
            serde_json::from_value(detail["tags"].clone()).ok()
        };
        let pairs = rows.texts("model")?.into_iter().zip(rows.texts("detail")?);
        Ok(pairs.filter_map(|(model, detail)| Some((model?, tags(detail)?))).collect())
    }

    /// When the registry was last read whole up to `until_us`: begin and end.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn last_registry_read(ctx: &SessionContext, until_us: i64) -> Result<Option<(i64, i64)>> {
        let Some(rows) = Self::last(ctx, "registry_read", "source", Some(until_us), 1).await? else { return Ok(None) };
        let times = rows.integers("not_before")?.into_iter().zip(rows.integers("time")?);
        Ok(times.filter_map(|(began_us, ended_us)| Some((began_us?, ended_us?))).next())
    }

    /// When the registry could last not be read up to `until_us`, and the words.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn last_registry_failure(ctx: &SessionContext, until_us: i64) -> Result<Option<(i64, String)>> {
        let Some(rows) = Self::last(ctx, "registry_failed", "source", Some(until_us), 1).await? else {
            return Ok(None);
        };
        let pairs = rows.integers("time")?.into_iter().zip(rows.texts("text")?);
        Ok(pairs.filter_map(|(time_us, text)| Some((time_us?, text?))).next())
    }

    async fn last(
        ctx: &SessionContext,
        kind: &str,
        key: &str,
        until_us: Option<i64>,
        rows_max: usize,
    ) -> Result<Option<Rows>> {
        if !has_result(ctx, Self::TABLE) {
            return Ok(None);
        }
        let until = until_us.map_or(String::new(), |until_us| format!(" AND time <= {}", time_literal(until_us)));
        let query = format!(
            "SELECT time, not_before, model, alias, version, text, detail FROM (SELECT *, row_number() OVER \
             (PARTITION BY {key} ORDER BY time DESC, received_time DESC) AS place FROM reports.{} \
             WHERE kind = '{kind}'{until}) WHERE place = 1 ORDER BY time DESC LIMIT {rows_max}",
            Self::TABLE
        );
        Ok(Some(Rows::query(ctx, &query).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_session::{add_result, session};

    fn moved(to: Option<&str>, times: (i64, i64)) -> Change {
        Change::AliasMoved {
            model: "resnet".to_owned(),
            alias: "champion".to_owned(),
            from: Some("2".to_owned()),
            to: to.map(str::to_owned),
            not_before_us: times.0,
            seen_us: times.1,
        }
    }

    fn statement(version: Option<&str>, seen_us: i64) -> Statement {
        Statement {
            target: Target { service: "resize".to_owned(), environment: Some("prod".to_owned()) },
            model: "resnet".to_owned(),
            alias: "champion".to_owned(),
            version: version.map(str::to_owned),
            not_before_us: seen_us - 5,
            seen_us,
            received_us: seen_us,
        }
    }

    #[test]
    fn an_alias_move_is_an_event_with_its_window() {
        let row = EventRecord::of_change(&moved(None, (10, 20)), Some(1), 20);
        assert_eq!((row.not_before_us, row.time_us, row.kind), (10, 20, "alias_moved"));
        assert_eq!(row.text, "alias champion of resnet moved from 2 to nothing");
    }

    #[tokio::test]
    async fn what_was_known_before_a_restart_reads_back() {
        let tags = Change::ModelTagsChanged {
            model: "resnet".to_owned(),
            tags: [("tier".to_owned(), "gold".to_owned())].into(),
        };
        let statements = [statement(Some("3"), 20), statement(None, 40)];
        let mut rows = vec![
            EventRecord::of_change(&moved(Some("3"), (10, 20)), Some(1), 20),
            EventRecord::of_change(&moved(None, (30, 40)), Some(20), 40),
            EventRecord::of_change(&tags, Some(1), 20),
            EventRecord::registry_read(15, 20, 1, 3),
            EventRecord::registry_failed("down", 50),
        ];
        rows.extend(statements.iter().map(EventRecord::of_statement));
        let ctx = session(&[], &[]);
        assert_eq!(EventRecord::last_registry_read(&ctx, 99).await.unwrap(), None);
        add_result(&ctx, EventRecord::TABLE, EventRecord::to_batch(&rows).unwrap());
        assert_eq!(EventRecord::last_alias_moves(&ctx, 9).await.unwrap(), [moved(None, (30, 40))]);
        assert_eq!(EventRecord::last_model_tags(&ctx, 9).await.unwrap()["resnet"]["tier"], "gold");
        assert_eq!(EventRecord::last_registry_read(&ctx, 99).await.unwrap(), Some((15, 20)));
        assert_eq!(EventRecord::last_registry_read(&ctx, 19).await.unwrap(), None);
        let failure = EventRecord::last_registry_failure(&ctx, 99).await.unwrap().unwrap();
        assert_eq!(failure, (50, "the registry could not be read: down".to_owned()));
        assert_eq!(Statement::of_service(&ctx, "resize").await.unwrap(), statements);
        assert_eq!(Statement::of_service(&ctx, "chat").await.unwrap(), []);
        assert_eq!(Statement::last(&ctx).await.unwrap().into_values().collect::<Vec<_>>(), [statement(None, 40)]);
        assert_eq!(statement(None, 40).observation().release(), None);
    }
}
