//! Tables of use: the waterfall, cards, hosts.

use super::{Writer, charts, columns, number, number_or_dash, text};
use crate::{
    allocation::UNALLOCATED,
    page::{Block, Cell, Table},
    report::{json::rung_name, labels::Dimension, rows::Row},
    waterfall::Step,
};

const GIB: f64 = 1.0 / 1_073_741_824.0;
/// Cards in the table of those least used.
const LEAST_USED: usize = 20;

impl Writer<'_> {
    /// Chart and table of the steps.
    pub(super) fn waterfall(&self) -> Vec<Block> {
        let waterfall = &self.fleet.week.waterfall;
        let Some(paid) = waterfall.steps[0].hours.filter(|hours| *hours > 0.0) else { return vec![] };
        let what = |step: &Step| match rung_name(step.rung) {
            "paid" => "paid",
            "allocated" => "allocated",
            "held" => "held (memory)",
            "busy" => "busy (duty)",
            _ => "productive (SM)",
        };
        let cells = |step: &Step| {
            vec![
                text(what(step)),
                number(step.hours, 1.0, 1),
                number(step.hours.map(|hours| hours / paid), 100.0, 1),
                self.money(step.cost),
                number(step.coverage, 100.0, 1),
                number_or_dash(waterfall.lost_hours(step.rung), 1.0, 1),
            ]
        };
        let unseen = vec![
            text("without telemetry"),
            number(Some(waterfall.no_telemetry_hours), 1.0, 1),
            number(Some(waterfall.no_telemetry_hours / paid), 100.0, 1),
            self.money(waterfall.no_telemetry_cost),
            text("–"),
            text("–"),
        ];
        let table = Table {
            caption: "Below full coverage a step is at least what is shown".to_owned(),
            columns: columns(&["step"], &["GPU-hours", "of paid %", "cost", "coverage %", "lost here"]),
            rows: waterfall.steps.iter().map(cells).chain([unseen]).collect(),
            query: Some(format!(
                "SELECT * FROM gpu_waterfall({}) WHERE {}simulated",
                self.window_arguments(),
                self.not()
            )),
        };
        vec![Block::Figure(charts::waterfall(self)), Block::Table(table)]
    }

    /// The course of the week.
    pub(super) fn hourly(&self) -> Vec<Block> {
        let has_any = self.fleet.week.hourly.iter().any(Option::is_some);
        if has_any { vec![Block::Figure(charts::hourly(self))] } else { vec![] }
    }

    /// Cards that were measured and did least.
    pub(super) fn least_used(&self) -> Vec<Block> {
        let mut cards: Vec<(f64, &Row)> =
            self.rows(Dimension::Gpu).filter_map(|row| Some((row.now.gpu.average?, row))).collect();
        cards.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.name.cmp(&b.1.name)));
        if cards.is_empty() {
            return vec![];
        }
        let cells = |(average, row): &(f64, &Row)| {
            vec![
                text(&row.name),
                number(Some(*average), 100.0, 1),
                number(row.now.gpu.p95, 100.0, 1),
                number(row.now.gpu.peak, 100.0, 1),
                number(row.now.gpu_memory.average, GIB, 1),
                number(row.now.gpu_memory.peak, GIB, 1),
                self.money(row.now.gpu_cost.total()),
                number(row.now.coverage(), 100.0, 1),
            ]
        };
        let table = Table {
            caption: format!(
                "The {} least used of {} GPUs that were measured",
                cards.len().min(LEAST_USED),
                cards.len()
            ),
            columns: columns(&["GPU"], &["avg %", "p95 %", "peak %", "GiB avg", "GiB peak", "cost", "measured %"]),
            rows: cards.iter().take(LEAST_USED).map(cells).collect(),
            query: self.query(
                "name, gpu_utilization_average, gpu_utilization_p95, gpu_utilization_peak, gpu_memory_bytes_average, \
                 gpu_memory_bytes_peak, gpu_cost, coverage",
                Dimension::Gpu,
            ),
        };
        vec![Block::Table(table)]
    }

    /// What training jobs had and used; nothing where none names itself.
    pub(super) fn jobs(&self) -> Vec<Block> {
        let is_job = |row: &&Row| row.name != UNALLOCATED;
        let cells = |row: &Row| {
            vec![
                text(&row.name),
                text(&row.now.gpu_count.to_string()),
                number(Some(row.now.gpu_hours), 1.0, 1),
                number_or_dash(row.now.busy(), 1.0, 1),
                number_or_dash(row.now.gpu.average, 100.0, 1),
                number_or_dash(row.now.gpu.p95, 100.0, 1),
                self.money(row.cost),
                number_or_dash(row.now.energy_kwh, 1.0, 1),
                number_or_dash(row.now.coverage(), 100.0, 1),
            ]
        };
        let rows: Vec<Vec<Cell>> = self.rows(Dimension::Job).filter(is_job).map(cells).collect();
        if rows.is_empty() {
            return vec![];
        }
        let numbers = ["GPUs", "GPU-h", "busy h", "duty %", "p95 %", "cost", "kWh", "measured %"];
        let table = Table {
            caption: "What each job had, how much of it was busy where that was measured, and what it cost with CPU and memory".to_owned(),
            columns: columns(&["job"], &numbers),
            rows,
            query: self.query(
                "name, gpu_count, gpu_hours, gpu_hours_busy, gpu_utilization_average, gpu_utilization_p95, cost, energy_kwh, coverage",
                Dimension::Job,
            ),
        };
        vec![Block::Table(table)]
    }

    /// CPU and memory of hosts.
    pub(super) fn hosts(&self) -> Vec<Block> {
        let cells = |row: &Row| -> Option<Vec<Cell>> {
            let (cpu, memory) = (row.now.cpu, row.now.memory);
            (cpu.count + memory.count > 0).then(|| {
                vec![
                    text(&row.name),
                    number(cpu.average, 100.0, 1),
                    number(cpu.p95, 100.0, 1),
                    number(cpu.peak, 100.0, 1),
                    number(memory.average, GIB, 1),
                    number(memory.p95, GIB, 1),
                    number(memory.peak, GIB, 1),
                    self.money(row.now.other_cost.total().filter(|_| self.report.currency().is_some())),
                ]
            })
        };
        let rows: Vec<Vec<Cell>> = self.rows(Dimension::Host).filter_map(cells).collect();
        if rows.is_empty() {
            return vec![];
        }
        let numbers = ["CPU avg %", "p95 %", "peak %", "GiB avg", "p95", "peak", "cost"];
        let table = Table {
            caption: "CPU and memory of hosts, and what both cost".to_owned(),
            columns: columns(&["host"], &numbers),
            rows,
            query: self.query(
                "name, cpu_utilization_average, cpu_utilization_p95, cpu_utilization_peak, memory_bytes_average, \
                 memory_bytes_p95, memory_bytes_peak, other_cost",
                Dimension::Host,
            ),
        };
        vec![Block::Table(table)]
    }
}
