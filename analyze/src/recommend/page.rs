//! The answer as a page.

use super::{NOT_KNOWN, RecommendReport, ServiceVerdict};
use crate::{
    chart::{Bar, Caption, StackedBars},
    gpu_state::GpuState,
    page::{Block, Cell, Figure, Page, Section, Table, Tile, columns, number, number_or_dash, text},
    recommendation::Verdict,
    window::time_text,
};

/// Services in the chart, those with the most hours.
const BARS_SHOWN: usize = 30;
/// States in the order of the parts of a bar, with their names.
const STATES: [(GpuState, &str); 4] = [
    (GpuState::Busy, "busy"),
    (GpuState::IdleHeld, "idle-held"),
    (GpuState::Free, "free"),
    (GpuState::NoTelemetry, "no telemetry"),
];

impl RecommendReport {
    /// The report as one self-contained HTML file.
    pub fn to_html(&self) -> String {
        self.page().to_html()
    }

    /// The report as a page.
    pub fn page(&self) -> Page {
        let window = self.request.window;
        let (from, to) = (time_text(window.start_us), time_text(window.end_us));
        let mut page = Page {
            title: "What to do about GPUs".to_owned(),
            lead: vec![
                format!("{from} to {to} ({:.0} h); hours of the week are those of {}.", window.hours(), self.request.zone.name()),
                match self.currency() {
                    Some(currency) => format!("Savings are a week's, in {currency} at the prices of the price book."),
                    None => "There is no price book: savings are in GPU-hours. Set `prices` or --prices.".to_owned(),
                },
            ],
            simulated: self.services.iter().any(|service| service.simulated)
                || self.containers.verdicts.iter().any(|of| of.simulated),
            notes: vec![
                "shrink: fewer replicas would have been enough, and a replay of the demand shows it. keep: leave it. vetoed: too \
                 large, but something forbids the change. unknown: too little telemetry for any verdict."
                    .to_owned(),
                format!("For all: {NOT_KNOWN}."),
            ],
            inputs: vec![
                ("program".to_owned(), format!("driftwatt {}", env!("CARGO_PKG_VERSION"))),
                ("points read".to_owned(), self.row_count.to_string()),
            ],
            ..Page::default()
        };
        if !self.containers.verdicts.is_empty() {
            let of_requests = "Of requests, raise: more is needed than is asked for; shrink: less; change: one of CPU and memory more, the \
                               other less.";
            page.notes.push(of_requests.to_owned());
        }
        if self.unnamed_gpu_count > 0 {
            let unnamed = format!("{} GPUs without a service name are not judged.", self.unnamed_gpu_count);
            page.notes.push(unnamed);
        }
        page.inputs.extend(self.all_queries().into_iter().map(|query| ("SQL".to_owned(), query.to_owned())));
        page.lead.extend(crate::demand::holidays_text(&self.request.holidays));
        for simulated in [false, true] {
            self.fleet(simulated, &mut page);
            page.sections.extend(self.containers.sections(simulated, self.currency()));
        }
        if self.services.is_empty() {
            let none = "No service named itself on the telemetry of a GPU in this window: service.name on the GPU metrics says whose \
                        work a card does.";
            page.lead.push(none.to_owned());
        }
        let lists = [
            ("To take back", self.undo.iter().map(|undo| undo.entry.text()).collect::<Vec<_>>()),
            ("What became of earlier ones", self.settled.iter().map(|entry| entry.text()).collect()),
        ];
        for (heading, lines) in lists.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            page.sections.push(Section { heading: heading.to_owned(), blocks: vec![Block::List(lines)] });
        }
        page
    }

    /// Tiles and sections of the services of one fleet.
    fn fleet(&self, simulated: bool, page: &mut Page) {
        let services: Vec<&ServiceVerdict> =
            self.services.iter().filter(|service| service.simulated == simulated).collect();
        if services.is_empty() {
            return;
        }
        let (before, mark) = if simulated { ("simulated: ", " (SIMULATED)") } else { ("", "") };
        page.tiles.extend(self.tiles(&services, before));
        let mut push = |heading: &str, blocks| {
            page.sections.push(Section { heading: format!("{heading}{mark}"), blocks });
        };
        push("Proposed", self.proposed(&services));
        push("All services", vec![chart(&services, simulated), all(&services)]);
        let autoscalers = services.iter().filter_map(|of| Some(format!("{}: {}.", of.service, of.autoscaler_line()?)));
        push("Why", vec![Block::List(services.iter().map(|of| why(of)).chain(autoscalers).collect())]);
    }

    fn currency(&self) -> Option<&'static str> {
        self.request.prices.as_ref().map(|prices| prices.currency.as_str())
    }

    fn tiles(&self, services: &[&ServiceVerdict], before: &str) -> Vec<Tile> {
        let found: Vec<_> = services.iter().filter_map(|service| Some((service, service.recommendation()?))).collect();
        let gpus: u32 = found.iter().map(|(of, found)| (found.current - found.proposed) * of.gpus_per_replica).sum();
        // A sum of nothing is -0.
        let hours = found.iter().map(|(_, found)| found.gpu_hours.expected).sum::<f64>() + 0.0;
        // A sum with an unknown part is unknown.
        let money: Option<f64> = found.iter().map(|(service, _)| Some(service.saving()?.expected)).sum();
        let money = money.zip(self.currency()).map(|(money, currency)| format!("{:.2} {currency}", money + 0.0));
        let count = |name: &str| services.iter().filter(|service| service.verdict_name() == name).count();
        let tile = |label: &str, value: Option<String>, note: String| Tile {
            label: format!("{before}{label}"),
            value,
            note: Some(note),
        };
        vec![
            tile("services to shrink", Some(count("shrink").to_string()), format!("of {}", services.len())),
            tile("GPUs that the next step frees", Some(gpus.to_string()), format!("{hours:.0} GPU-hours a week")),
            tile("a week saves", money, "at effective prices, if all are carried out".to_owned()),
            tile("too large, but vetoed", Some(count("vetoed").to_string()), "something forbids the change".to_owned()),
            tile("no verdict", Some(count("unknown").to_string()), "too little telemetry".to_owned()),
        ]
    }

    fn proposed(&self, services: &[&ServiceVerdict]) -> Vec<Block> {
        let cells = |service: &&ServiceVerdict| -> Option<Vec<Cell>> {
            let found = service.recommendation()?;
            let money = |of: fn(&crate::recommendation::Saving) -> f64| match self.currency() {
                Some(_) => number(service.saving().map(|saving| of(&saving)), 1.0, 2),
                None => Cell::Unknown,
            };
            let until = time_text(found.expires_us);
            let until = until.split(' ').next().unwrap_or_default();
            Some(vec![
                text(&service.service),
                text(&format!("{} until {until}", service.id.as_deref().unwrap_or_default())),
                text(&format!("{} → {}", found.current, found.proposed)),
                number(Some(found.gpu_hours.expected), 1.0, 0),
                money(|saving| saving.low),
                money(|saving| saving.expected),
                money(|saving| saving.high),
                number(Some(found.confidence), 1.0, 2),
                number(Some(found.numbers[1]), 1.0, 1),
                number(Some(found.numbers[2]), 100.0, 2),
            ])
        };
        let rows: Vec<Vec<Cell>> = services.iter().filter_map(cells).collect();
        if rows.is_empty() {
            return vec![Block::Paragraph("Nothing is proposed; below is why, for each service.".to_owned())];
        }
        let numbers = ["replicas", "GPU-h", "saves low", "expected", "high", "confidence", "peak GPUs", "short %"];
        let table = Table {
            caption: "A week of it; peak: GPUs that the busiest hour needs with a burst; short: replayed minutes without capacity. To \
                      decide: `driftwatt recommend accept ID` or `reject ID`; the files: `--patches DIR`"
                .to_owned(),
            columns: columns(&["service", "id, and when it expires"], &numbers),
            rows,
            query: Some(
                "SELECT service_name, id, replica_count, proposed_count, gpu_hours_saved, saving_low, saving_expected, saving_high, \
                 confidence, peak_gpus, over_share, expires FROM reports.recommendations WHERE kind = 'replicas' AND verdict = 'shrink' ORDER BY time DESC"
                    .to_owned(),
            ),
        };
        vec![Block::Table(table)]
    }
}

fn hours(service: &ServiceVerdict, state: GpuState) -> f64 {
    service.hours.get(&state).copied().unwrap_or(0.0)
}

fn chart(services: &[&ServiceVerdict], simulated: bool) -> Block {
    let mut most: Vec<&&ServiceVerdict> = services.iter().collect();
    let all = |service: &ServiceVerdict| service.hours.values().sum::<f64>();
    most.sort_by(|a, b| all(b).total_cmp(&all(a)).then_with(|| a.service.cmp(&b.service)));
    let bar = |service: &&&ServiceVerdict| Bar {
        name: service.service.clone(),
        parts: STATES.iter().map(|(state, _)| Some(hours(service, *state))).collect(),
    };
    let drawn = StackedBars {
        caption: Caption {
            id: format!("hours-{}", if simulated { "simulated" } else { "real" }),
            title: "GPU-hours of each service by state".to_owned(),
            description: "Hours of its GPUs that were busy, idle while memory was held, free, or without telemetry"
                .to_owned(),
            simulated,
        },
        unit: "GPU-h".to_owned(),
        parts: STATES.iter().map(|(_, name)| (*name).to_owned()).collect(),
        bars: most.iter().take(BARS_SHOWN).map(bar).collect(),
    };
    let shown = match most.len().checked_sub(BARS_SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("GPU-hours by state; {more} services more are in the table"),
        None => "GPU-hours by state".to_owned(),
    };
    Block::Figure(Figure { svg: drawn.to_svg(), caption: shown, query: None })
}

fn all(services: &[&ServiceVerdict]) -> Block {
    let cells = |service: &&ServiceVerdict| {
        let mut cells = vec![
            text(&service.service),
            text(service.verdict_name()),
            text(&service.replica_count.to_string()),
            text(&service.gpu_count.to_string()),
            number_or_dash(service.mean, 100.0, 1),
        ];
        cells.extend(STATES.iter().map(|(state, _)| number(Some(hours(service, *state)), 1.0, 0)));
        cells.push(number(Some(service.coverage), 100.0, 1));
        cells
    };
    let numbers = ["replicas", "GPUs", "mean %", "busy h", "held h", "free h", "no data h", "coverage %"];
    Block::Table(Table {
        caption: "Replicas are pods, or GPUs where no pod is named".to_owned(),
        columns: columns(&["service", "verdict"], &numbers),
        rows: services.iter().map(cells).collect(),
        query: Some(
            "SELECT service_name, verdict, replica_count, gpu_count, utilization_mean, coverage FROM reports.recommendations \
             WHERE kind = 'replicas' ORDER BY time DESC"
                .to_owned(),
        ),
    })
}

fn why(service: &ServiceVerdict) -> String {
    let why = service.why();
    let why = why.strip_prefix(&format!("{}: ", service.service)).unwrap_or(&why);
    let verdict = match service.verdict {
        Verdict::Shrink(_) => "",
        _ => service.verdict_name(),
    };
    let verdict = if verdict.is_empty() { String::new() } else { format!("{verdict}: ") };
    format!("{}: {verdict}{why}.", service.service)
}
