//! The report as CSV (RFC 4180): one line per row, ratios and bytes as they are.

use super::{Stats, WeeklyReport};
use crate::format::csv_cell;

impl WeeklyReport {
    /// The report as CSV. An unknown cost is the word `unknown`, a missing value is empty.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("data,dimension,name");
        for name in ["gpu_utilization", "gpu_memory_bytes", "cpu_utilization", "memory_bytes"] {
            text += &format!(",{name}_average,{name}_p95,{name}_peak");
        }
        text += ",gpu_count,gpu_hours,gpu_cost,cpu_cost,currency,coverage,gpu_utilization_average_before,\
                 gpu_hours_before,gpu_cost_before\r\n";
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let cost = |value: Option<f64>| value.map_or_else(|| "unknown".into(), |value| format!("{value:.2}"));
        let stats = |stats: Stats| [stats.average, stats.p95, stats.peak].map(number);
        for row in &self.rows {
            let (usage, before) = (&row.usage, row.before.as_ref());
            let mut cells = vec![
                if row.simulated { "simulated" } else { "real" }.to_owned(),
                row.dimension.as_str().to_owned(),
                row.name.clone(),
            ];
            for part in [usage.gpu_utilization, usage.gpu_memory, usage.cpu_utilization, usage.memory] {
                cells.extend(stats(part));
            }
            cells.extend([
                usage.gpu_count.to_string(),
                format!("{:.3}", usage.gpu_hours),
                cost(usage.gpu_cost),
                cost(usage.cpu_cost),
                self.currency().to_owned(),
                number(usage.coverage),
                number(before.and_then(|before| before.gpu_utilization.average)),
                before.map_or_else(|| "no data".into(), |before| format!("{:.3}", before.gpu_hours)),
                before.map_or_else(|| "no data".into(), |before| cost(before.gpu_cost)),
            ]);
            let cells: Vec<String> = cells.iter().map(|cell| csv_cell(cell)).collect();
            text += &cells.join(",");
            text += "\r\n";
        }
        text
    }
}
