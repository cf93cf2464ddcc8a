//! Points of a metric in the store instead of a file.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, ensure};
use chrono::Utc;

use super::{
    super::{
        read::{sent, write_to},
        source::Opened,
    },
    args::{GateArgs, GateFormat, RuleFormat},
    notify::Notifier,
};
use crate::{
    answers::{Answer, Desk, Format, StreamQuestion},
    exit,
};

pub(super) async fn run(args: &GateArgs) -> ExitCode {
    match check(args).await {
        Ok(answer) => exit::of_check(answer.verdict.as_deref()),
        Err(error) => exit::unchecked(&error),
    }
}

async fn check(args: &GateArgs) -> anyhow::Result<Answer> {
    ensure!(args.rules == RuleFormat::Odcs, "points are checked against a contract (--rules odcs)");
    ensure!(args.reference.is_empty(), "points have no other tables to refer to: leave --reference out");
    let file = args.contract.display().to_string();
    let question = StreamQuestion {
        metric: args.metric.clone().unwrap_or_default(),
        filter: args.filter.clone(),
        window: args.window.clone().context("say which points with --window FROM/TO")?,
        contract: fs::read_to_string(&args.contract).with_context(|| format!("read {file}"))?,
        contract_file: file,
        table: args.table.clone(),
        format: match args.format.unwrap_or_else(GateFormat::usual) {
            GateFormat::Text => Format::Text,
            GateFormat::Json => Format::Json,
            GateFormat::Html => Format::Html,
        },
    };
    let answer = match (&args.log.server, &args.log.data) {
        (Some(server), None) => {
            ensure!(
                !args.notify,
                "a server tells owners by its own settings: give it a schedule with job = \"check\" (docs/delivery.md)"
            );
            ask(server.trim_end_matches('/'), &question).await?
        }
        (None, Some(data)) => {
            let notifier = Notifier::new(args)?;
            let opened = Opened::open(data, args.log.config.as_ref()).await?;
            let checked = local(&opened, &question, notifier.as_ref()).await;
            let closed = opened.store.close().await;
            let answer = checked?;
            closed?;
            answer
        }
        _ => anyhow::bail!("points are in a store: name a running server with --server, or a directory with --data"),
    };
    write_to(args.output.as_ref(), &answer.text)?;
    Ok(answer)
}

async fn local(opened: &Opened, question: &StreamQuestion, notifier: Option<&Notifier>) -> anyhow::Result<Answer> {
    let desk = Desk {
        session: &opened.session,
        store: Some(&opened.store),
        prices: None,
        holidays: vec![],
        scope: opened.config.lineage.scope(),
        drift: &opened.config.drift,
        now_us: Utc::now().timestamp_micros(),
    };
    let checked = desk.check_by_hand(question).await?;
    checked.notes.iter().for_each(|note| eprintln!("driftwatt: {note}"));
    if let Some(notifier) = notifier.filter(|_| !checked.checked.accepts()) {
        notifier.tell(&checked.notice()).await.context("the points were checked")?;
    }
    checked.answer(question.format)
}

async fn ask(server: &str, question: &StreamQuestion) -> anyhow::Result<Answer> {
    let url = format!("{server}/api/v1/check");
    sent(reqwest::Client::new().post(&url).json(question), server, &url).await
}
