//! The report as Markdown, and as plain tables at most about 120 columns wide.

use super::{Dimension, UsageRow, WeeklyReport};
use crate::{
    format::{markdown_table, shorten, text_table},
    window::time_text,
};

const GPU_HEADER: [&str; 11] =
    ["name", "avg %", "p95 %", "peak %", "GiB avg", "GiB max", "GPU-h", "cost", "Δ avg %", "Δ GPU-h", "cover %"];
const CPU_HEADER: [&str; 9] = ["name", "avg %", "p95 %", "peak %", "GiB avg", "GiB p95", "GiB max", "cost", "Δ avg %"];

type Table = fn(&[&str], usize, &[Vec<String>]) -> String;

fn scaled(value: Option<f64>, scale: f64) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{:.1}", value * scale))
}

const GIB: f64 = 1.0 / 1_073_741_824.0;

fn change(value: Option<f64>, scale: f64) -> String {
    value.map_or_else(|| "no data".into(), |value| format!("{:+.1}", value * scale))
}

pub(super) fn cost(value: Option<f64>) -> String {
    value.map_or_else(|| "unknown".into(), |value| format!("{value:.2}"))
}

pub(super) fn has_gpu(row: &&UsageRow) -> bool {
    row.usage.gpu_utilization.sample_count + row.usage.gpu_memory.sample_count > 0
}

pub(super) fn has_cpu(row: &&UsageRow) -> bool {
    row.usage.cpu_utilization.sample_count + row.usage.memory.sample_count > 0
}

/// Longest name in a table for a terminal.
const TERMINAL_NAME_WIDTH: usize = 18;

fn name(row: &UsageRow, width: usize) -> String {
    let mark = if row.simulated { "simulated " } else { "" };
    format!("{mark}{}", shorten(&row.name, width))
}

fn gpu_cells(row: &UsageRow, name_width: usize) -> Vec<String> {
    let usage = &row.usage;
    vec![
        name(row, name_width),
        scaled(usage.gpu_utilization.average, 100.0),
        scaled(usage.gpu_utilization.p95, 100.0),
        scaled(usage.gpu_utilization.peak, 100.0),
        scaled(usage.gpu_memory.average, GIB),
        scaled(usage.gpu_memory.peak, GIB),
        format!("{:.1}", usage.gpu_hours),
        cost(usage.gpu_cost),
        change(row.gpu_utilization_change(), 100.0),
        change(row.before.as_ref().map(|before| usage.gpu_hours - before.gpu_hours), 1.0),
        scaled(usage.coverage, 100.0),
    ]
}

fn cpu_cells(row: &UsageRow, name_width: usize) -> Vec<String> {
    let usage = &row.usage;
    let before = row.before.as_ref().and_then(|before| before.cpu_utilization.average);
    let difference = usage.cpu_utilization.average.zip(before).map(|(now, before)| now - before);
    vec![
        name(row, name_width),
        scaled(usage.cpu_utilization.average, 100.0),
        scaled(usage.cpu_utilization.p95, 100.0),
        scaled(usage.cpu_utilization.peak, 100.0),
        scaled(usage.memory.average, GIB),
        scaled(usage.memory.p95, GIB),
        scaled(usage.memory.peak, GIB),
        if row.dimension == Dimension::Host { cost(usage.cpu_cost) } else { "–".into() },
        change(difference, 100.0),
    ]
}

/// Title, column names and rows of one table.
pub(super) type Section = (String, Vec<&'static str>, Vec<Vec<String>>);

/// Sections of the report: a heading, a header, and cells; real and simulated rows in sections of their own.
/// Names are cut to `name_width` characters.
pub(super) fn sections(report: &WeeklyReport, name_width: usize) -> Vec<Section> {
    let mut sections = vec![];
    for simulated in [false, true] {
        let mark = if simulated { " (SIMULATED)" } else { "" };
        for dimension in [Dimension::Service, Dimension::Model, Dimension::Host, Dimension::Gpu] {
            let rows =
                || report.rows.iter().filter(move |row| row.simulated == simulated && row.dimension == dimension);
            let label = match dimension {
                Dimension::Gpu => "GPU".to_owned(),
                other => other.as_str().to_owned(),
            };
            let gpu: Vec<Vec<String>> = rows().filter(has_gpu).map(|row| gpu_cells(row, name_width)).collect();
            if !gpu.is_empty() {
                let heading = format!("GPUs by {label}{mark}").replace("GPUs by GPU", "Each GPU");
                sections.push((heading, GPU_HEADER.to_vec(), gpu));
            }
            let cpu: Vec<Vec<String>> = rows().filter(has_cpu).map(|row| cpu_cells(row, name_width)).collect();
            if !cpu.is_empty() {
                sections.push((format!("CPU and memory by {label}{mark}"), CPU_HEADER.to_vec(), cpu));
            }
        }
    }
    sections
}

pub(super) fn preamble(report: &WeeklyReport) -> Vec<String> {
    let window = report.request.window;
    let mut lines = vec![
        format!("{} to {}, against the same length before.", time_text(window.start_us), time_text(window.end_us)),
        format!("Cost in {}; \"unknown\" means a price is missing.", report.currency()),
        format!(
            "{} samples read. GPU-h are hours with telemetry; cover % is samples received over expected.",
            report.row_count
        ),
    ];
    if report.data != "real" {
        lines.push(
            "Rows marked simulated come from a generator, not from machines; they are never added to real rows.".into(),
        );
    }
    if report.rows.is_empty() {
        lines.push("No telemetry in this window.".into());
    }
    lines
}

impl WeeklyReport {
    fn render(&self, heading: &str, name_width: usize, table: Table) -> String {
        let mut text = format!("{}{}\n\n{}\n", heading, self.title(), preamble(self).join("\n\n"));
        let section_heading = heading.replace("# ", "## ");
        for (name, header, rows) in sections(self, name_width) {
            text += &format!("\n{section_heading}{name}\n\n");
            text += &table(&header, 1, &rows);
        }
        text
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        self.render("# ", usize::MAX, markdown_table)
    }

    /// The report as plain tables for a terminal.
    pub fn to_text(&self) -> String {
        self.render("", TERMINAL_NAME_WIDTH, text_table)
    }
}
