//! Text and JSON of an idle examination.

use super::{IdleReport, State};
use crate::{
    error::Result,
    format::{gib, percent, shorten, text_table},
};

impl IdleReport {
    /// Tables for a terminal.
    pub fn to_text(&self) -> String {
        let count = |state| self.gpus.iter().filter(|gpu| gpu.state == state).count();
        let mark = if self.gpus.iter().any(|gpu| gpu.simulated) { " [rows marked SIMULATED are not real]" } else { "" };
        let mut text = format!(
            "Idle examination {}{mark}\n{} GPUs: {} idle-held, {} free, {} busy, {} no-telemetry\n\
             A mean below {} opens an examination; below {} coverage nothing is concluded.\n\n",
            self.request.window.label(),
            self.gpus.len(),
            count(State::IdleHeld),
            count(State::Free),
            count(State::Busy),
            count(State::NoTelemetry),
            percent(Some(self.request.mean_below)),
            percent(Some(self.request.coverage_min)),
        );
        let data = |simulated: bool| if simulated { "SIMULATED" } else { "real" }.to_owned();
        let rows: Vec<Vec<String>> = self
            .gpus
            .iter()
            .map(|gpu| {
                vec![
                    gpu.state.as_str().to_owned(),
                    data(gpu.simulated),
                    shorten(&format!("{}/{}", gpu.host, gpu.gpu_id), 30),
                    shorten(gpu.service.as_deref().unwrap_or("–"), 16),
                    shorten(&gpu.note, 29),
                    percent(gpu.mean),
                    percent(gpu.p95),
                    percent(gpu.peak),
                    gib(gpu.memory_bytes),
                    percent(Some(gpu.coverage)),
                ]
            })
            .collect();
        let header = ["state", "data", "GPU", "service", "note", "mean", "p95", "peak", "memory", "coverage"];
        text += &text_table(&header, 5, &rows);
        let rows: Vec<Vec<String>> = self
            .services
            .iter()
            .map(|service| {
                vec![
                    service.state.as_str().to_owned(),
                    data(service.simulated),
                    shorten(&service.service, 30),
                    format!("{}/{}", service.measured_count, service.gpu_count),
                    percent(service.mean),
                    percent(service.p95),
                    percent(service.peak),
                    gib(Some(service.memory_bytes)),
                    percent(Some(service.coverage)),
                ]
            })
            .collect();
        let header = ["state", "data", "service", "GPUs", "mean", "p95", "peak", "memory", "coverage"];
        text.push('\n');
        text + &text_table(&header, 3, &rows)
    }

    /// The examination as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}
