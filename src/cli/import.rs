//! `driftwatt import`: rows of a file become points, by the way that all points take.

mod args;
mod requests;
mod summary;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use driftwatt_analyze::dated_rows::{ColumnChoice, DatedFile, EpochUnit, Survey};
use driftwatt_ingest::{Error, ErrorKind, Ingest};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;

pub(super) use self::args::{ImportArgs, ImportTimeUnit};
use self::{requests::Naming, summary::Summary};
use super::{ReportFormat, source::Opened};
use crate::{
    exit,
    otlp::{Sent, send},
    terminal::{self, Progress},
};

/// Tries to append where memory is full until the flush is through.
const ATTEMPTS_MAX: u32 = 600;
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How often the first pass over a file says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn run(args: ImportArgs) -> ExitCode {
    match import(&args).await {
        Ok(summary) => {
            match args.format.unwrap_or_else(ReportFormat::usual) {
                ReportFormat::Text => terminal::print(&summary.text()),
                ReportFormat::Json => terminal::print(&summary.json().to_string()),
            }
            if summary.is_whole() { exit::SOUND } else { exit::faults() }
        }
        Err(error) => exit::unchecked(&error),
    }
}

async fn import(args: &ImportArgs) -> anyhow::Result<Summary> {
    ensure!(args.file.is_file(), "there is no file {}", args.file.display());
    let file = DatedFile::open(&args.file, &choice(args)).await?;
    if !file.unused().is_empty() {
        eprintln!("driftwatt: nothing is taken from {}", file.unused().join(", "));
    }
    // Before anything is sent: a file that breaks off in the middle brings nothing.
    let mut told = Instant::now();
    let survey = file.survey(|rows| {
        if told.elapsed() > TOLD_EVERY {
            eprintln!("driftwatt: {rows} rows looked at, nothing is sent yet");
            told = Instant::now();
        }
    });
    let survey = survey.await?;
    let naming = Naming {
        prefix: args.prefix.clone(),
        dataset: args.dataset.clone().unwrap_or_else(|| file_name(&args.file)),
        service: args.service.clone(),
    };
    let mut progress = Progress::new("rows", survey.row_count);
    let requests = requests(&file, &survey, &naming).await?;
    let sent = match &args.data {
        None => {
            let url = format!("{}/v1/metrics", args.server.trim_end_matches('/'));
            // Rows on their way, not those answered for: the last request is shown once it is.
            let requests = requests.map_ok(|(request, rows)| {
                progress.show(rows.min(survey.row_count.saturating_sub(1)));
                request
            });
            send(&url, requests, |_| {}).await
        }
        Some(data) => {
            let opened = Opened::open(data, args.config.as_ref()).await?;
            let appended = append(&opened, requests, |rows| progress.show(rows)).await;
            // What was appended is kept, whatever came after it.
            let closed = opened.store.close().await.context("close the data directory");
            appended.and_then(|sent| closed.map(|()| sent))
        }
    };
    let sent = sent.context("not all was imported; import the file again, nothing is stored twice")?;
    progress.show(survey.row_count);
    Ok(Summary::new(&args.file, &file, survey, &naming, sent))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What whole numbers in a column of times count.
pub(super) fn epoch_unit(unit: ImportTimeUnit) -> EpochUnit {
    match unit {
        ImportTimeUnit::S => EpochUnit::Seconds,
        ImportTimeUnit::Ms => EpochUnit::Milliseconds,
        ImportTimeUnit::Us => EpochUnit::Microseconds,
        ImportTimeUnit::Ns => EpochUnit::Nanoseconds,
    }
}

fn choice(args: &ImportArgs) -> ColumnChoice {
    ColumnChoice {
        time: args.time_column.clone(),
        epoch_unit: args.time_unit.map(epoch_unit),
        values: args.value.clone(),
        categories: args.category.clone(),
        labels: args.label.clone(),
    }
}

/// The requests, each with the rows that are in it and before it.
async fn requests<'a>(
    file: &'a DatedFile,
    survey: &Survey,
    naming: &'a Naming,
) -> anyhow::Result<impl Stream<Item = anyhow::Result<(ExportMetricsServiceRequest, u64)>> + use<'a>> {
    let rows = file.rows(survey).await?.map_err(anyhow::Error::from);
    Ok(rows.map_ok(move |rows| stream::iter(requests::of_rows(file, rows, naming).map(Ok))).try_flatten())
}

/// Appends to an open directory, one request after the other; waits where memory is full.
async fn append(
    opened: &Opened,
    requests: impl Stream<Item = anyhow::Result<(ExportMetricsServiceRequest, u64)>>,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Sent> {
    let ingest = Ingest::new(std::sync::Arc::clone(&opened.store), opened.config.ingest.clone());
    let mut requests = std::pin::pin!(requests);
    let mut sent = Sent::default();
    while let Some(request) = requests.next().await {
        let (request, rows) = request?;
        let body = bytes::Bytes::from(request.encode_to_vec());
        let mut attempts = 0;
        let outcome = loop {
            match ingest.export(body.clone()).await {
                Err(error) if is_overload(&error) && attempts < ATTEMPTS_MAX => attempts += 1,
                outcome => break outcome?,
            }
            tokio::time::sleep(RETRY_AFTER).await;
        };
        sent.request_count += 1;
        if outcome.rejected_count > 0 {
            sent.rejected_point_count += outcome.rejected_count;
            sent.rejected_message = outcome.message;
        }
        progress(rows);
    }
    Ok(sent)
}

fn is_overload(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Overloaded)
}
