//! Text and JSON of an idle examination.

use super::{GpuExamination, IdleReport, ServiceExamination, State};
use crate::{
    error::Result,
    format::{gib, percent, shorten, text_table},
};

/// GPUs that a terminal lists; a large fleet would hide what is above them.
const LISTED_MAX: usize = 200;

impl IdleReport {
    /// Tables for a terminal: services, then the GPUs that are not busy.
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
        let services: Vec<Vec<String>> = self.services.iter().map(|service| self.service_cells(service)).collect();
        let header = ["state", "data", "service", "of its GPUs", "GPUs", "mean", "p95", "peak", "memory", "coverage"];
        text += &text_table(&header, 4, &services);
        let mut listed: Vec<&GpuExamination> = self.gpus.iter().filter(|gpu| gpu.state != State::Busy).collect();
        let more = listed.len().saturating_sub(LISTED_MAX);
        listed.truncate(LISTED_MAX);
        if !listed.is_empty() {
            let rows: Vec<Vec<String>> = listed.into_iter().map(gpu_cells).collect();
            let header = ["state", "data", "GPU", "service", "note", "mean", "p95", "peak", "memory", "coverage"];
            text += &format!("\n{}", text_table(&header, 5, &rows));
        }
        if more > 0 {
            text += &format!("and {more} more; --format json has all GPUs\n");
        }
        text
    }

    fn service_cells(&self, service: &ServiceExamination) -> Vec<String> {
        let is_own = |gpu: &&GpuExamination| {
            gpu.simulated == service.simulated && gpu.service.as_deref() == Some(service.service.as_str())
        };
        let mut notes: Vec<(&str, usize)> = vec![];
        for gpu in self.gpus.iter().filter(is_own).filter(|gpu| !gpu.note.is_empty()) {
            match notes.iter_mut().find(|(note, _)| *note == gpu.note) {
                Some((_, count)) => *count += 1,
                None => notes.push((&gpu.note, 1)),
            }
        }
        notes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        vec![
            service.state.as_str().to_owned(),
            data(service.simulated),
            shorten(&service.service, 30),
            notes.first().map(|(note, count)| shorten(&format!("{count}: {note}"), 33)).unwrap_or_default(),
            format!("{}/{}", service.measured_count, service.gpu_count),
            percent(service.mean),
            percent(service.p95),
            percent(service.peak),
            gib(Some(service.memory_bytes)),
            percent(Some(service.coverage)),
        ]
    }

    /// The examination as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

fn gpu_cells(gpu: &GpuExamination) -> Vec<String> {
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
}

fn data(simulated: bool) -> String {
    if simulated { "SIMULATED" } else { "real" }.to_owned()
}
