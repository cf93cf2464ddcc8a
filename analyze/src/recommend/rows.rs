//! The answer for programs: JSON, and rows of the result table.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use serde::Serialize;

use super::{
    Autoscaler, ContainerVerdict, NOT_KNOWN, RecommendReport, ServiceManifests, ServiceVerdict,
    containers::RequestChange,
};
use crate::{
    error::Result,
    gpu_state::GpuState,
    hpa_advice::BoundsAdvice,
    recommendation::{Recommendation, Saving},
    result_table::ResultTable,
};

/// A service in the JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    service: &'a str,
    simulated: bool,
    gpu_count: usize,
    replica_count: u32,
    mean: Option<f64>,
    coverage: f64,
    gpu_hours_by_state: &'a BTreeMap<GpuState, f64>,
    verdict: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recommendation: Option<&'a Recommendation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    autoscaler: Option<&'a Autoscaler>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bounds: Option<&'a BoundsAdvice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bounds_unknown: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<&'a ServiceManifests>,
}

impl RecommendReport {
    /// The report as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let services: Vec<_> = self.services.iter().map(ServiceVerdict::row).collect();
        let containers: Vec<_> = self.containers.verdicts.iter().map(ContainerVerdict::row).collect();
        let currency = self.request.prices.as_ref().map(|prices| prices.currency.as_str());
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "window": self.request.window, "time_zone": self.request.zone.name(), "currency": currency,
            "holidays": self.request.holidays,
            "services": services, "containers": containers, "quotas": self.containers.quotas,
            "short_lived_container_count": self.containers.short_lived_count, "unnamed_gpu_count": self.unnamed_gpu_count, "not_known": NOT_KNOWN,
            "row_count": self.row_count, "queries": self.all_queries(), "settled": self.settled,
            "undo": self.undo,
        }))?)
    }

    /// The SQL that read services and containers.
    pub(super) fn all_queries(&self) -> Vec<&str> {
        self.queries.iter().chain(&self.containers.queries).map(String::as_str).collect()
    }

    pub(crate) fn to_batch(&self) -> Result<RecordBatch> {
        let rows: Vec<ResultRow<'_>> = self
            .services
            .iter()
            .map(ResultRow::Service)
            .chain(self.containers.verdicts.iter().map(ResultRow::Container))
            .collect();
        let currency = self.request.prices.as_ref().map(|prices| prices.currency.to_string()).unwrap_or_default();
        let mut table = ResultTable::new(self.request.now_us, rows.len());
        table.time("window_from", self.request.window.start_us).time("window_to", self.request.window.end_us);
        add_verdicts(&mut table, &rows);
        add_services(&mut table, &rows);
        add_containers(&mut table, &rows);
        table
            .text("currency", &currency)
            .text("time_zone", self.request.zone.name())
            .text("query", &self.all_queries().join(";\n"));
        table.finish()
    }
}

/// A row of the table.
#[derive(Clone, Copy)]
enum ResultRow<'a> {
    /// Replicas of a service.
    Service(&'a ServiceVerdict),
    /// Requests of a container.
    Container(&'a ContainerVerdict),
}

impl<'a> ResultRow<'a> {
    fn service(self) -> Option<&'a ServiceVerdict> {
        match self {
            Self::Service(service) => Some(service),
            Self::Container(_) => None,
        }
    }

    fn recommendation(self) -> Option<&'a Recommendation> {
        self.service()?.recommendation()
    }

    fn container(self) -> Option<&'a ContainerVerdict> {
        match self {
            Self::Service(_) => None,
            Self::Container(container) => Some(container),
        }
    }

    fn change(self) -> Option<&'a RequestChange> {
        self.container()?.change()
    }

    fn saving(self) -> Option<Saving> {
        self.either(ServiceVerdict::saving, |of| of.change()?.saving)
    }

    /// What the one or the other kind has.
    fn either<T>(
        self,
        of_service: impl FnOnce(&'a ServiceVerdict) -> Option<T>,
        of_container: impl FnOnce(&'a ContainerVerdict) -> Option<T>,
    ) -> Option<T> {
        match self {
            Self::Service(of) => of_service(of),
            Self::Container(of) => of_container(of),
        }
    }
}

/// What rows of both kinds have.
fn add_verdicts(table: &mut ResultTable, rows: &[ResultRow<'_>]) {
    let texts = |of: fn(ResultRow<'_>) -> Option<String>| rows.iter().map(move |row| of(*row));
    let numbers = |of: fn(ResultRow<'_>) -> Option<f64>| rows.iter().map(move |row| of(*row));
    let simulated = |row: &ResultRow<'_>| match row {
        ResultRow::Service(of) => of.simulated,
        ResultRow::Container(of) => of.simulated,
    };
    table
        .texts("kind", texts(|row| Some(if row.service().is_some() { "replicas" } else { "requests" }.to_owned())))
        .texts("subject", texts(|row| row.either(|of| Some(of.service.clone()), |of| Some(of.subject.clone()))))
        .texts("service_name", texts(|row| row.either(|of| Some(of.service.clone()), |of| of.service.clone())))
        .flags("simulated", rows.iter().map(simulated))
        .texts("id", texts(|row| row.either(|of| of.id.clone(), |of| of.id.clone())))
        .texts(
            "verdict",
            texts(|row| row.either(|of| Some(of.verdict_name().to_owned()), |of| Some(of.verdict_name().to_owned()))),
        )
        .texts("why", texts(|row| row.either(|of| Some(of.why()), |of| Some(of.why()))))
        .numbers("coverage", numbers(|row| row.either(|of| Some(of.coverage), |of| Some(of.coverage))))
        .moments(
            "expires",
            rows.iter()
                .map(|row| row.either(|of| Some(of.recommendation()?.expires_us), |of| Some(of.change()?.expires_us))),
        )
        .numbers(
            "confidence",
            numbers(|row| row.either(|of| Some(of.recommendation()?.confidence), |of| Some(of.change()?.confidence))),
        )
        .numbers("saving_low", numbers(|row| Some(row.saving()?.low)))
        .numbers("saving_expected", numbers(|row| Some(row.saving()?.expected)))
        .numbers("saving_high", numbers(|row| Some(row.saving()?.high)));
}

/// What only replicas have.
fn add_services(table: &mut ResultTable, rows: &[ResultRow<'_>]) {
    let rows = || rows.iter();
    table
        .integers("gpu_count", rows().map(|row| i64::try_from(row.service()?.gpu_count).ok()))
        .integers("replica_count", rows().map(|row| Some(i64::from(row.service()?.replica_count))))
        .integers("proposed_count", rows().map(|row| Some(i64::from(row.recommendation()?.proposed))))
        .integers("gpus_per_replica", rows().map(|row| Some(i64::from(row.service()?.gpus_per_replica))))
        .numbers("gpu_hours_saved", rows().map(|row| Some(row.recommendation()?.gpu_hours.expected)))
        .numbers("utilization_mean", rows().map(|row| row.service()?.mean))
        .numbers("peak_gpus", rows().map(|row| Some(row.recommendation()?.numbers[1])))
        .numbers("over_share", rows().map(|row| Some(row.recommendation()?.numbers[2])));
}

/// What only requests have; where nothing changes the proposed ones are those of today.
fn add_containers(table: &mut ResultTable, rows: &[ResultRow<'_>]) {
    let rows = || rows.iter();
    table
        .texts("k8s_namespace", rows().map(|row| row.container()?.namespace.clone()))
        .texts("workload", rows().map(|row| row.container()?.workload.clone()))
        .texts("k8s_container", rows().map(|row| Some(row.container()?.container.clone())))
        .integers("pod_count", rows().map(|row| Some(i64::from(row.container()?.pod_count))))
        .numbers("pod_hours", rows().map(|row| Some(row.container()?.pod_hours)))
        .numbers("cpu_request", rows().map(|row| row.container()?.today.cpu_request))
        .numbers("cpu_request_proposed", rows().map(|row| row.change()?.to.cpu_request))
        .numbers("cpu_limit", rows().map(|row| row.container()?.today.cpu_limit))
        .numbers("cpu_limit_proposed", rows().map(|row| row.change()?.to.cpu_limit))
        .numbers("cpu_p95", rows().map(|row| row.container()?.used.cpu_p95))
        .numbers("cpu_throttled_share", rows().map(|row| row.container()?.used.throttled_share))
        .numbers("memory_request", rows().map(|row| row.container()?.today.memory_request))
        .numbers("memory_request_proposed", rows().map(|row| row.change()?.to.memory_request))
        .numbers("memory_limit", rows().map(|row| row.container()?.today.memory_limit))
        .numbers("memory_limit_proposed", rows().map(|row| row.change()?.to.memory_limit))
        .numbers("memory_peak", rows().map(|row| row.container()?.used.memory_peak))
        .integers("oom_count", rows().map(|row| Some(i64::from(row.container()?.used.oom_count))))
        .numbers("hours_over_share", rows().map(|row| row.change()?.numbers[2]))
        .numbers("cpu_hours_saved", rows().map(|row| Some(row.change()?.cpu_hours?.expected)))
        .numbers("gb_hours_saved", rows().map(|row| Some(row.change()?.gb_hours?.expected)));
}

impl ServiceVerdict {
    fn row(&self) -> Row<'_> {
        Row {
            id: self.id.as_deref(),
            service: &self.service,
            simulated: self.simulated,
            gpu_count: self.gpu_count,
            replica_count: self.replica_count,
            mean: self.mean,
            coverage: self.coverage,
            gpu_hours_by_state: &self.hours,
            verdict: self.verdict_name(),
            why: self.why(),
            recommendation: self.recommendation(),
            autoscaler: self.autoscaler.as_ref(),
            bounds: self.bounds.as_ref().and_then(|bounds| bounds.as_ref().ok()),
            bounds_unknown: self.bounds.as_ref().and_then(|bounds| bounds.as_ref().err().map(String::as_str)),
            manifests: self.manifests.as_ref(),
        }
    }
}
