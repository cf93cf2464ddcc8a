//! An idle examination as a page.

use super::{GpuExamination, IdleReport, ServiceExamination, State};
use crate::{
    chart::{Bar, Caption, StackedBars},
    format::percent,
    page::{Block, Figure, Page, Section, Table, Tile, columns, number, number_or_dash, text},
    window::time_text,
};

const GIB: f64 = 1.0 / 1_073_741_824.0;
/// GPUs that are listed; the JSON has all.
const GPUS_SHOWN: usize = 500;
/// Services in the chart.
const BARS_SHOWN: usize = 30;
/// States in the order of the tiles.
const STATES: [State; 4] = [State::IdleHeld, State::Free, State::Busy, State::NoTelemetry];
/// States in the order of the parts of a bar, which are coloured as on the page of recommendations.
const PARTS: [State; 4] = [State::Busy, State::IdleHeld, State::Free, State::NoTelemetry];

impl IdleReport {
    /// The examination as one self-contained HTML file.
    pub fn to_html(&self) -> String {
        self.page().to_html()
    }

    /// The examination as a page.
    pub fn page(&self) -> Page {
        let window = self.request.window;
        let mut page = Page {
            title: format!("Idle GPUs {}", window.label()),
            lead: vec![
                format!("{} to {} ({:.0} h).", time_text(window.start_us), time_text(window.end_us), window.hours()),
                format!(
                    "A mean below {} opens an examination; from a 95th percentile of {} on a GPU works in bursts. Below {} \
                     coverage nothing is concluded.",
                    percent(Some(self.request.mean_below)),
                    percent(Some(self.request.p95_below)),
                    percent(Some(self.request.coverage_min)),
                ),
            ],
            simulated: self.gpus.iter().any(|gpu| gpu.simulated),
            notes: [
                "idle-held: little work while memory is held; free: little work, no memory held; no-telemetry: too few samples to \
                 say anything, which is not idleness.",
                "What to do about it, with a replay of the demand: `driftwatt recommend`.",
            ]
            .map(str::to_owned)
            .to_vec(),
            inputs: vec![
                ("program".to_owned(), format!("driftwatt {}", env!("CARGO_PKG_VERSION"))),
                ("samples read".to_owned(), self.row_count.to_string()),
            ],
            ..Page::default()
        };
        for simulated in [false, true] {
            let gpus: Vec<&GpuExamination> = self.gpus.iter().filter(|gpu| gpu.simulated == simulated).collect();
            if gpus.is_empty() {
                continue;
            }
            let (before, mark) = if simulated { ("simulated: ", " (SIMULATED)") } else { ("", "") };
            page.tiles.extend(tiles(&gpus, before));
            let services: Vec<&ServiceExamination> =
                self.services.iter().filter(|service| service.simulated == simulated).collect();
            if !services.is_empty() {
                let blocks = vec![chart(&gpus, &services, simulated), services_table(&services)];
                page.sections.push(Section { heading: format!("Services{mark}"), blocks });
            }
            let mut blocks = vec![self.gpus_table(&gpus)];
            if let Some(more) = gpus.len().checked_sub(GPUS_SHOWN).filter(|more| *more > 0) {
                blocks.push(Block::Paragraph(format!("And {more} more, which did more; --format json has all.")));
            }
            page.sections.push(Section { heading: format!("GPUs{mark}"), blocks });
        }
        if self.gpus.is_empty() {
            page.lead.push("No GPU reported in this window or in the 7 days before it.".to_owned());
        }
        page
    }

    fn gpus_table(&self, gpus: &[&GpuExamination]) -> Block {
        let cells = |gpu: &&GpuExamination| {
            vec![
                text(&format!("{}/{}", gpu.host, gpu.gpu_id)),
                text(&state_text(gpu)),
                text(gpu.service.as_deref().unwrap_or("–")),
                number_or_dash(gpu.mean, 100.0, 1),
                number_or_dash(gpu.p95, 100.0, 1),
                number_or_dash(gpu.peak, 100.0, 1),
                number(gpu.memory_bytes, GIB, 1),
                number(Some(gpu.coverage), 100.0, 1),
            ]
        };
        Block::Table(Table {
            caption: "By state, least used first".to_owned(),
            columns: columns(&["GPU", "state", "service"], &["mean %", "p95 %", "peak %", "GiB in use", "coverage %"]),
            rows: gpus.iter().take(GPUS_SHOWN).map(cells).collect(),
            query: Some(self.query.clone()),
        })
    }
}

/// `busy: low mean, works in bursts`.
fn state_text(gpu: &GpuExamination) -> String {
    let colon = if gpu.note.is_empty() { "" } else { ": " };
    format!("{}{colon}{}", gpu.state.as_str(), gpu.note)
}

fn tiles(gpus: &[&GpuExamination], before: &str) -> Vec<Tile> {
    let tile = |state: State| {
        let count = gpus.iter().filter(|gpu| gpu.state == state).count();
        Tile {
            label: format!("{before}{}", state.as_str()),
            value: Some(count.to_string()),
            note: Some(format!("of {} GPUs", gpus.len())),
        }
    };
    STATES.map(tile).to_vec()
}

fn chart(gpus: &[&GpuExamination], services: &[&ServiceExamination], simulated: bool) -> Block {
    let bar = |service: &&ServiceExamination| {
        let count = |state: State| {
            let own = gpus.iter().filter(|gpu| gpu.service.as_ref() == Some(&service.service) && gpu.state == state);
            Some(own.count() as f64)
        };
        Bar { name: service.service.clone(), parts: PARTS.map(count).to_vec() }
    };
    let drawn = StackedBars {
        caption: Caption {
            id: format!("states-{}", if simulated { "simulated" } else { "real" }),
            title: "GPUs of each service by state".to_owned(),
            description: "How many of its GPUs were idle while memory was held, free, busy, or without telemetry"
                .to_owned(),
            simulated,
        },
        unit: "GPUs".to_owned(),
        parts: PARTS.map(|state| state.as_str().to_owned()).to_vec(),
        bars: services.iter().take(BARS_SHOWN).map(bar).collect(),
    };
    let caption = match services.len().checked_sub(BARS_SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("GPUs of each service by state; {more} services more are in the table"),
        None => "GPUs of each service by state".to_owned(),
    };
    Block::Figure(Figure { svg: drawn.to_svg(), caption, query: None })
}

fn services_table(services: &[&ServiceExamination]) -> Block {
    let cells = |service: &&ServiceExamination| {
        vec![
            text(&service.service),
            text(service.state.as_str()),
            text(&format!("{}/{}", service.measured_count, service.gpu_count)),
            number_or_dash(service.mean, 100.0, 1),
            number_or_dash(service.p95, 100.0, 1),
            number_or_dash(service.peak, 100.0, 1),
            number(Some(service.memory_bytes), GIB, 1),
            number(Some(service.coverage), 100.0, 1),
        ]
    };
    Block::Table(Table {
        caption: "A service is judged by its GPUs with enough telemetry".to_owned(),
        columns: columns(
            &["service", "state"],
            &["GPUs measured", "mean %", "p95 %", "peak %", "GiB in use", "coverage %"],
        ),
        rows: services.iter().map(cells).collect(),
        query: None,
    })
}
