//! `driftwatt roles`: questions about the vocabulary, asked in SQL of a server or a directory.

use anyhow::{Context as _, bail};

use super::{RolesArgs, RolesQuestion, sql::run_query};

pub(super) async fn run(args: RolesArgs) -> anyhow::Result<()> {
    let query = match &args.question {
        RolesQuestion::List { text } => list(text.as_deref()),
        RolesQuestion::Explain { selector } => explain(&Selector::parse(selector)?),
        RolesQuestion::Unmapped => UNMAPPED.to_owned(),
        RolesQuestion::Check => CHECK.to_owned(),
    };
    run_query(&args.source, &query, args.format).await
}

const UNMAPPED: &str = "SELECT metric, declared_unit AS unit, kind, count(DISTINCT series_id) AS series, \
     role_suggestion(metric) AS suggestion FROM system.role_series WHERE role IS NULL \
     GROUP BY metric, declared_unit, kind ORDER BY suggestion IS NULL, series DESC, metric";

const CHECK: &str = "SELECT kind, date, metric, role, host_name, gpu_id, message FROM system.role_warnings \
     ORDER BY kind, date, metric, gpu_id";

/// `text` as a literal of SQL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn list(text: Option<&str>) -> String {
    let has = |text: &str| {
        let holds = |column| format!("strpos(lower({column}), lower({})) > 0", quoted(text));
        format!("WHERE {}", ["metric", "role", "source"].map(holds).join(" OR "))
    };
    format!(
        "SELECT metric, conditions, \"view\", role, unit, source_unit, scale, scope, rung, source FROM roles {} ORDER BY place",
        text.map(has).unwrap_or_default()
    )
}

fn explain(selector: &Selector) -> String {
    let labels = selector.labels.iter().map(|(key, value)| {
        // A promoted label is not among the attributes.
        let promoted =
            driftwatt_store::PROMOTED.iter().find(|label| label.keys.contains(&key.as_str()) || label.column == key);
        let held = match promoted {
            Some(label) if !NO_COLUMNS.contains(&label.column) => format!("s.{}", label.column),
            _ => format!("s.attributes[{}]", quoted(key)),
        };
        format!(" AND {held} = {}", quoted(value))
    });
    format!(
        "SELECT s.metric, count(DISTINCT s.series_id) AS series, s.\"view\", s.role, s.declared_unit, s.source_unit, s.unit, \
         s.scale, CASE WHEN s.role IS NULL THEN concat('no row of the table fits', \
         coalesce(concat('; most like it: ', role_suggestion(s.metric)), '')) \
         ELSE concat('row ', r.metric, CASE WHEN r.conditions = '' THEN '' ELSE concat(' if ', r.conditions) END, \
         ' of ', r.source, CASE WHEN s.contradicts THEN '; the declared unit contradicts it and was not used' ELSE '' END) \
         END AS why FROM system.role_series s LEFT JOIN roles r ON s.place = r.place WHERE s.metric = {}{} \
         GROUP BY 1, 3, 4, 5, 6, 7, 8, 9 ORDER BY s.role, series DESC",
        quoted(&selector.metric),
        labels.collect::<String>()
    )
}

/// Promoted labels that `system.role_series` has not as columns.
const NO_COLUMNS: [&str; 2] = ["service_namespace", "k8s_cluster"];

/// `metric{label="value",…}`.
#[derive(Debug, PartialEq)]
struct Selector {
    metric: String,
    labels: Vec<(String, String)>,
}

impl Selector {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong = || format!("{text:?} is not a selector like hw.temperature or hw.temperature{{hw.type=\"fan\"}}");
        let (metric, labels) = match text.split_once('{') {
            None => (text, ""),
            Some((metric, rest)) => (metric, rest.trim_end().strip_suffix('}').with_context(wrong)?),
        };
        let mut parsed = Vec::new();
        let mut rest = labels.trim();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').with_context(wrong)?;
            let value = after.trim_start().strip_prefix('"').with_context(wrong)?;
            let (value, after) = value.split_once('"').with_context(wrong)?;
            parsed.push((key.trim().to_owned(), value.to_owned()));
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let metric = metric.trim();
        if metric.is_empty() || parsed.iter().any(|(key, _)| key.is_empty() || key.ends_with(['!', '~'])) {
            bail!(wrong());
        }
        Ok(Self { metric: metric.to_owned(), labels: parsed })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::Arc,
        time::{SystemTime, UNIX_EPOCH},
    };

    use driftwatt_ingest::Ingest;
    use driftwatt_store::Store;
    use prost::Message as _;
    use serde_json::Value;

    use super::*;
    use crate::demo::{Fleet, TokenTrace};

    #[test]
    fn selectors_are_read_or_refused() {
        let check = |text: &str, metric: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(Selector::parse(text).unwrap(), Selector { metric: metric.into(), labels });
        };
        check("hw.temperature", "hw.temperature", &[]);
        check("hw.temperature{}", "hw.temperature", &[]);
        check("a:b{x=\"1, 2\" , y.z=\"\"}", "a:b", &[("x", "1, 2"), ("y.z", "")]);
        for text in ["", "{a=\"b\"}", "m{a}", "m{a=b}", "m{a=\"b", "m{a=\"b\"", "m{a!=\"b\"}", "m{=\"b\"}"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_metric_of_the_demo_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
        let ingest = Ingest::new(Arc::clone(&store), driftwatt_ingest::Config::default());
        let now_nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let trace = TokenTrace::new(now_nanos).unwrap();
        let mut names = BTreeSet::new();
        for request in Fleet::with_hours(7, now_nanos, 1).requests().chain(trace.requests()) {
            let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
            names.extend(scopes.flat_map(|scope| &scope.metrics).map(|metric| metric.name.clone()));
            let outcome = ingest.export(request.encode_to_vec().into()).await.unwrap();
            assert_eq!(outcome.rejected_count, 0, "{}", outcome.message);
        }
        assert!(names.len() > 10, "{names:?}");
        let config = driftwatt_query::Config::default();
        let session = driftwatt_query::session(&store, &config).await.unwrap();
        for name in names {
            let query = explain(&Selector::parse(&name).unwrap());
            let answer = driftwatt_query::answer(&session, &config, &query, "json").await.unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let rows = answer["rows"].as_array().unwrap();
            assert!(!rows.is_empty(), "{name}");
            for row in rows {
                let (role, why) = (row[3].as_str(), row[8].as_str().unwrap());
                assert!(role.is_some() && why.starts_with(&format!("row {name}")), "{name}: {row}");
            }
        }
    }
}
