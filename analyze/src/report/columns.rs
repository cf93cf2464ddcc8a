//! The columns of a row, the same in the result table, the table function, CSV and JSON.

use std::sync::Arc;

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::{WeeklyReport, rows::Row};
use crate::{error::Result, format::csv_cell, money::Money, result_table::ResultTable, unit_cost::Figure};

/// A number of a row; none is unknown.
type Number = fn(&Row) -> Option<f64>;

fn units(money: Option<Money>) -> Option<f64> {
    money.map(Money::units)
}

fn unit(figure: Figure) -> Option<f64> {
    figure.ok().map(Money::units)
}

/// Name, which says the unit, and value.
pub(super) const NUMBERS: [(&str, Number); 49] = [
    ("gpu_utilization_average", |row| row.now.gpu.average),
    ("gpu_utilization_p95", |row| row.now.gpu.p95),
    ("gpu_utilization_peak", |row| row.now.gpu.peak),
    ("gpu_memory_bytes_average", |row| row.now.gpu_memory.average),
    ("gpu_memory_bytes_p95", |row| row.now.gpu_memory.p95),
    ("gpu_memory_bytes_peak", |row| row.now.gpu_memory.peak),
    ("cpu_utilization_average", |row| row.now.cpu.average),
    ("cpu_utilization_p95", |row| row.now.cpu.p95),
    ("cpu_utilization_peak", |row| row.now.cpu.peak),
    ("memory_bytes_average", |row| row.now.memory.average),
    ("memory_bytes_p95", |row| row.now.memory.p95),
    ("memory_bytes_peak", |row| row.now.memory.peak),
    ("gpu_count", |row| Some(row.now.gpu_count as f64)),
    ("gpu_hours", |row| Some(row.now.gpu_hours)),
    ("gpu_hours_measured", |row| Some(row.now.measured_gpu_hours)),
    ("gpu_hours_busy", |row| row.now.busy()),
    ("coverage", |row| row.now.coverage()),
    ("cost", |row| units(row.cost)),
    ("cost_exact", |row| units(row.now.cost().total())),
    ("cost_list", |row| units(row.now.cost().list_total())),
    ("cost_known_part", |row| Some(row.now.cost().effective.units())),
    ("unpriced_unit_hours", |row| Some(row.now.cost().unpriced_hours)),
    ("gpu_cost", |row| units(row.now.gpu_cost.total())),
    ("other_cost", |row| units(row.now.other_cost.total())),
    ("requests", |row| row.now.requests()),
    ("input_tokens", |row| row.now.tokens()[0]),
    ("output_tokens", |row| row.now.tokens()[1]),
    ("requests_per_second", |row| row.unit.load.requests_per_second),
    ("tokens_per_second", |row| row.unit.load.tokens_per_second),
    ("cost_per_1000_requests", |row| unit(row.unit.per_1000_requests)),
    ("cost_per_million_tokens", |row| unit(row.unit.per_million_tokens)),
    ("cost_per_million_input_tokens", |row| unit(row.unit.per_million_input_tokens)),
    ("cost_per_million_output_tokens", |row| unit(row.unit.per_million_output_tokens)),
    ("used_cost_per_1000_requests", |row| unit(row.unit_used.per_1000_requests)),
    ("used_cost_per_million_tokens", |row| unit(row.unit_used.per_million_tokens)),
    ("energy_kwh", |row| row.now.energy_kwh),
    ("energy_gpu_hours", |row| Some(row.now.energy_hours)),
    ("carbon_kg", |row| row.now.carbon_g.map(|grams| grams / 1e3)),
    ("energy_cost", |row| units(row.now.energy_cost)),
    ("gpu_utilization_average_before", |row| row.before.as_ref()?.gpu.average),
    ("gpu_hours_before", |row| Some(row.before.as_ref()?.gpu_hours)),
    ("cost_before", |row| units(row.before.as_ref()?.cost().total())),
    ("requests_before", |row| row.before.as_ref()?.requests()),
    ("cost_change", |row| units(row.cost_change())),
    ("gpu_cost_change", |row| units(Some(row.change.as_ref().ok()?.difference))),
    ("change_volume", |row| units(Some(row.change.as_ref().ok()?.volume))),
    ("change_utilisation", |row| units(row.change.as_ref().ok()?.utilisation)),
    ("change_mix", |row| units(Some(row.change.as_ref().ok()?.mix))),
    ("change_price", |row| units(Some(row.change.as_ref().ok()?.price))),
];

fn data(row: &Row) -> &'static str {
    if row.simulated { "simulated" } else { "real" }
}

impl WeeklyReport {
    /// The rows as CSV (RFC 4180). What is unknown is empty; `data` says whether a row is simulated.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("window_from,window_to,data,dimension,name,currency");
        for (name, _) in NUMBERS {
            text.push(',');
            text += name;
        }
        text += "\r\n";
        let time = |time_us| {
            let time = chrono::DateTime::from_timestamp_micros(time_us);
            time.map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        };
        let (from, to) = (time(self.request.window.start_us), time(self.request.window.end_us));
        for row in self.rows() {
            let texts = [&from, &to, data(row), row.dimension.as_str(), &row.name, self.currency().unwrap_or_default()];
            let mut cells: Vec<String> = texts.iter().map(|text| csv_cell(text)).collect();
            cells.extend(NUMBERS.iter().map(|(_, of)| of(row).map_or_else(String::new, |value| value.to_string())));
            text += &cells.join(",");
            text += "\r\n";
        }
        text
    }

    /// The rows as a batch; `with_inputs` adds what they were made of.
    pub(super) fn to_batch(&self, with_inputs: bool) -> Result<RecordBatch> {
        let rows = || self.rows();
        let mut table = ResultTable::new(self.request.now_us, rows().count());
        table
            .time("window_from", self.request.window.start_us)
            .time("window_to", self.request.window.end_us)
            .flags("simulated", rows().map(|row| row.simulated))
            .texts("dimension", rows().map(|row| Some(row.dimension.as_str().to_owned())))
            .texts("name", rows().map(|row| Some(row.name.clone())))
            .texts("currency", rows().map(|_| self.currency().map(str::to_owned)));
        for (name, of) in NUMBERS {
            table.numbers(name, rows().map(of));
        }
        if with_inputs {
            let queries: Vec<String> =
                self.queries.iter().map(|query| format!("-- {}\n{}", query.what, query.sql)).collect();
            table
                .text("time_zone", self.request.zone.name())
                .text("parameters", &self.parameters().to_string())
                .text("query", &queries.join(";\n"));
        }
        table.finish()
    }

    /// Columns of the table function.
    pub(super) fn schema() -> Result<SchemaRef> {
        let empty = Self {
            request: super::WeeklyRequest {
                window: crate::Window { start_us: 0, end_us: 1 },
                zone: chrono_tz::UTC,
                prices: None,
                holidays: vec![],
                now_us: 0,
            },
            before: crate::Window { start_us: -1, end_us: 0 },
            fleets: vec![],
            row_count: 0,
            queries: vec![],
            table_versions: vec![],
        };
        Ok(Arc::clone(empty.to_batch(false)?.schema_ref()))
    }
}
