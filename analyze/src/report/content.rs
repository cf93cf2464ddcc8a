//! The report as a page: its words, tables and charts, once for HTML, Markdown and terminal.

use super::{FleetReport, Saving, WeeklyReport, labels::Dimension, rows::Row};
use crate::{
    money::Money,
    page::{Block, Cell, Page, Section, Table, Tile, columns, number, number_or_dash, text},
    price_book::{Cost, DistributeBy},
    waterfall::Rung,
};

mod charts;
mod cost_tables;
mod use_tables;

/// Sentences on what is missing; a fleet of which much is missing would hide the rest of its report.
const MISSING_SHOWN: usize = 50;

/// What the tables of one fleet need to write their cells.
pub(super) struct Writer<'a> {
    pub(super) report: &'a WeeklyReport,
    pub(super) fleet: &'a FleetReport,
    /// Decimals of money.
    pub(super) digits: u32,
}

impl WeeklyReport {
    /// The report as one self-contained HTML file.
    pub fn to_html(&self) -> String {
        self.page().to_html()
    }

    /// The report as Markdown, with the SQL of every table.
    pub fn to_markdown(&self) -> String {
        self.page().to_markdown()
    }

    /// The report for a terminal.
    pub fn to_text(&self) -> String {
        self.page().to_text()
    }

    /// The report as a page.
    pub fn page(&self) -> Page {
        let mut page = Page {
            title: self.title(),
            lead: self.lead(),
            simulated: self.fleets.iter().any(|fleet| fleet.simulated),
            notes: self.notes(),
            inputs: self.inputs(),
            ..Page::default()
        };
        for fleet in &self.fleets {
            let writer = self.writer(fleet);
            page.tiles.extend(writer.tiles());
            page.sections.extend(writer.sections());
        }
        page
    }

    /// What matters most of it, for a first look: the figures, where the hours of GPUs went, who paid, what would save.
    pub fn digest(&self) -> Page {
        let writers = || self.fleets.iter().map(|fleet| self.writer(fleet));
        Page {
            title: self.title(),
            lead: self.lead(),
            simulated: self.fleets.iter().any(|fleet| fleet.simulated),
            tiles: writers().flat_map(|writer| writer.tiles()).collect(),
            sections: writers().flat_map(|writer| writer.digest()).collect(),
            ..Page::default()
        }
    }

    fn writer<'a>(&'a self, fleet: &'a FleetReport) -> Writer<'a> {
        let digits = self.request.prices.as_ref().map_or(2, |prices| prices.currency.digits());
        Writer { report: self, fleet, digits }
    }

    fn lead(&self) -> Vec<String> {
        let zone = self.request.zone.name();
        let money = match self.currency() {
            Some(currency) => format!("Money is in {currency}; \"unknown\" means that a price is missing, never 0."),
            None => {
                "There is no price book: every cost is unknown. Set `prices` or --prices (docs/cost.md).".to_owned()
            }
        };
        let mut lead = vec![self.windows(), format!("Time zone of the week: {zone}; times are UTC. {money}")];
        if self.data() == "real and simulated" {
            lead.push(
                "Simulated GPUs and hosts have a bill of their own; nothing of it is added to real ones.".to_owned(),
            );
        }
        if self.fleets.is_empty() {
            lead.push("No telemetry of GPUs or hosts in this window.".to_owned());
        }
        lead
    }

    fn notes(&self) -> Vec<String> {
        let fixed = [
            "Average, p95 and peak of GPUs are of one-minute means; p95 is the value that 95 % of the minutes do not exceed.",
            "A GPU is charged from its first to its last point in the window, whatever it did; who held it is what its series say.",
            "The rows of each table of costs sum to the bill; (unallocated) is what has no such label, with idle and unmeasured time.",
            "CPUs and memory go to the pods that ask for them or use them (the larger, by day); where no pod is known, to whoever \
             holds the GPUs of the host.",
            "Used cost counts only the busy part of GPUs: that of the measured hours, applied to all. A unit cost holds at the load \
             beside it.",
        ];
        fixed.map(str::to_owned).into_iter().chain(self.given()).collect()
    }

    /// Which costs were given to whom, where the price book says so.
    fn given(&self) -> Option<String> {
        let distribute = self.request.prices.as_ref()?.distribute();
        let said = distribute.parts().into_iter().filter_map(|(part, by)| {
            Some(match by? {
                DistributeBy::Uniform => format!("{part} cost to all alike"),
                DistributeBy::Share => format!("{part} cost by what each pays"),
                DistributeBy::Metric(metric) => format!("{part} cost by the metric {metric}"),
            })
        });
        let said: Vec<String> = said.collect();
        let sentence = "is given to those who hold something, with its hours; it has left its host and card";
        (!said.is_empty()).then(|| format!("As the price book says, {} {sentence}.", said.join(", ")))
    }

    fn inputs(&self) -> Vec<(String, String)> {
        let mut inputs = vec![
            ("program".to_owned(), format!("driftwatt {}", env!("CARGO_PKG_VERSION"))),
            ("points read".to_owned(), self.row_count.to_string()),
        ];
        let version = |(name, version): &(String, i64)| (format!("table {name}"), format!("version {version}"));
        inputs.extend(self.table_versions.iter().map(version));
        inputs.extend(self.queries.iter().map(|query| (query.what.to_owned(), query.sql.clone())));
        inputs
    }
}

impl Writer<'_> {
    /// ` (SIMULATED)` after headings of the simulated fleet.
    pub(super) fn mark(&self) -> &'static str {
        if self.fleet.simulated { " (SIMULATED)" } else { "" }
    }

    /// `NOT ` before an SQL condition that holds for simulated rows, where the fleet is real.
    pub(super) fn not(&self) -> &'static str {
        if self.fleet.simulated { "" } else { "NOT " }
    }

    /// SQL for `columns` of the rows of `dimension`.
    pub(super) fn query(&self, columns: &str, dimension: Dimension) -> Option<String> {
        let not = self.not();
        // The zone decides what the week before is.
        let zone = match self.report.request.zone {
            chrono_tz::Tz::UTC => String::new(),
            zone => format!(", '{}'", zone.name()),
        };
        Some(format!(
            "SELECT {columns} FROM weekly_report({}{zone}) WHERE dimension = '{}' AND {not}simulated ORDER BY cost_known_part \
             DESC",
            self.window_arguments(),
            dimension.as_str()
        ))
    }

    /// `'2026-11-16T00:00:00Z', '2026-11-23T00:00:00Z'`.
    pub(super) fn window_arguments(&self) -> String {
        let time = |time_us| {
            let time = chrono::DateTime::from_timestamp_micros(time_us).unwrap_or_default();
            format!("'{}'", time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        };
        let window = self.report.request.window;
        format!("{}, {}", time(window.start_us), time(window.end_us))
    }

    pub(super) fn rows(&self, dimension: Dimension) -> impl Iterator<Item = &Row> {
        self.fleet.rows.iter().filter(move |row| row.dimension == dimension)
    }

    /// The row of everything.
    pub(super) fn whole(&self) -> Option<&Row> {
        self.rows(Dimension::Fleet).next()
    }

    pub(super) fn money(&self, money: Option<Money>) -> Cell {
        money.map_or(Cell::Unknown, |money| Cell::Text(money.to_text(self.digits)))
    }

    /// The same with its sign.
    pub(super) fn money_change(&self, money: Option<Money>) -> Cell {
        let text = |money: Money| {
            let plus = if money > Money::ZERO { "+" } else { "" };
            Cell::Text(format!("{plus}{}", money.to_text(self.digits)))
        };
        money.map_or(Cell::Unknown, text)
    }

    fn with_currency(&self, money: Money) -> String {
        format!("{} {}", money.to_text(self.digits), self.report.currency().unwrap_or_default())
    }

    fn tiles(&self) -> Vec<Tile> {
        let Some(whole) = self.whole() else { return vec![] };
        let mark = if self.fleet.simulated { "simulated: " } else { "" };
        let tile = |label: &str, value: Option<String>, note: Option<String>| Tile {
            label: format!("{mark}{label}"),
            value,
            note,
        };
        let mut tiles = vec![tile("cost", whole.cost.map(|cost| self.with_currency(cost)), self.cost_note(whole))];
        if whole.now.gpu_hours > 0.0 {
            let waterfall = &self.fleet.week.waterfall;
            let (paid, busy) = (waterfall.step(Rung::Paid), waterfall.step(Rung::Busy));
            let share = busy.hours.zip(paid.hours).map(|(busy, paid)| format!("{:.1} %", busy / paid * 100.0));
            let unseen = |what: String| format!("nothing is known of {what}");
            let hours = busy.hours.zip(paid.hours).map(|(busy, paid)| {
                let of = format!("{busy:.1} of {paid:.1} GPU-hours");
                let unknown = waterfall.no_telemetry_hours;
                if unknown < 0.05 { of } else { format!("{of}; {}", unseen(format!("{unknown:.1}"))) }
            });
            tiles.push(tile("busy of what is paid", share, hours));
            // What was not measured is not known to be idle.
            let unknown = waterfall.no_telemetry_cost;
            let unused = paid.cost.zip(busy.cost).zip(unknown).map(|((paid, busy), unknown)| paid - busy - unknown);
            let unused = unused.map(|unused| self.with_currency(unused.max(Money::ZERO)));
            let note = unknown.filter(|cost| *cost > Money::ZERO).map(|cost| unseen(self.with_currency(cost)));
            tiles.push(tile("paid for GPUs, measured and not busy", unused, note));
            let coverage = whole.now.coverage().map(|coverage| format!("{:.1} %", coverage * 100.0));
            tiles.push(tile("GPU-hours measured", coverage, None));
            let energy = whole.now.energy_kwh.map(|kwh| format!("{kwh:.1} kWh"));
            let carbon = match whole.now.carbon_g {
                Some(grams) => format!("{:.1} kg CO2e", grams / 1e3),
                None => "carbon unknown".to_owned(),
            };
            tiles.push(tile("energy of GPUs", energy, Some(carbon)));
        }
        tiles.push(self.monitoring_tile(mark));
        tiles
    }

    /// What is known of an unknown cost, or how it changed.
    fn cost_note(&self, whole: &Row) -> Option<String> {
        let cost = whole.now.cost();
        if cost.total().is_none() {
            return self.report.currency().map(|_| {
                format!(
                    "{} is known; {:.1} unit-hours have no price",
                    self.with_currency(cost.effective),
                    cost.unpriced_hours
                )
            });
        }
        Some(match (whole.cost_change(), &whole.before) {
            (Some(change), _) if change < Money::ZERO => format!("{} less than before", self.with_currency(-change)),
            (Some(change), _) => format!("{} more than before", self.with_currency(change)),
            (None, Some(_)) => "the cost before is unknown".to_owned(),
            (None, None) => "no data of the week before".to_owned(),
        })
    }

    fn monitoring_tile(&self, mark: &str) -> Tile {
        let cost = self.fleet.week.bill.monitoring;
        let note = match cost {
            Some(_) => "CPUs and memory of collectors, part of the above",
            None => "no collector sends its own use",
        };
        Tile {
            label: format!("{mark}monitoring itself"),
            value: cost.as_ref().and_then(Cost::total).map(|cost| self.with_currency(cost)),
            note: Some(note.to_owned()),
        }
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        let mut push = |heading: &str, blocks: Vec<Block>| {
            if !blocks.is_empty() {
                sections.push(Section { heading: format!("{heading}{}", self.mark()), blocks });
            }
        };
        push("The bill", self.bill());
        push("GPU-hours from paid to productive", self.waterfall());
        push("Against the week before", self.change());
        for (dimension, heading) in [
            (Dimension::Service, "By service"),
            (Dimension::Team, "By team"),
            (Dimension::Namespace, "By namespace"),
            (Dimension::ModelVersion, "By model version"),
            (Dimension::Host, "By host"),
            (Dimension::GpuModel, "By GPU model"),
        ] {
            push(heading, self.costs(dimension));
        }
        push("Training jobs", self.jobs());
        push("Cost per request and token", self.unit_costs());
        push("Use by the hour", self.hourly());
        push("Least used GPUs", self.least_used());
        push("CPU and memory of hosts", self.hosts());
        push("What would save most", self.savings());
        if !self.fleet.undo.is_empty() {
            push("To take back", vec![Block::List(self.fleet.undo.clone())]);
        }
        push("Risks", self.risks());
        push("What is missing", vec![self.missing()]);
        sections
    }

    /// Of a fleet without GPUs its figures say enough.
    fn digest(&self) -> Vec<Section> {
        if self.whole().is_none_or(|whole| whole.now.gpu_hours <= 0.0) {
            return vec![];
        }
        let section = |heading: &str, blocks| Section { heading: format!("{heading}{}", self.mark()), blocks };
        vec![
            section("GPU-hours from paid to productive", self.waterfall()),
            section("By service", self.costs(Dimension::Service)),
            section("What would save most", self.savings()),
        ]
    }

    fn savings(&self) -> Vec<Block> {
        let cells = |saving: &Saving| {
            let money = saving.money.map(|money| self.money(Some(Money::from_units(money))));
            vec![
                text(&saving.service),
                text(&format!("{} → {}", saving.replicas.0, saving.replicas.1)),
                text(&format!("{:.0}", saving.gpu_hours)),
                money.unwrap_or(Cell::Unknown),
                text(&format!("{:.2}", saving.confidence)),
            ]
        };
        let savings = &self.fleet.savings;
        if savings.is_empty() {
            let none = "Nothing is proposed on this week alone; `driftwatt recommend` looks at two and says why for each service.";
            return vec![Block::Paragraph(none.to_owned())];
        }
        let table = Table {
            caption: "Proposals of `driftwatt recommend` on this week, with what a week of each saves".to_owned(),
            columns: columns(&["service"], &["replicas", "GPU-h a week", "saves a week", "confidence"]),
            rows: savings.iter().map(cells).collect(),
            query: None,
        };
        let why = savings.iter().map(|saving| saving.why.clone()).collect();
        vec![Block::Table(table), Block::List(why)]
    }

    fn risks(&self) -> Vec<Block> {
        let risks: Vec<String> =
            self.fleet.risks.iter().map(|risk| format!("{}: {}.", risk.service, risk.what)).collect();
        if risks.is_empty() {
            let none = "No service with a single replica, and none without headroom, among those whose GPUs name them.";
            return vec![Block::Paragraph(none.to_owned())];
        }
        vec![Block::List(risks)]
    }

    fn missing(&self) -> Block {
        let missing = &self.fleet.week.missing;
        if missing.is_empty() {
            return Block::Paragraph("Nothing that is known of.".to_owned());
        }
        let mut shown: Vec<String> = missing.iter().take(MISSING_SHOWN).cloned().collect();
        if let Some(more) = missing.len().checked_sub(MISSING_SHOWN).filter(|more| *more > 0) {
            shown.push(format!("And {more} more; --format json has all."));
        }
        Block::List(shown)
    }
}
