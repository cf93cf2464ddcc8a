//! `driftwatt serve`.

use super::ServeArgs;
use crate::{config::RawConfig, server::Server, stop_signal::StopSignal, terminal};

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let mut raw = RawConfig::read(args.config.as_ref())?;
    raw.server.data_dir = args.data.or(raw.server.data_dir);
    raw.server.http = args.http.or(raw.server.http);
    raw.server.otlp_grpc = args.otlp_grpc.or(raw.server.otlp_grpc);
    raw.server.otlp_http = args.otlp_http.or(raw.server.otlp_http);
    raw.server.postgres = args.postgres.or(raw.server.postgres);
    raw.server.flight = args.flight.or(raw.server.flight);
    let config = raw.validate()?;
    let server = Server::start(&config, !args.no_self_metrics).await?;
    // Who reads that it is ready may stop it.
    let stop = StopSignal::listen()?;
    terminal::print(&server.ready_line(&config.store.data_dir));
    stop.received().await;
    tracing::info!("stopping: requests end, then everything is flushed");
    server.stop().await
}
