//! What else is told of cards and services: sizes and limits, errors, requests, queues.

use std::collections::{HashMap, HashSet};

use datafusion::prelude::SessionContext;

use crate::{
    error::Result,
    gpu_minutes::Gpu,
    rows::{Rows, SIMULATED},
    window::Window,
};

/// Host and id.
type Card = (String, String);
/// Simulated or not, and a service name.
type Service = (bool, String);

/// Requests by service.
pub(crate) type RequestCounts = HashMap<Service, f64>;

/// Answers of small questions.
#[derive(Debug, Default)]
pub(super) struct Told {
    memory_total: HashMap<Card, f64>,
    power_limit: HashMap<Card, f64>,
    new_xid: HashSet<Card>,
    criticality: HashMap<String, String>,
    requests: HashMap<Service, f64>,
    queue_p95: HashMap<Service, f64>,
    pub(super) queries: Vec<String>,
}

impl Told {
    /// `requests` are those of the window, where they were counted before.
    pub(super) async fn read(ctx: &SessionContext, window: Window, requests: Option<RequestCounts>) -> Result<Self> {
        let mut told = Self::default();
        told.read_cards(ctx, window).await?;
        let roles = if requests.is_some() { "'queue.length'" } else { "'latency.e2e', 'queue.length'" };
        told.read_services(ctx, window, roles).await?;
        told.requests.extend(requests.into_iter().flatten());
        Ok(told)
    }

    async fn rows(&mut self, ctx: &SessionContext, query: String) -> Result<Rows> {
        let rows = Rows::query(ctx, &query).await?;
        self.queries.push(query);
        Ok(rows)
    }

    async fn read_cards(&mut self, ctx: &SessionContext, window: Window) -> Result<()> {
        let query = format!(
            "SELECT coalesce(host_name, '') AS host, gpu_id, role, min(value) AS smallest, max(value) AS largest FROM gpu \
             WHERE role IN ('gpu.memory.total', 'gpu.power.limit', 'gpu.xid.errors') AND gpu_id IS NOT NULL AND {} \
             AND value IS NOT NULL GROUP BY 1, 2, 3",
            window.condition("time")
        );
        let rows = self.rows(ctx, query).await?;
        let (hosts, ids, roles) = (rows.texts("host")?, rows.texts("gpu_id")?, rows.texts("role")?);
        let (smallest, largest) = (rows.numbers("smallest")?, rows.numbers("largest")?);
        for row in 0..rows.len() {
            let (Some(host), Some(id), Some(largest)) = (hosts[row].clone(), ids[row].clone(), largest[row]) else {
                continue;
            };
            match roles[row].as_deref() {
                Some("gpu.memory.total") => drop(self.memory_total.insert((host, id), largest)),
                Some("gpu.power.limit") => drop(self.power_limit.insert((host, id), largest)),
                // Exporters show the last error until the driver is loaded anew: a change is a new one.
                _ if smallest[row].is_some_and(|smallest| smallest < largest) => drop(self.new_xid.insert((host, id))),
                _ => {}
            }
        }
        Ok(())
    }

    async fn read_services(&mut self, ctx: &SessionContext, window: Window, roles: &str) -> Result<()> {
        let alive = window.series_condition();
        let query = format!(
            "SELECT service_name AS service, max(attributes['service.criticality']) AS criticality \
             FROM system.gpu_series WHERE service_name IS NOT NULL AND {alive} GROUP BY 1"
        );
        let rows = self.rows(ctx, query).await?;
        let names = rows.texts("service")?.into_iter().zip(rows.texts("criticality")?);
        self.criticality = names.filter_map(|(service, criticality)| service.zip(criticality)).collect();
        // Several metrics count the same requests: a gateway's, a server's. The one that counts most stands for all.
        let query = format!(
            "SELECT simulated, service, max(requests) AS requests, max(queue_p95) AS queue_p95 FROM \
             (SELECT {SIMULATED} AS simulated, service_name AS service, metric, \
             sum(CASE role WHEN 'latency.e2e' THEN count END) AS requests, \
             percentile_cont(CASE role WHEN 'queue.length' THEN value END, 0.95) AS queue_p95 FROM latency \
             WHERE role IN ({roles}) AND service_name IS NOT NULL AND {} GROUP BY 1, 2, 3) \
             GROUP BY 1, 2",
            window.condition("time")
        );
        let rows = self.rows(ctx, query).await?;
        let (simulated, services) = (rows.flags("simulated")?, rows.texts("service")?);
        let (requests, queues) = (rows.numbers("requests")?, rows.numbers("queue_p95")?);
        for row in 0..rows.len() {
            let Some(service) = services[row].clone() else { continue };
            let key = (simulated[row], service);
            self.requests.extend(requests[row].map(|count| (key.clone(), count)));
            self.queue_p95.extend(queues[row].map(|length| (key, length)));
        }
        Ok(())
    }

    fn card(gpu: &Gpu) -> Card {
        (gpu.host.clone(), gpu.gpu_id.clone())
    }

    pub(super) fn memory_total(&self, gpu: &Gpu) -> Option<f64> {
        self.memory_total.get(&Self::card(gpu)).copied().filter(|bytes| *bytes > 0.0)
    }

    pub(super) fn power_limit(&self, gpu: &Gpu) -> Option<f64> {
        self.power_limit.get(&Self::card(gpu)).copied()
    }

    pub(super) fn has_new_xid(&self, gpu: &Gpu) -> bool {
        self.new_xid.contains(&Self::card(gpu))
    }

    pub(super) fn criticality(&self, service: &str) -> Option<String> {
        self.criticality.get(service).cloned()
    }

    pub(super) fn requests(&self, service: &str, simulated: bool) -> Option<f64> {
        self.requests.get(&(simulated, service.to_owned())).copied()
    }

    pub(super) fn queue_p95(&self, service: &str, simulated: bool) -> Option<f64> {
        self.queue_p95.get(&(simulated, service.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        test_session::{Sample, labels, session},
        window::MINUTE_US,
    };

    #[tokio::test]
    async fn requests_that_two_metrics_count_are_counted_once() {
        let counted = |minute: i64, metric| Sample {
            time_us: minute * MINUTE_US,
            role: "latency.e2e",
            value: 1.0,
            labels: labels(&[("service_name", "chat"), ("metric", metric)]),
            simulated: false,
        };
        let samples: Vec<Sample> =
            (0..10).flat_map(|minute| [counted(minute, "server"), counted(minute / 2 * 2, "gateway")]).collect();
        let ctx = session(&samples[..19], &[]);
        let told = Told::read(&ctx, Window::new(0, 10 * MINUTE_US).unwrap(), None).await.unwrap();
        // Ten of the server, nine of the gateway.
        assert_eq!(told.requests("chat", false), Some(10.0));
    }
}
