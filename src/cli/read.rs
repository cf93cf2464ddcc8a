//! `driftwatt report`, `drift`, `idle`, `diagnose`, `lineage`, `deploy mark`, and what all questions share: ask a running server over HTTP, or open
//! a data directory.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::Utc;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde_json::Value;

use super::{
    DiagnoseArgs, DriftArgs, IdleArgs, LineageArgs, MarkArgs, OffPeakArgs, SourceArgs, WeeklyArgs, folders,
    source::{Opened, no_server, refusal},
};
use crate::{
    answers::{Answer, Desk, Format, VERDICT_HEADER, read_prices},
    exit, terminal,
};

/// The answer of `path` as JSON.
///
/// # Errors
/// No server, its words, an answer that is no JSON.
pub(super) async fn ask_json(method: Method, server: &str, path: &str) -> anyhow::Result<Value> {
    let answer = ask(method, server, path, &Value::Null).await?;
    serde_json::from_str(&answer.text).with_context(|| format!("{server}{path} did not answer with JSON"))
}

/// Asks `path` of the server; an error answer becomes an error with the server's words.
async fn ask(method: Method, server: &str, path: &str, question: &impl Serialize) -> anyhow::Result<Answer> {
    let url = format!("{}{path}", server.trim_end_matches('/'));
    let query = serde_json::to_value(question)?;
    let pairs: Vec<(String, String)> = match query {
        // What was left out is not sent: the server would read `null` as a text.
        Value::Object(fields) => {
            let given = fields.into_iter().filter(|(_, value)| !value.is_null());
            given.map(|(name, value)| (name, plain(&value))).collect()
        }
        _ => vec![],
    };
    sent(reqwest::Client::new().request(method, &url).query(&pairs), server, &url).await
}

/// What `server` answers to a request for `url`; an error answer becomes an error with the server's words.
pub(super) async fn sent(request: RequestBuilder, server: &str, url: &str) -> anyhow::Result<Answer> {
    let response = request.send().await.with_context(|| no_server(server))?;
    let status = response.status();
    let verdict = response.headers().get(VERDICT_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = response.text().await.with_context(|| format!("read the answer of {url}"))?;
    if status.is_success() {
        return Ok(Answer { text, verdict });
    }
    Err(refusal(&text, || format!("{url} answered {status}: {text}")))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A question to a server or to a directory.
pub(super) async fn answered<A: Into<Answer>>(
    source: &SourceArgs,
    path: &str,
    question: &impl Serialize,
    prices: Option<&PathBuf>,
    local: impl AsyncFnOnce(Desk<'_>) -> anyhow::Result<A>,
) -> anyhow::Result<Answer> {
    answered_by(Method::POST, source, path, question, prices, local).await
}

/// The same with the method of the request to a server: a POST may record something.
async fn answered_by<A: Into<Answer>>(
    method: Method,
    source: &SourceArgs,
    path: &str,
    question: &impl Serialize,
    prices: Option<&PathBuf>,
    local: impl AsyncFnOnce(Desk<'_>) -> anyhow::Result<A>,
) -> anyhow::Result<Answer> {
    let Some(data) = &source.data else {
        return ask(method, &source.server, path, question).await;
    };
    let opened = Opened::open(data, source.config.as_ref()).await?;
    let prices = read_prices(prices.or(opened.config.prices.as_ref()))?;
    let answer = local(Desk {
        session: &opened.session,
        store: Some(&opened.store),
        prices,
        holidays: opened.config.holidays.clone(),
        scope: opened.config.lineage.scope(),
        drift: &opened.config.drift,
        now_us: Utc::now().timestamp_micros(),
    })
    .await;
    opened.store.close().await?;
    answer.map(Into::into)
}

pub(super) async fn weekly(args: WeeklyArgs) -> anyhow::Result<()> {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.weekly(question).await;
    let answer = answered(&args.source, "/api/v1/reports/weekly", question, args.prices.as_ref(), local).await?;
    write_to(args.output.as_ref(), &answer.text)
}

/// To a file, or to standard output.
pub(super) fn write_to(output: Option<&PathBuf>, text: &str) -> anyhow::Result<()> {
    match output {
        Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?,
        None => terminal::print(text),
    }
    Ok(())
}

pub(super) async fn diagnose(args: DiagnoseArgs) -> anyhow::Result<()> {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.diagnose(question).await;
    let answer = answered(&args.source, "/api/v1/diagnose", question, None, local).await?;
    write_to(args.output.as_ref(), &answer.text)
}

pub(super) async fn lineage(args: LineageArgs) -> anyhow::Result<()> {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.lineage(question).await;
    let answer = answered_by(Method::GET, &args.source, "/api/v1/lineage", question, None, local).await?;
    write_to(args.output.as_ref(), &answer.text)
}

pub(super) async fn mark(args: MarkArgs) -> anyhow::Result<()> {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.mark(question).await;
    terminal::print(&answered(&args.source, "/api/v1/deployments", question, None, local).await?.text);
    Ok(())
}

pub(super) async fn idle(args: IdleArgs) -> anyhow::Result<()> {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.idle(question).await;
    write_to(args.output.as_ref(), &answered(&args.source, "/api/v1/idle", question, None, local).await?.text)
}

pub(super) async fn off_peak(args: OffPeakArgs) -> anyhow::Result<()> {
    let mut question = args.question.clone();
    if let Some(folder) = &args.patches {
        folders::ensure_empty(folder)?;
        (question.format, question.manifests) = (Format::Json, true);
    }
    let local = async |desk: Desk<'_>| desk.off_peak(&question).await;
    let answer = answered(&args.source, "/api/v1/offpeak", &question, args.prices.as_ref(), local).await?.text;
    let Some(folder) = &args.patches else { return write_to(args.output.as_ref(), &answer) };
    let report: Value = serde_json::from_str(&answer).context("read the off-peak hours")?;
    let (mut said, mut file_count) = (String::new(), 0);
    for fleet in report["fleets"].as_array().into_iter().flatten() {
        let is_simulated = fleet["simulated"] == true;
        said += if is_simulated { "off-peak hours (SIMULATED)\n" } else { "off-peak hours\n" };
        let at = folder.join(folders::name("offpeak", is_simulated, 0));
        file_count += folders::write(&fleet["manifests"], &at, &mut said)?;
    }
    said += &folders::summary(file_count);
    terminal::print(if args.question.format == Format::Json { &answer } else { &said });
    Ok(())
}

/// Prints a drift score; the exit code is its verdict.
pub(super) async fn drift(args: DriftArgs) -> ExitCode {
    let question = &args.question;
    let local = async |desk: Desk<'_>| desk.drift(question).await;
    match answered(&args.source, "/api/v1/drift", question, None, local).await {
        Ok(answer) => match write_to(args.output.as_ref(), &answer.text) {
            Ok(()) => exit::of_verdict(answer.verdict.as_deref()),
            Err(error) => exit::unchecked(&error),
        },
        Err(error) => exit::unchecked(&error),
    }
}
