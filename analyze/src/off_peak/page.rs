//! The week as a page: free GPUs by hour, windows with their schedules, and jobs that ran at peak.

use super::{OffPeakFleet, OffPeakReport, PeakJob, TrainingWindow, WindowSource, text::hour_text};
use crate::{
    chart::{Caption, HeatMap, HeatRow},
    page::{Block, Cell, Figure, Page, Section, Table, Tile, columns, number, text},
    window::time_text,
};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl OffPeakReport {
    /// The report as one self-contained HTML file.
    pub fn to_html(&self) -> String {
        self.page().to_html()
    }

    /// The report as a page.
    pub fn page(&self) -> Page {
        let window = self.request.window;
        let (from, to) = (time_text(window.start_us), time_text(window.end_us));
        let rules = &self.request.rules;
        let mut page = Page {
            title: "When training may run".to_owned(),
            lead: vec![
                format!("{from} to {to} ({:.0} h); hours are those of {}.", window.hours(), self.request.zone.name()),
                format!(
                    "For jobs that need {} GPU{} and at least {} hours in a row.",
                    rules.gpus_needed,
                    if rules.gpus_needed > 1.0 { "s" } else { "" },
                    rules.hours_min
                ),
            ],
            simulated: self.fleets.iter().any(|fleet| fleet.simulated),
            notes: vec![
                "Free: GPUs less headroom less the 95th percentile of the demand of what cannot be moved; the time of a job that names \
                 itself counts as free."
                    .to_owned(),
                "Windows are ranked by the price of energy, with carbon at its price; unknown prices come last.".to_owned(),
            ],
            inputs: vec![("program".to_owned(), format!("driftwatt {}", env!("CARGO_PKG_VERSION")))],
            ..Page::default()
        };
        page.inputs.extend(self.queries.iter().map(|query| ("SQL".to_owned(), query.clone())));
        for fleet in &self.fleets {
            let (before, mark) = if fleet.simulated { ("simulated: ", " (SIMULATED)") } else { ("", "") };
            page.tiles.extend(tiles(fleet, before));
            let mut push = |heading: &str, blocks| {
                page.sections.push(Section { heading: format!("{heading}{mark}"), blocks });
            };
            push("Free GPUs by hour of the week", self.week(fleet));
            push("Windows, best first", self.windows(fleet));
            push("Jobs that ran at peak", self.jobs(fleet));
        }
        page.lead.extend(crate::demand::holidays_text(&self.request.holidays));
        if self.fleets.is_empty() {
            let none = "No GPU reported in this window. The rule of thumb without telemetry: outside 9:00–18:00.";
            page.lead.push(none.to_owned());
        }
        page
    }

    fn currency(&self) -> &'static str {
        self.request.prices.as_ref().map_or("", |prices| prices.currency.as_str())
    }

    fn week(&self, fleet: &OffPeakFleet) -> Vec<Block> {
        if fleet.plan.source == WindowSource::RuleOfThumb {
            let unknown = "Too little was measured to know free GPUs (90 % of the time and 167 hours of the week are needed): the rule \
                           of thumb holds, outside 9:00–18:00.";
            return vec![Block::Paragraph(unknown.to_owned())];
        }
        let row = |(day, name): (usize, &&str)| HeatRow {
            name: (*name).to_owned(),
            values: (0..24).map(|hour| fleet.plan.hours[day * 24 + hour].free_gpus).collect(),
        };
        let drawn = HeatMap {
            caption: Caption {
                id: format!("free-{}", if fleet.simulated { "simulated" } else { "real" }),
                title: "Free GPUs by hour of the week".to_owned(),
                description: "GPUs that serving leaves in each hour of the week, a row for each day".to_owned(),
                simulated: fleet.simulated,
            },
            unit: "GPUs".to_owned(),
            max: fleet.gpu_count as f64,
            columns: (0..24).map(|hour| format!("{hour:02}")).collect(),
            rows: DAYS.iter().enumerate().map(row).collect(),
        };
        let needed = self.request.rules.gpus_needed;
        vec![Block::Figure(Figure {
            svg: drawn.to_svg(),
            caption: format!("An hour with fewer than {needed} free GPUs is peak"),
            query: Some(format!(
                "SELECT hour_of_week, free_gpus, is_off_peak FROM reports.off_peak_hours WHERE {}simulated AND time = \
                 (SELECT max(time) FROM reports.off_peak_hours) ORDER BY hour_of_week",
                if fleet.simulated { "" } else { "NOT " }
            )),
        })]
    }

    fn windows(&self, fleet: &OffPeakFleet) -> Vec<Block> {
        if fleet.plan.windows.is_empty() {
            return vec![Block::Paragraph("No hours in a row leave enough GPUs for a job.".to_owned())];
        }
        let cells = |window: &TrainingWindow| {
            vec![
                text(&hour_text(window.from_hour)),
                number(Some(window.hour_count as f64), 1.0, 0),
                number(window.free_gpus, 1.0, 1),
                number(window.price_per_kwh, 1.0, 4),
                number(window.carbon_g_per_kwh, 1.0, 0),
            ]
        };
        let price = format!("{} per kWh", self.currency());
        let windows = Table {
            caption: match fleet.plan.source {
                WindowSource::Measured => "Hours in a row with enough free GPUs".to_owned(),
                WindowSource::RuleOfThumb => {
                    "Hours in a row by the rule of thumb; what is free is not known".to_owned()
                }
            },
            columns: columns(&["from"], &["hours", "free GPUs", price.trim_start(), "g CO2e per kWh"]),
            rows: fleet.plan.windows.iter().map(cells).collect(),
            query: None,
        };
        let line = |line: &super::CronLine| {
            vec![text(&line.schedule), text(&line.time_zone), number(Some(line.hour_count as f64), 1.0, 0)]
        };
        let schedules = Table {
            caption: "For a crontab (CRON_TZ), or `schedule` and `timeZone` of a CronJob; the files: `driftwatt offpeak --patches DIR`"
                .to_owned(),
            columns: columns(&["schedule", "time zone"], &["hours open"]),
            rows: fleet.cron.iter().map(line).collect(),
            query: None,
        };
        vec![Block::Table(windows), Block::Table(schedules)]
    }

    fn jobs(&self, fleet: &OffPeakFleet) -> Vec<Block> {
        if fleet.job_count == 0 {
            let none = "No job named itself on the telemetry of a GPU (k8s.job.name, hpc_job or slurm.job.id).";
            return vec![Block::Paragraph(none.to_owned())];
        }
        let said = Block::Paragraph(format!("{} of {} jobs ran at peak.", fleet.jobs.len(), fleet.job_count));
        if fleet.jobs.is_empty() {
            return vec![said];
        }
        let cells = |found: &PeakJob| -> Vec<Cell> {
            let tightest = found.tightest.map(|(hour, free)| format!("{} ({free:.1} free)", hour_text(hour)));
            let window = found.window.map(|window| hour_text(window.from_hour));
            vec![
                text(&found.job.name),
                text(tightest.as_deref().unwrap_or("unknown")),
                text(window.as_deref().unwrap_or("none is long enough")),
                number(Some(found.job.gpus), 1.0, 1),
                number(Some(found.peak_gpu_hours), 1.0, 1),
                number(Some(found.peak_share), 100.0, 1),
                number(found.saving, 1.0, 2),
                number(found.carbon_g, 1e-3, 2),
            ]
        };
        let saved = format!("energy saved {}", self.currency());
        let table = Table {
            caption: "GPU-hours at peak are what moving the job would have freed".to_owned(),
            columns: columns(
                &["job", "tightest hour", "move to"],
                &["GPUs", "GPU-h at peak", "of it %", saved.trim_end(), "kg CO2e saved"],
            ),
            rows: fleet.jobs.iter().map(cells).collect(),
            query: None,
        };
        vec![said, Block::Table(table)]
    }
}

fn tiles(fleet: &OffPeakFleet, before: &str) -> Vec<Tile> {
    let tile = |label: &str, value: Option<String>, note: Option<String>| Tile {
        label: format!("{before}{label}"),
        value,
        note,
    };
    let open = fleet.plan.hours.iter().filter(|hour| hour.is_off_peak).count();
    let least = fleet.plan.hours.iter().map(|hour| hour.free_gpus).collect::<Option<Vec<f64>>>();
    let least = least.and_then(|free| free.into_iter().reduce(f64::min));
    // A sum of nothing is -0.
    let peak = fleet.jobs.iter().map(|job| job.peak_gpu_hours).sum::<f64>() + 0.0;
    let source = match fleet.plan.source {
        WindowSource::Measured => "from measured demand",
        WindowSource::RuleOfThumb => "a rule of thumb: too little was measured",
    };
    vec![
        tile(
            "GPUs",
            Some(fleet.gpu_count.to_string()),
            Some(format!("{:.1} % of their time measured", fleet.coverage * 100.0)),
        ),
        tile("off-peak hours of 168", Some(open.to_string()), Some(source.to_owned())),
        tile("free GPUs at the tightest hour", least.map(|free| format!("{free:.1}")), None),
        tile(
            "GPU-hours that jobs took at peak",
            Some(format!("{peak:.1}")),
            Some(format!("{} of {} jobs", fleet.jobs.len(), fleet.job_count)),
        ),
    ]
}
