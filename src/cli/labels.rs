//! `driftwatt labels FILE`: which predictions turned out right, from a file.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use chrono::Utc;
use clap::Args;
use driftwatt_analyze::lineage::{
    label_file::LabelFile,
    prediction_label::{self, LABELS_MAX, LabelRequest, RefusedLabel, TakenLabels},
};
use futures::TryStreamExt as _;
use serde_json::json;

use super::{
    ReportFormat, Source, SourceArgs,
    import::{ImportTimeUnit, epoch_unit},
    source::{no_server, refusal},
};
use crate::{
    exit,
    terminal::{self, plain},
};

/// Labels of one request: half of what a request may hold.
const LABELS_SENT: usize = LABELS_MAX / 2;

#[derive(Debug, Args)]
pub(crate) struct LabelsArgs {
    /// CSV with a header, Parquet or JSON lines, with the columns correct, or predicted and actual; and id, model, version, weight
    file: PathBuf,
    /// Service that made the predictions, as its telemetry names it (service.name)
    #[arg(long)]
    service: String,
    /// Environment that it ran in (deployment.environment.name)
    #[arg(long)]
    environment: Option<String>,
    /// The column that says when the predictions were made; times without a zone are UTC
    #[arg(long, default_value = "time")]
    time_column: String,
    /// What whole numbers in it count since 1970
    #[arg(long, value_enum)]
    time_unit: Option<ImportTimeUnit>,
    #[command(flatten)]
    source: SourceArgs,
    /// [default: text on a terminal, json in a pipe]
    #[arg(long)]
    format: Option<ReportFormat>,
}

pub(super) async fn run(args: LabelsArgs) -> ExitCode {
    match labels(&args).await {
        Ok(taken) => {
            match args.format.unwrap_or_else(ReportFormat::usual) {
                ReportFormat::Text => terminal::print(&text(&args, &taken)),
                ReportFormat::Json => terminal::print(&json!(taken).to_string()),
            }
            if taken.refused == 0 { exit::SOUND } else { exit::faults() }
        }
        Err(error) => exit::unchecked(&error),
    }
}

fn text(args: &LabelsArgs, taken: &TakenLabels) -> String {
    let mut text = format!("{}: {} labels taken\n", plain(&args.file.display().to_string()), taken.taken);
    if taken.refused > 0 {
        text += &format!("refused: {} labels\n", taken.refused);
        taken.reasons.iter().for_each(|one| text += &format!("  row {}: {}\n", one.index + 1, plain(&one.reason)));
    }
    text
}

async fn labels(args: &LabelsArgs) -> anyhow::Result<TakenLabels> {
    ensure!(args.file.is_file(), "there is no file {}", args.file.display());
    let file = LabelFile::open(&args.file, &args.time_column, args.time_unit.map(epoch_unit)).await?;
    let source = Source::open(&args.source).await?;
    let told = tell(args, &file, &source).await;
    let closed = source.close().await;
    let told = told.context("not all labels were told; tell the file again, none counts twice")?;
    closed.map(|()| told)
}

async fn tell(args: &LabelsArgs, file: &LabelFile, source: &Source) -> anyhow::Result<TakenLabels> {
    let mut all = TakenLabels::default();
    let mut first_row = 0;
    let mut batches = std::pin::pin!(file.labels().await?);
    while let Some(batch) = batches.try_next().await? {
        for labels in batch.chunks(LABELS_SENT) {
            let request = LabelRequest {
                service: args.service.clone(),
                environment: args.environment.clone(),
                labels: labels.to_vec(),
            };
            let taken = one(&request, source).await?;
            (all.taken, all.refused) = (all.taken + taken.taken, all.refused + taken.refused);
            let room = 20 - all.reasons.len().min(20);
            let of_file = |one: RefusedLabel| RefusedLabel { index: one.index + first_row, ..one };
            all.reasons.extend(taken.reasons.into_iter().map(of_file).take(room));
            first_row += labels.len();
        }
    }
    Ok(all)
}

async fn one(request: &LabelRequest, source: &Source) -> anyhow::Result<TakenLabels> {
    match source {
        Source::Directory(opened) => {
            Ok(prediction_label::take(&opened.store, request, Utc::now().timestamp_micros()).await?)
        }
        Source::Server { url, client } => {
            let path = format!("{url}/api/v1/labels");
            let response = client.post(&path).json(request).send().await.with_context(|| no_server(url))?;
            let status = response.status();
            let text = response.text().await.with_context(|| format!("read the answer of {path}"))?;
            // Labels of which none can be used are an error, and still counted.
            serde_json::from_str(&text).map_err(|_| refusal(&text, || format!("{path} answered {status}: {text}")))
        }
    }
}
