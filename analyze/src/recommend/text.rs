//! The answer as a table for a terminal, and why below it.

use std::fmt::Write as _;

use super::{NOT_KNOWN, RecommendReport, ServiceVerdict};
use crate::{
    format::{shorten, text_table},
    gpu_state::GpuState,
    recommendation::Verdict,
    window::time_text,
};

const HEADER: [&str; 10] =
    ["service", "verdict", "replicas", "GPUs", "mean %", "busy h", "held h", "free h", "no data h", "a week saves"];

fn cells(service: &ServiceVerdict, currency: Option<&str>) -> Vec<String> {
    let hours = |state| format!("{:.0}", service.hours.get(&state).copied().unwrap_or(0.0));
    let replicas = match service.proposed() {
        Some(proposed) => format!("{} → {proposed}", service.replica_count),
        None => service.replica_count.to_string(),
    };
    let saving = match (&service.verdict, service.saving(), currency) {
        (Verdict::Shrink(_), Some(saving), Some(currency)) => format!("{:.2} {currency}", saving.expected),
        (Verdict::Shrink(found), ..) => format!("{:.0} GPU-h, price unknown", found.gpu_hours.expected),
        _ => String::new(),
    };
    let mark = if service.simulated { "simulated " } else { "" };
    vec![
        format!("{mark}{}", shorten(&service.service, 24)),
        service.verdict_name().to_owned(),
        replicas,
        service.gpu_count.to_string(),
        service.mean.map_or_else(|| "–".into(), |mean| format!("{:.1}", mean * 100.0)),
        hours(GpuState::Busy),
        hours(GpuState::IdleHeld),
        hours(GpuState::Free),
        hours(GpuState::NoTelemetry),
        saving,
    ]
}

impl ServiceVerdict {
    /// The autoscaler that there is, and what a replay says of its bounds.
    pub(super) fn autoscaler_line(&self) -> Option<String> {
        let told = self.autoscaler.as_ref()?.text();
        Some(match &self.bounds {
            Some(Ok(bounds)) => format!("{told}; {}", bounds.explanation),
            Some(Err(reason)) => format!("{told}; not replayed: {reason}"),
            None => told,
        })
    }
}

impl RecommendReport {
    /// Ids, with what they are of.
    fn to_decide_on(&self) -> Vec<String> {
        let services = self.services.iter().map(|of| (of.id.as_ref(), &of.service));
        let containers = self.containers.verdicts.iter().map(|of| (of.id.as_ref(), &of.subject));
        services.chain(containers).filter_map(|(id, subject)| Some(format!("{} ({subject})", id?))).collect()
    }

    /// The report as plain text.
    pub fn to_text(&self) -> String {
        let window = self.request.window;
        let mut text = format!(
            "What to do about GPUs, from {} to {} ({} hours of a week are {})\n\n",
            time_text(window.start_us),
            time_text(window.end_us),
            168,
            self.request.zone.name()
        );
        if let Some(line) = crate::demand::holidays_text(&self.request.holidays) {
            let _infallible = writeln!(text, "{line}\n");
        }
        let currency = self.request.prices.as_ref().map(|prices| prices.currency.as_str());
        if self.services.is_empty() {
            text += "No service named itself on the telemetry of a GPU in this window. service.name on the GPU metrics says whose \
                     work a card does.\n";
        } else {
            let rows: Vec<_> = self.services.iter().map(|service| cells(service, currency)).collect();
            text += &text_table(&HEADER, 1, &rows);
            text += "\nWhy\n";
            for service in &self.services {
                let why = service.why();
                let why = why.strip_prefix(&format!("{}: ", service.service)).unwrap_or(&why);
                let _infallible = writeln!(text, "  {}: {why}.", service.service);
            }
            for service in &self.services {
                if let Some(line) = service.autoscaler_line() {
                    let _infallible = writeln!(text, "  {}: {line}.", service.service);
                }
            }
        }
        text += &self.containers.to_text(currency);
        let ids = self.to_decide_on();
        if !ids.is_empty() {
            let _infallible = writeln!(
                text,
                "\nTo decide on: {}. `driftwatt recommend accept ID` or `reject ID`; the files: --patches DIR.",
                ids.join(", ")
            );
        }
        if !self.settled.is_empty() {
            text += "\nWhat became of earlier ones\n";
            for entry in &self.settled {
                let _infallible = writeln!(text, "  {}", entry.text());
            }
        }
        if !self.undo.is_empty() {
            text += "\nTo take back (the files: --patches DIR)\n";
            for undo in &self.undo {
                let _infallible = writeln!(text, "  {}", undo.entry.text());
            }
        }
        if self.unnamed_gpu_count > 0 {
            let _infallible =
                writeln!(text, "\n{} GPUs without a service name are not judged.", self.unnamed_gpu_count);
        }
        let _infallible = writeln!(text, "\n{} points read; {NOT_KNOWN}.", self.row_count);
        text
    }
}
