//! Tables of money: the bill, costs by dimension, the change, costs per request and token.

use super::{Writer, columns, number, number_or_dash, text};
use crate::{
    allocation::UNALLOCATED,
    money::Money,
    page::{Block, Cell, Table},
    report::{labels::Dimension, rows::Row},
    unit_cost::Figure,
};

impl Writer<'_> {
    /// The parts of the bill, and their sum.
    pub(super) fn bill(&self) -> Vec<Block> {
        let Some(whole) = self.whole() else { return vec![] };
        let sum = whole.now.cost().total().map(Money::units).filter(|sum| *sum > 0.0);
        let cells = |name: &str, row: &Row| {
            let share = row.now.cost().total().zip(sum).map(|(cost, sum)| cost.units() / sum);
            let before = match &row.before {
                Some(before) => self.money(before.cost().total()),
                None => text("no data"),
            };
            vec![
                text(name),
                number(Some(row.now.gpu_hours), 1.0, 1),
                self.money(row.cost),
                number(share, 100.0, 1),
                before,
                self.change_cell(row),
            ]
        };
        let rows = self.rows(Dimension::Part).map(|row| cells(&row.name, row)).chain([cells("all", whole)]);
        let table = Table {
            caption: "Parts of the bill: they sum to it".to_owned(),
            columns: columns(&["part"], &["GPU-hours", "cost", "share %", "before", "change"]),
            rows: rows.collect(),
            query: self.query("name, gpu_hours, cost, cost_before, cost_change", Dimension::Part),
        };
        vec![Block::Table(table)]
    }

    fn change_cell(&self, row: &Row) -> Cell {
        match &row.before {
            Some(_) => self.money_change(row.cost_change()),
            None => text("no data"),
        }
    }

    /// Cost and use by the values of `dimension`; nothing where no line has one.
    pub(super) fn costs(&self, dimension: Dimension) -> Vec<Block> {
        if self.rows(dimension).all(|row| row.name == UNALLOCATED) {
            return vec![];
        }
        let cells = |row: &Row| {
            let now = &row.now;
            vec![
                text(&row.name),
                text(&now.gpu_count.to_string()),
                number_or_dash(now.gpu.average, 100.0, 1),
                number_or_dash(now.gpu.p95, 100.0, 1),
                number_or_dash(now.gpu.peak, 100.0, 1),
                number(Some(now.gpu_hours), 1.0, 1),
                self.money(row.cost),
                self.change_cell(row),
                number_or_dash(now.energy_kwh, 1.0, 1),
                match now.energy_kwh {
                    Some(_) => number(now.carbon_g, 1e-3, 2),
                    None => text("–"),
                },
                number_or_dash(now.coverage(), 100.0, 1),
            ]
        };
        let numbers = ["GPUs", "avg %", "p95 %", "peak %", "GPU-h", "cost", "change", "kWh", "kg CO2e", "measured %"];
        let table = Table {
            caption: "Use of GPUs, cost with CPU and memory, change of the cost, energy of GPUs".to_owned(),
            columns: columns(&["name"], &numbers),
            rows: self.rows(dimension).map(cells).collect(),
            query: self.query(
                "name, gpu_count, gpu_utilization_average, gpu_utilization_p95, gpu_utilization_peak, gpu_hours, cost, \
                 cost_change, energy_kwh, carbon_kg, coverage",
                dimension,
            ),
        };
        vec![Block::Table(table)]
    }

    /// Why GPUs cost more or less, and what else changed.
    pub(super) fn change(&self) -> Vec<Block> {
        let Some(whole) = self.whole() else { return vec![] };
        let Some(before) = &whole.before else {
            return vec![Block::Paragraph(
                "The week before has no telemetry: there is nothing to compare with.".to_owned(),
            )];
        };
        let change = match &whole.change {
            Ok(change) => *change,
            Err(reason) => {
                return vec![Block::Paragraph(format!("The change of the cost of GPUs is unknown: {reason}."))];
            }
        };
        let other = whole.now.other_cost.total().zip(before.other_cost.total()).map(|(now, before)| now - before);
        let rows = [
            ("more or less work", Some(change.volume), "requests, at the hours per request of before"),
            ("hours for the same work", change.utilisation, "more or less held for each request"),
            ("other kinds of GPUs", Some(change.mix), "at the prices of before"),
            ("prices", Some(change.price), "of the same kind"),
            ("GPUs together", Some(change.difference), "the sum of these"),
            ("CPU, memory, overhead", other, "everything else"),
        ];
        let cells =
            |(what, money, how): (&str, Option<Money>, &str)| vec![text(what), text(how), self.money_change(money)];
        let table = Table {
            caption: match change.utilisation {
                Some(_) => "Why the cost changed".to_owned(),
                None => "Why the cost changed; without counted requests in both weeks, more hours count as more work"
                    .to_owned(),
            },
            columns: columns(&["what changed", "how it is counted"], &["money"]),
            rows: rows.map(cells).to_vec(),
            query: self.query(
                "gpu_cost_change, change_volume, change_utilisation, change_mix, change_price",
                Dimension::Fleet,
            ),
        };
        let use_of = whole.duty_change().map(|change| {
            let (hours, was) = (whole.now.gpu_hours, before.gpu_hours);
            format!(
                "Mean use of GPUs changed by {:+.1} points; {hours:.1} GPU-hours were paid, {was:.1} before.",
                change * 100.0
            )
        });
        use_of.map(Block::Paragraph).into_iter().chain([Block::Table(table)]).collect()
    }

    /// Cost per request and token, by service and by model version, with the load.
    pub(super) fn unit_costs(&self) -> Vec<Block> {
        let counted =
            |row: &&Row| row.name != UNALLOCATED && (row.now.requests().is_some() || row.now.tokens()[0].is_some());
        let of = |dimension| self.rows(dimension).filter(counted).map(|row| self.unit_cells(row)).collect::<Vec<_>>();
        let numbers =
            ["requests", "req/s", "per 1000", "used", "M tok in", "M tok out", "per M tok", "used", "GPU busy %"];
        let mut blocks = Vec::new();
        for (dimension, what) in [(Dimension::Service, "service"), (Dimension::ModelVersion, "model version")] {
            let rows = of(dimension);
            if !rows.is_empty() {
                blocks.push(Block::Table(Table {
                    caption: format!(
                        "Cost per 1 000 requests and per million tokens by {what}, of all that was held and of what was used, at \
                         the load beside it"
                    ),
                    columns: columns(&[what], &numbers),
                    rows,
                    query: self.query(
                        "name, requests, requests_per_second, cost_per_1000_requests, used_cost_per_1000_requests, \
                         input_tokens, output_tokens, cost_per_million_tokens, used_cost_per_million_tokens",
                        dimension,
                    ),
                }));
            }
        }
        if blocks.is_empty() {
            let none = "No service with GPUs or CPUs on the bill counts its requests or tokens (roles latency.e2e, requests.count, \
                        input.tokens, output.tokens; docs/roles.md).";
            blocks.push(Block::Paragraph(none.to_owned()));
        }
        blocks
    }

    fn unit_cells(&self, row: &Row) -> Vec<Cell> {
        // What was done without anything on the bill has no cost of its own: not 0.
        let is_billed = !row.now.cost().is_zero();
        let money = |figure: Figure| match figure {
            Ok(money) if is_billed => Cell::Text(money.to_text(self.digits + 2)),
            _ => Cell::Unknown,
        };
        let [input, output] = row.now.tokens();
        vec![
            text(&row.name),
            number(row.now.requests(), 1.0, 0),
            number(row.unit.load.requests_per_second, 1.0, 2),
            money(row.unit.per_1000_requests),
            money(row.unit_used.per_1000_requests),
            number(input, 1e-6, 2),
            number(output, 1e-6, 2),
            money(row.unit.per_million_tokens),
            money(row.unit_used.per_million_tokens),
            number(row.unit.load.gpu_busy, 100.0, 1),
        ]
    }
}
