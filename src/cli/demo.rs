//! `driftwatt demo`: everything, on data of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use driftwatt_analyze::{PriceBook, lineage::answer::LineageScope};
use driftwatt_collector::Collector;
use futures::{Stream, stream};

use super::{DemoArgs, collect::reading_gpus_apart};
use crate::{
    answers::{
        Desk, DiagnoseQuestion, DriftQuestion, DriftSettings, IdleQuestion, LastDays, RecommendQuestion,
        WeeklyQuestion, When,
    },
    config::{Addresses, Config, RawConfig},
    demo::{CHANGE_MINUTE, Fleet, INCIDENT_SERVICE, Incident, PRICES, TokenTrace},
    otlp::{Sent, send},
    server::Server,
    stop_signal::StopSignal,
    terminal::{self, Progress},
};

const SEED: u64 = 7;
/// Marks a folder as the demo's own, so that it may be made anew.
const MARKER: &str = "DEMO";

pub(super) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let folder = args.data.unwrap_or_else(|| "driftwatt-demo".into());
    prepare(&folder)?;
    let config = config(&folder, args.once)?;
    let server = Server::start(&config, true).await?;
    terminal::print(&format!("Demo data goes to {} and nowhere else.", folder.display()));
    let ended = if args.incident { tell_incident(&server).await } else { tell(&server, &config).await };
    if ended.is_ok() && !args.once {
        let stop = StopSignal::listen()?;
        terminal::print("Serving until Ctrl-C.");
        stop.received().await;
    }
    server.stop().await?;
    ended
}

/// Empties the demo's own folder; refuses any other that exists.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        let empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        if !empty && !folder.join(MARKER).exists() {
            bail!("{} exists and is not from a demo; name another folder with --data", folder.display());
        }
        std::fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    std::fs::write(folder.join(MARKER), "Simulated data of `driftwatt demo`; may be deleted.\n")
        .context("mark the folder")
}

/// The usual addresses where they are free, any others where not, and always any with `--once`.
fn config(folder: &Path, once: bool) -> anyhow::Result<Config> {
    let mut raw = RawConfig::default();
    raw.server.data_dir = Some(folder.join("data"));
    let mut config = raw.validate()?;
    let Addresses { http, otlp_grpc, otlp_http, flight, postgres } = &mut config.addresses;
    for address in [http, otlp_grpc, otlp_http, flight, postgres] {
        if once || std::net::TcpListener::bind(*address).is_err() {
            address.set_port(0);
        }
    }
    let prices = folder.join("prices.toml");
    std::fs::write(&prices, PRICES).context("write the demo's price book")?;
    config.prices = Some(prices);
    Ok(config)
}

/// Fills the store, then gives the answers.
async fn tell(server: &Server, config: &Config) -> anyhow::Result<()> {
    let now = Utc::now();
    let end_nanos = u64::try_from(now.timestamp_nanos_opt().context("the clock is out of range")?)?;
    let collector = this_machine(server, config)?;
    let fleet = Fleet::new(SEED, end_nanos);
    let url = format!("http://{}/v1/metrics", server.addresses.otlp_http);
    terminal::print(&format!(
        "Sending a simulated week of 32 GPUs ({} points, marked driftwatt.simulated = true) over OTLP/HTTP …",
        fleet.point_count()
    ));
    let mut progress = Progress::new("simulated week", fleet.request_count());
    accepted(&send(&url, all(fleet.requests()), |sent| progress.show(sent.request_count)).await?)?;
    let incident = Incident::new(SEED, end_nanos);
    accepted(&send(&url, all(incident.requests()), |_| {}).await?)?;
    let trace = TokenTrace::new(end_nanos)?;
    terminal::print(&format!(
        "Sending a real LLM token trace ({} points; Azure Public Dataset, CC-BY 4.0) …",
        trace.point_count()
    ));
    let mut progress = Progress::new("token trace", trace.request_count());
    accepted(&send(&url, all(trace.requests()), |sent| progress.show(sent.request_count)).await?)?;
    collector.flush().await?;
    collector.shutdown().await?;
    let flushed = server.store.flush().await?;
    let (files, size) = (flushed.file_count, server.store.tables().iter().map(|table| table.size_bytes).sum::<u64>());
    terminal::print(&format!("Stored as Parquet: {:.1} MB ({files} files in the last flush).\n", size as f64 / 1e6));
    answers(server, fleet.start_unix_nanos() / 1000, end_nanos / 1000).await?;
    diagnosis(server, &incident, 7).await?;
    invitation(server, config, fleet.start_unix_nanos() / 1000, end_nanos / 1000);
    Ok(())
}

/// Only the incident.
async fn tell_incident(server: &Server) -> anyhow::Result<()> {
    let end_nanos = u64::try_from(Utc::now().timestamp_nanos_opt().context("the clock is out of range")?)?;
    let incident = Incident::new(SEED, end_nanos);
    let url = format!("http://{}/v1/metrics", server.addresses.otlp_http);
    accepted(&send(&url, all(incident.requests()), |_| {}).await?)?;
    server.store.flush().await?;
    diagnosis(server, &incident, 1).await
}

/// Latency of the incident's service rose; why?
async fn diagnosis(server: &Server, incident: &Incident, number: usize) -> anyhow::Result<()> {
    let (start, end) = incident.span_unix_nanos();
    let question = DiagnoseQuestion {
        service: INCIDENT_SERVICE.to_owned(),
        from: Some(time_text(start / 1000)),
        to: Some(time_text(end / 1000)),
        ..DiagnoseQuestion::default()
    };
    let at = time_text(start / 1000 + CHANGE_MINUTE * 60_000_000);
    section(
        number,
        "Latency went up: is it the machines or the AI? (simulated: at a known minute a client stops scaling images down)",
    );
    terminal::print(&format!(
        "driftwatt diagnose {INCIDENT_SERVICE} --from {} --to {}   (known change: {at})\n",
        time_text(start / 1000),
        time_text(end / 1000)
    ));
    let desk = Desk {
        session: &server.session,
        store: Some(&server.store),
        prices: None,
        holidays: vec![],
        scope: LineageScope::default(),
        drift: &DriftSettings::default(),
        now_us: Utc::now().timestamp_micros(),
    };
    terminal::print(&desk.diagnose(&question).await?);
    Ok(())
}

/// This machine's own metrics, live, beside the simulated ones.
fn this_machine(server: &Server, config: &Config) -> anyhow::Result<Collector> {
    let mut own = reading_gpus_apart(config.collector.clone())?;
    own.endpoint = format!("http://{}", server.addresses.otlp_grpc);
    own.interval = Duration::from_secs(5);
    Ok(Collector::start(own)?)
}

/// Requests that are there already.
fn all<R>(requests: impl Iterator<Item = R>) -> impl Stream<Item = anyhow::Result<R>> {
    stream::iter(requests.map(Ok))
}

fn accepted(sent: &Sent) -> anyhow::Result<()> {
    if sent.rejected_point_count > 0 {
        bail!("the server refused {} points: {}", sent.rejected_point_count, sent.rejected_message);
    }
    Ok(())
}

fn time_text(time_us: u64) -> String {
    let time = DateTime::from_timestamp_micros(time_us.cast_signed()).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

async fn answers(server: &Server, start_us: u64, end_us: u64) -> anyhow::Result<()> {
    let now = Utc::now();
    let desk = Desk {
        session: &server.session,
        store: Some(&server.store),
        prices: Some(PriceBook::parse(PRICES)?),
        holidays: vec![],
        scope: LineageScope::default(),
        drift: &DriftSettings::default(),
        now_us: now.timestamp_micros(),
    };
    // Up to this moment, so that what this machine sent meanwhile is in the report as well.
    let now = now.to_rfc3339_opts(SecondsFormat::Micros, true);
    let when = When { week: None, from: Some(time_text(start_us)), to: Some(now) };
    let week = WeeklyQuestion { when: when.clone(), ..WeeklyQuestion::default() };
    section(1, "What did the week cost, and how much of it was used?");
    terminal::print(&desk.weekly_report(&week).await?.digest().to_text());
    let idle = IdleQuestion { when, ..IdleQuestion::default() };
    section(2, "Which GPUs do little? (six simulated ones hold 30 GiB each and do next to nothing)");
    terminal::print(&desk.idle(&idle).await?);
    let last = LastDays { days: Some(7), to: Some(time_text(end_us)), time_zone: None };
    let advice = RecommendQuestion { last, ..RecommendQuestion::default() };
    section(
        3,
        "What should replicas and requests be? (simulated: chat-llm requests four times what it uses, batch-embed was killed for memory)",
    );
    terminal::print(&desk.recommend(&advice).await?);
    for (index, (title, question)) in drift_questions(start_us, end_us).into_iter().enumerate() {
        section(index + 4, title);
        terminal::print(&desk.drift(&question).await?.text);
    }
    Ok(())
}

fn section(number: usize, title: &str) {
    terminal::print(&format!("\n═══ {number}. {title}\n"));
}

/// Three comparisons with a known outcome: two services that differ, one service with itself, and inputs that grew.
fn drift_questions(start_us: u64, end_us: u64) -> Vec<(&'static str, DriftQuestion)> {
    let day_us = 86_400_000_000;
    let span = |from: u64, to: u64| format!("{}/{}", time_text(from), time_text(to));
    let trace = span(end_us - day_us, end_us + 1);
    // The trace covers the last hour; its halves are the two half hours.
    let (hour, half) = (3_600_000_000, 1_800_000_000);
    let tokens = "gen_ai.client.inference.operation.input_tokens";
    let question = |metric: &str, reference: String, current: String, filters: [&str; 2]| DriftQuestion {
        metric: Some(metric.to_owned()),
        reference: Some(reference),
        current,
        reference_where: filters[0].to_owned(),
        current_where: filters[1].to_owned(),
        ..DriftQuestion::default()
    };
    let (chat, code) = ("service.name=azure-llm-chat", "service.name=azure-llm-code");
    vec![
        (
            "Real tokens: do code requests look like chat requests?",
            question(tokens, trace.clone(), trace, [chat, code]),
        ),
        (
            "Real tokens: does the second half hour of code requests look like the first?",
            question(tokens, span(end_us - hour, end_us - half), span(end_us - half, end_us + 1), [code, code]),
        ),
        (
            "Simulated images: do today's resolutions look like those at the start of the week?",
            question(
                "driftwatt.input.pixels",
                span(start_us, start_us + 4 * day_us),
                span(end_us - day_us, end_us),
                ["driftwatt.simulated=true", "driftwatt.simulated=true"],
            ),
        ),
    ]
}

fn invitation(server: &Server, config: &Config, start_us: u64, end_us: u64) {
    let Addresses { http, otlp_grpc, otlp_http, flight, postgres } = server.addresses;
    let data: PathBuf = config.store.data_dir.clone();
    terminal::print(&format!(
        "Try (while the demo runs; afterwards with --data {data} instead of --server):\n\
         \n  driftwatt report weekly --server http://{http} --from {from} --to {to}\
         \n  driftwatt sql --server http://{http} \"SELECT service_name, round(avg(value), 3) AS busy FROM gpu WHERE role = 'gpu.utilization' GROUP BY 1 ORDER BY 2\"\
         \n  driftwatt sql --server http://{http} \"SELECT date_trunc('day', time) AS day, round(sum(sum)/sum(count)/1e6, 2) AS megapixels FROM inputs WHERE role = 'input.pixels' GROUP BY 1 ORDER BY 1\"\
         \n  driftwatt sql --server http://{http} \"SELECT role, round(avg(value), 3) AS mean, count(*) AS samples FROM system WHERE attributes['driftwatt.simulated'] IS NULL GROUP BY 1 ORDER BY 1\"\
         \n\n  web        http://{http}/\n  OTLP/gRPC  {otlp_grpc}\n  OTLP/HTTP  {otlp_http}\n  Flight SQL {flight}\n  PostgreSQL {postgres}\n  tables     {}",
        data.join("tables").display(),
        data = data.display(),
        from = time_text(start_us),
        to = time_text(end_us),
    ));
}
