//! `driftwatt sql`, `report`, `drift`, `idle`: ask a running server over HTTP, or open a data directory.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use datafusion::prelude::SessionContext;
use driftwatt_store::{Retention, Store};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use super::{DriftArgs, IdleArgs, SourceArgs, SqlArgs, WeeklyArgs};
use crate::{
    answers::{Answer, Desk, VERDICT_HEADER, read_prices},
    config::{Config, RawConfig},
    exit, terminal,
};

/// A data directory opened by this process.
struct Opened {
    store: Arc<Store>,
    session: SessionContext,
    config: Config,
}

async fn open(data: &Path, config: Option<&PathBuf>) -> anyhow::Result<Opened> {
    if !data.join("tables").is_dir() {
        bail!("{} is not a Driftwatt data directory (it has no folder `tables`)", data.display());
    }
    let mut raw = RawConfig::read(config)?;
    raw.server.data_dir = Some(data.to_owned());
    let mut config = raw.validate()?;
    // Whoever asks a question deletes nothing, whatever the settings at hand say.
    config.store.retention = Retention::FOREVER;
    let store =
        Store::open(config.store.clone()).await.context("for a running server, use --server instead of --data")?;
    let session = driftwatt_query::session(&store, &config.query).await?;
    Ok(Opened { store, session, config })
}

/// Asks `path` of the server; an error answer becomes an error with the server's words.
async fn ask(method: Method, server: &str, path: &str, question: &impl Serialize) -> anyhow::Result<Answer> {
    let url = format!("{}{path}", server.trim_end_matches('/'));
    let query = serde_json::to_value(question)?;
    let pairs: Vec<(String, String)> = match query {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, plain(&value))).collect(),
        _ => vec![],
    };
    let sent = reqwest::Client::new().request(method, &url).query(&pairs).send().await;
    let response =
        sent.with_context(|| format!("no server answers at {server}; start one, or name a directory with --data"))?;
    let status = response.status();
    let verdict = response.headers().get(VERDICT_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = response.text().await.with_context(|| format!("read the answer of {url}"))?;
    if status.is_success() {
        return Ok(Answer { text, verdict });
    }
    let error: Value = serde_json::from_str(&text).unwrap_or_default();
    match error["error"]["message"].as_str() {
        Some(message) => bail!("{message}"),
        None => bail!("{url} answered {status}: {text}"),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Serialize)]
struct SqlQuestion<'a> {
    query: &'a str,
    format: &'a str,
}

pub(super) async fn sql(args: SqlArgs) -> anyhow::Result<()> {
    run_sql(&args.source, &args.query, args.format).await
}

/// Runs one query and prints the answer.
///
/// # Errors
/// An unknown format, no server or directory, an error of the query.
pub(super) async fn run_sql(source: &SourceArgs, query: &str, format: Option<String>) -> anyhow::Result<()> {
    let format = format.unwrap_or_else(|| if terminal::is_interactive() { "table" } else { "json" }.to_owned());
    if !["table", "json", "ndjson", "csv"].contains(&format.as_str()) {
        bail!("{format:?} is not a format; use table, json, ndjson or csv");
    }
    let wire = if format == "table" { "json" } else { format.as_str() };
    let text = match &source.data {
        None => {
            let question = SqlQuestion { query, format: wire };
            ask(Method::GET, &source.server, "/api/v1/sql", &question).await?.text
        }
        Some(data) => {
            let opened = open(data, source.config.as_ref()).await?;
            let answer = driftwatt_query::answer(&opened.session, &opened.config.query, query, wire).await;
            opened.store.close().await?;
            answer?
        }
    };
    if format == "table" {
        let answer: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
        terminal::print(&driftwatt_query::render_table(&answer, terminal::width()));
    } else {
        terminal::print(&text);
    }
    Ok(())
}

/// A question to a server or to a directory.
async fn answered<A: Into<Answer>>(
    source: &SourceArgs,
    path: &str,
    question: &impl Serialize,
    prices: Option<&PathBuf>,
    local: impl AsyncFnOnce(Desk<'_>) -> anyhow::Result<A>,
) -> anyhow::Result<Answer> {
    let Some(data) = &source.data else {
        return ask(Method::POST, &source.server, path, question).await;
    };
    let opened = open(data, source.config.as_ref()).await?;
    let prices = read_prices(prices.or(opened.config.prices.as_ref()))?;
    let answer = local(Desk { session: &opened.session, store: Some(&opened.store), prices }).await;
    opened.store.close().await?;
    answer.map(Into::into)
}

pub(super) async fn weekly(args: WeeklyArgs) -> anyhow::Result<()> {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.weekly(question).await;
    let answer = answered(&args.source, "/api/v1/reports/weekly", question, args.prices.as_ref(), local).await?;
    let text = answer.text;
    match &args.output {
        Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?,
        None => terminal::print(&text),
    }
    Ok(())
}

pub(super) async fn idle(args: IdleArgs) -> anyhow::Result<()> {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.idle(question).await;
    terminal::print(&answered(&args.source, "/api/v1/idle", question, None, local).await?.text);
    Ok(())
}

/// Prints a drift score; the exit code is its verdict.
pub(super) async fn drift(args: DriftArgs) -> ExitCode {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.drift(question).await;
    match answered(&args.source, "/api/v1/drift", question, None, local).await {
        Ok(answer) => {
            terminal::print(&answer.text);
            exit::of_verdict(answer.verdict.as_deref())
        }
        Err(error) => exit::unchecked(&error),
    }
}
