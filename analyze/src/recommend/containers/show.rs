//! Containers and quotas for people and programs: a table for a terminal, sections of the page, JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{ContainerVerdict, Containers, QuotaAdvice, RequestChange, ServiceManifests};
use crate::{
    format::{shorten, text_table},
    manifest::ContainerResources,
    page::{Block, Cell, Section, Table, columns, number, text},
    sizing::requests::{ContainerUse, arrow, bytes_text, cores_text},
    window::time_text,
};

const HEADER: [&str; 9] = ["container", "verdict", "pods", "CPU", "CPU p95", "memory", "peak", "OOM", "a week frees"];

/// A container in the JSON.
#[derive(Serialize)]
pub(in crate::recommend) struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    container: &'a str,
    namespace: Option<&'a str>,
    workload: Option<&'a str>,
    service: Option<&'a str>,
    simulated: bool,
    pod_count: u32,
    pod_hours: f64,
    today: ContainerResources,
    used: &'a ContainerUse,
    coverage: f64,
    days: f64,
    verdict: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'a RequestChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<&'a ServiceManifests>,
}

/// What is requested, and what is proposed where that is something else.
fn change_of(from: Option<f64>, to: Option<f64>, text: fn(f64) -> String) -> String {
    match to.filter(|to| Some(*to) != from) {
        Some(to) => arrow(from, to, text),
        None => from.map_or_else(|| "none".to_owned(), text),
    }
}

fn known(value: Option<f64>, text: fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

impl ContainerVerdict {
    fn requests(&self) -> [String; 2] {
        let to = self.change().map(|change| change.to);
        let of = |of: fn(&ContainerResources) -> Option<f64>| (of(&self.today), to.as_ref().and_then(of));
        let (cpu, memory) = (of(|of| of.cpu_request), of(|of| of.memory_request));
        [change_of(cpu.0, cpu.1, cores_text), change_of(memory.0, memory.1, bytes_text)]
    }

    /// What a week of the change frees: money where there are prices, else hours.
    fn frees(&self, currency: Option<&str>) -> String {
        let Some(change) = self.change() else { return String::new() };
        if let Some((saving, currency)) = change.saving.zip(currency) {
            return format!("{:.2} {currency}", saving.expected + 0.0);
        }
        let hours = |saving: Option<crate::recommendation::Saving>, unit: &str| {
            let expected = saving.map(|saving| saving.expected).filter(|hours| hours.abs() >= 0.5);
            expected.map(|hours| format!("{hours:.0} {unit}"))
        };
        let parts: Vec<String> =
            [hours(change.cpu_hours, "vCPU-h"), hours(change.gb_hours, "GB-h")].into_iter().flatten().collect();
        if parts.is_empty() { "unknown".to_owned() } else { parts.join(", ") }
    }

    fn cells(&self, currency: Option<&str>) -> Vec<String> {
        let mark = if self.simulated { "simulated " } else { "" };
        let [cpu, memory] = self.requests();
        vec![
            format!("{mark}{}", shorten(&self.subject, 32)),
            self.verdict_name().to_owned(),
            self.pod_count.to_string(),
            cpu,
            known(self.used.cpu_p95, cores_text),
            memory,
            known(self.used.memory_peak, bytes_text),
            self.used.oom_count.to_string(),
            self.frees(currency),
        ]
    }

    pub(in crate::recommend) fn row(&self) -> Row<'_> {
        Row {
            id: self.id.as_deref(),
            container: &self.subject,
            namespace: self.namespace.as_deref(),
            workload: self.workload.as_deref(),
            service: self.service.as_deref(),
            simulated: self.simulated,
            pod_count: self.pod_count,
            pod_hours: self.pod_hours,
            today: self.today,
            used: &self.used,
            coverage: self.coverage,
            days: self.days,
            verdict: self.verdict_name(),
            why: self.why(),
            change: self.change(),
            manifests: self.manifests.as_ref(),
        }
    }

    /// Why, without the name that it begins with.
    fn why_line(&self) -> String {
        let why = self.why();
        let why = why.strip_prefix(&format!("{}: ", self.subject)).unwrap_or(&why).to_owned();
        format!("{}: {}: {why}.", self.subject, self.verdict_name())
    }
}

impl QuotaAdvice {
    fn line(&self) -> String {
        let mark = if self.simulated { "simulated " } else { "" };
        let name = self.name.as_ref().map(|name| format!(" (quota {name})")).unwrap_or_default();
        format!("{mark}{}{name}: {}.", self.namespace, self.why)
    }
}

impl Containers {
    /// Tables and reasons for a terminal; nothing where no container is told of.
    pub(in crate::recommend) fn to_text(&self, currency: Option<&str>) -> String {
        if self.verdicts.is_empty() {
            return String::new();
        }
        let rows: Vec<_> = self.verdicts.iter().map(|of| of.cells(currency)).collect();
        let mut text = format!("\nRequests of containers\n\n{}\nWhy\n", text_table(&HEADER, 2, &rows));
        for of in &self.verdicts {
            let _infallible = writeln!(text, "  {}", of.why_line());
        }
        if self.short_lived_count > 0 {
            let _infallible = writeln!(text, "  {}", self.short_lived());
        }
        if !self.quotas.is_empty() {
            text += "\nQuotas of namespaces\n";
            for quota in &self.quotas {
                let _infallible = writeln!(text, "  {}", quota.line());
            }
        }
        text
    }

    fn short_lived(&self) -> String {
        format!("{} containers without a workload ran for less than a day and are not judged.", self.short_lived_count)
    }

    /// Sections of the page for the real or the simulated fleet.
    pub(in crate::recommend) fn sections(&self, simulated: bool, currency: Option<&str>) -> Vec<Section> {
        let of_fleet = || self.verdicts.iter().filter(|of| of.simulated == simulated);
        if of_fleet().next().is_none() {
            return vec![];
        }
        let mark = if simulated { " (SIMULATED)" } else { "" };
        let cells = |of: &ContainerVerdict| -> Vec<Cell> {
            let [cpu, memory] = of.requests();
            let expires = of.change().map(|change| time_text(change.expires_us));
            let until = expires.as_deref().and_then(|time| time.split(' ').next());
            let verdict = match of.id.as_deref().zip(until) {
                Some((id, until)) => format!("{}: {id} until {until}", of.verdict_name()),
                None => of.verdict_name().to_owned(),
            };
            vec![
                text(&of.subject),
                text(&verdict),
                text(&of.pod_count.to_string()),
                text(&cpu),
                text(&memory),
                text(&of.frees(currency)),
                number(Some(of.coverage), 100.0, 1),
            ]
        };
        // What was used is in the sentences below, for a page is not as wide as that.
        let numbers = ["pods", "CPU", "memory", "frees", "coverage %"];
        let table = Table {
            caption: "Requests today and proposed; frees: in a week. To decide: `driftwatt recommend accept ID` or `reject ID`"
                .to_owned(),
            columns: columns(&["container", "verdict, id, and when it expires"], &numbers),
            rows: of_fleet().map(cells).collect(),
            query: Some(
                "SELECT subject, verdict, id, pod_count, cpu_request, cpu_request_proposed, cpu_p95, memory_request, \
                 memory_request_proposed, memory_peak, oom_count FROM reports.recommendations WHERE kind = 'requests' ORDER BY time DESC"
                    .to_owned(),
            ),
        };
        let mut why: Vec<String> = of_fleet().map(ContainerVerdict::why_line).collect();
        // They are counted together.
        why.extend((self.short_lived_count > 0 && !simulated).then(|| self.short_lived()));
        let mut sections = vec![Section {
            heading: format!("Requests of containers{mark}"),
            blocks: vec![Block::Table(table), Block::List(why)],
        }];
        let quotas: Vec<String> =
            self.quotas.iter().filter(|quota| quota.simulated == simulated).map(QuotaAdvice::line).collect();
        if !quotas.is_empty() {
            sections
                .push(Section { heading: format!("Quotas of namespaces{mark}"), blocks: vec![Block::List(quotas)] });
        }
        sections
    }
}
