//! `driftwatt schedule`: what is scheduled, and a run by hand.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{ReportFormat, ScheduleArgs, ScheduleCommand, read::ask_json, source::Opened};
use crate::{
    clock::SystemClock,
    exit,
    scheduler::{RunReport, Scheduler},
    terminal,
};

pub(super) async fn run(args: ScheduleArgs) -> anyhow::Result<ExitCode> {
    let format = args.format.unwrap_or_else(ReportFormat::usual);
    match &args.command {
        ScheduleCommand::List => {
            let listed = match &args.source.data {
                None => ask_json(reqwest::Method::GET, &args.source.server, "/api/v1/schedules").await?,
                Some(_) => local(&args, async |scheduler| Ok(Value::Array(scheduler.list().await?))).await?,
            };
            terminal::print(&match format {
                ReportFormat::Text => list_text(&listed),
                ReportFormat::Json => listed.to_string(),
            });
            Ok(exit::SOUND)
        }
        ScheduleCommand::Run { name } => {
            let path = format!("/api/v1/schedules/{name}/run");
            let answer = match &args.source.data {
                None => ask_json(reqwest::Method::POST, &args.source.server, &path).await?,
                Some(_) => local(&args, async |scheduler| Ok(json!(scheduler.run_now(name).await?))).await?,
            };
            let report: RunReport = serde_json::from_value(answer).context("read the answer of the server")?;
            terminal::print(&match format {
                ReportFormat::Text => run_text(&report),
                ReportFormat::Json => serde_json::to_string(&report)?,
            });
            Ok(if report.succeeded() { exit::SOUND } else { ExitCode::from(1) })
        }
    }
}

/// Asks the schedules of a directory whose server is stopped.
async fn local(
    args: &ScheduleArgs,
    ask: impl AsyncFnOnce(&Scheduler) -> anyhow::Result<Value>,
) -> anyhow::Result<Value> {
    let data = args.source.data.as_ref().context("no directory is named")?;
    let opened = Opened::open(data, args.source.config.as_ref()).await?;
    let scheduler = Scheduler::new(&opened.config, &opened.store, &opened.session, Arc::new(SystemClock), None);
    let answer = match &scheduler {
        Ok(scheduler) => ask(scheduler).await,
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    opened.store.close().await?;
    answer
}

fn list_text(listed: &Value) -> String {
    let empty = vec![];
    let schedules = listed.as_array().unwrap_or(&empty);
    if schedules.is_empty() {
        return "No [[schedule]] and no [[gates.watch]] is configured (docs/delivery.md).\n".into();
    }
    let text = |value: &Value| Value::String(terminal::plain(value.as_str().unwrap_or("–")));
    let rows = schedules.iter().map(|row| {
        let whom = match (row["to"].as_u64().unwrap_or(0), row["webhooks"].as_array().map_or(0, Vec::len)) {
            (0, 0) => "nobody".to_owned(),
            (mails, 0) => format!("{mails} by mail"),
            (0, hooks) => format!("{hooks} webhooks"),
            (mails, hooks) => format!("{mails} by mail, {hooks} webhooks"),
        };
        let when = match (row["cron"].as_str(), row["arrival_seconds"].as_u64(), row["folder"].as_str()) {
            (Some(cron), ..) => format!("{cron} {}", row["time_zone"].as_str().unwrap_or("")),
            (_, Some(seconds), _) => format!("an hour at rest for {seconds} s"),
            (.., Some(folder)) => format!("a file in {}", terminal::plain(folder)),
            _ => "–".to_owned(),
        };
        let cells = ["name", "job"].map(|name| text(&row[name]));
        let rest = [Value::from(when), text(&row["next"]), whom.into(), text(&row["last"]), text(&row["outcome"])];
        cells.into_iter().chain(rest).collect()
    });
    terminal::table(&["name", "job", "when", "next", "told", "last", "outcome"], rows.collect())
}

fn run_text(report: &RunReport) -> String {
    let mut text = format!("{} {}\n", report.run_id, report.outcome);
    for (name, line) in [("found", &report.summary), ("note", &report.note), ("error", &report.error)] {
        if let Some(line) = line {
            text += &format!("{name}: {}\n", terminal::plain(line));
        }
    }
    for delivery in &report.deliveries {
        let error = delivery.error.as_ref().map(|error| format!(": {}", terminal::plain(error))).unwrap_or_default();
        let recipient = terminal::plain(&delivery.recipient);
        text += &format!("{} {recipient}, try {}: {}{error}\n", delivery.channel, delivery.attempt, delivery.outcome);
    }
    if report.deliveries.is_empty() {
        text += "nobody was told\n";
    }
    text
}
