//! What is compared: how each product is had, started and asked whether it is there.

use std::{fs, net::SocketAddr, path::Path};

/// A server that takes OTLP/HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// This one.
    Driftwatt,
    /// Its single-node server.
    VictoriaMetrics,
    /// Its server, with its own TSDB.
    Prometheus,
}

/// A program that Go builds.
pub(crate) struct GoProgram {
    /// Import path of its main package.
    pub(crate) package: &'static str,
    /// Of the module; the figures in the documentation are of these versions.
    pub(crate) version: &'static str,
    /// File name of what is built.
    pub(crate) name: &'static str,
    /// Build tags.
    pub(crate) tags: &'static str,
}

/// Addresses that a server listens at; the others than `http` are of Driftwatt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) otlp_http: SocketAddr,
    pub(crate) otlp_grpc: SocketAddr,
}

/// Explicit histograms as one native sample each, which is the smallest that it has, instead of a series per bucket.
const PROMETHEUS_SETTINGS: &str = "otlp:\n  convert_histograms_to_nhcb: true\n";

impl Product {
    /// In the order of the report.
    pub(crate) const ALL: [Self; 3] = [Self::Driftwatt, Self::VictoriaMetrics, Self::Prometheus];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Driftwatt => "Driftwatt",
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::Prometheus => "Prometheus",
        }
    }

    /// Where it comes from, unless it is this package.
    pub(crate) fn go_program(self) -> Option<GoProgram> {
        match self {
            Self::Driftwatt => None,
            Self::VictoriaMetrics => Some(GoProgram {
                package: "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
                version: "v1.151.0",
                name: "victoria-metrics",
                tags: "",
            }),
            Self::Prometheus => Some(GoProgram {
                package: "github.com/prometheus/prometheus/cmd/prometheus",
                version: "v0.316.0",
                name: "prometheus",
                // Clients of every cloud are most of the build, and nothing is discovered here.
                tags: "remove_all_sd",
            }),
        }
    }

    /// Version of what is measured.
    pub(crate) fn version(self) -> &'static str {
        self.go_program().map_or(env!("CARGO_PKG_VERSION"), |program| program.version)
    }

    /// Arguments with which it keeps its data in `dir`: the defaults, but for limits that would refuse the count at the end.
    ///
    /// # Errors
    /// If its settings cannot be written to `dir`.
    pub(crate) fn arguments(self, dir: &Path, at: &Addresses) -> anyhow::Result<Vec<String>> {
        let data = dir.join("data").display().to_string();
        let arguments = match self {
            Self::Driftwatt => vec![
                "serve".to_owned(),
                "--no-self-metrics".to_owned(),
                format!("--data={data}"),
                format!("--http={}", at.http),
                format!("--otlp-http={}", at.otlp_http),
                format!("--otlp-grpc={}", at.otlp_grpc),
                "--postgres=127.0.0.1:0".to_owned(),
                "--flight=127.0.0.1:0".to_owned(),
            ],
            Self::VictoriaMetrics => vec![
                format!("-storageDataPath={data}"),
                format!("-httpListenAddr={}", at.http),
                "-search.maxQueryDuration=2m".to_owned(),
                "-search.disableCache".to_owned(),
            ],
            Self::Prometheus => {
                let settings = dir.join("prometheus.yml");
                fs::write(&settings, PROMETHEUS_SETTINGS)?;
                vec![
                    format!("--config.file={}", settings.display()),
                    format!("--storage.tsdb.path={data}"),
                    format!("--web.listen-address={}", at.http),
                    "--web.enable-otlp-receiver".to_owned(),
                    "--web.enable-admin-api".to_owned(),
                    "--query.max-samples=1000000000".to_owned(),
                    // Series that differ in nothing but their name are counted in one query.
                    "--enable-feature=promql-delayed-name-removal".to_owned(),
                ]
            }
        };
        Ok(arguments)
    }

    /// Answers with success once the server takes points and queries.
    pub(crate) fn ready_path(self) -> &'static str {
        match self {
            Self::Driftwatt => "/readyz",
            Self::VictoriaMetrics => "/health",
            Self::Prometheus => "/-/ready",
        }
    }

    /// Where OTLP requests go.
    pub(crate) fn otlp_url(self, at: &Addresses) -> String {
        match self {
            Self::Driftwatt => format!("http://{}/v1/metrics", at.otlp_http),
            Self::VictoriaMetrics => format!("http://{}/opentelemetry/v1/metrics", at.http),
            Self::Prometheus => format!("http://{}/api/v1/otlp/v1/metrics", at.http),
        }
    }
}
