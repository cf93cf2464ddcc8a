//! The report as one HTML file: no script, nothing fetched, charts as inline SVG, light and dark.

use std::fmt::Write as _;

use super::{
    Dimension, HourlyPoint, WeeklyReport,
    markdown::{preamble, sections},
};
use crate::format::escape_html;

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1d2733;--dim:#5b6775;--line:#d5dbe1;--bg:#fff;--a:#1769aa;--b:#b5541c}\
@media(prefers-color-scheme:dark){:root{--fg:#e3e8ee;--dim:#9aa7b4;--line:#39434e;--bg:#14191f;--a:#6db3f2;--b:#f0a56a}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--line);text-align:right}\
th:first-child,td:first-child{text-align:left}.scroll{overflow-x:auto}p{color:var(--dim)}\
svg{width:100%;height:auto;max-width:60rem}svg text{fill:var(--dim);font-size:11px}\
.gpu{stroke:var(--a);fill:none;stroke-width:1.5}.cpu{stroke:var(--b);fill:none;stroke-width:1.5}\
.bar{fill:var(--a)}.grid{stroke:var(--line)}.key-gpu{fill:var(--a)!important}.key-cpu{fill:var(--b)!important}";

/// SVG path through the hours that have a value; a missing hour breaks the line.
fn path(points: &[(i64, f64)], hours: f64) -> String {
    let mut text = String::new();
    let mut last = None;
    for (hour, value) in points {
        let command = if last == Some(hour - 1) { 'L' } else { 'M' };
        let (x, y) = (40.0 + (*hour as f64 + 0.5) / hours * 850.0, 170.0 - value.clamp(0.0, 1.0) * 150.0);
        // A lone hour is drawn as a dash, for a path of one point draws nothing.
        let _infallible = write!(text, "{command}{:.1} {y:.1}L{:.1} {y:.1}", x - 1.0, x + 1.0);
        last = Some(*hour);
    }
    text
}

fn hourly_chart(points: &[&HourlyPoint], hours: f64, mark: &str) -> String {
    let of = |value: fn(&HourlyPoint) -> Option<f64>| -> Vec<(i64, f64)> {
        points.iter().filter_map(|point| Some((point.hour, value(point)?))).collect()
    };
    let mut svg = format!(
        "<h2>Mean utilisation by hour{mark}</h2>\n<svg viewBox=\"0 0 900 200\" role=\"img\" \
         aria-label=\"Mean GPU and CPU utilisation by hour\">"
    );
    for step in 0..=4 {
        let y = 170.0 - f64::from(step) * 37.5;
        let _infallible = write!(
            svg,
            "<line class=\"grid\" x1=\"40\" x2=\"890\" y1=\"{y}\" y2=\"{y}\"/><text x=\"2\" y=\"{}\">{} %</text>",
            y + 4.0,
            step * 25
        );
    }
    let _infallible = writeln!(
        svg,
        "<path class=\"gpu\" d=\"{}\"/><path class=\"cpu\" d=\"{}\"/><text class=\"key-gpu\" x=\"40\" y=\"192\">GPU</text>\
         <text class=\"key-cpu\" x=\"80\" y=\"192\">CPU</text><text x=\"790\" y=\"192\">{hours:.0} h from start</text></svg>",
        path(&of(|point| point.gpu_utilization), hours),
        path(&of(|point| point.cpu_utilization), hours),
    );
    svg
}

fn cost_chart(report: &WeeklyReport, simulated: bool, mark: &str) -> String {
    let rows: Vec<_> = report
        .rows
        .iter()
        .filter(|row| row.simulated == simulated && row.dimension == Dimension::Service && row.usage.gpu_hours > 0.0)
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let largest = rows.iter().filter_map(|row| row.usage.gpu_cost).fold(0.0, f64::max);
    let mut svg = format!(
        "<h2>GPU cost by service ({}){mark}</h2>\n<svg viewBox=\"0 0 900 {}\" role=\"img\" aria-label=\"GPU cost by service\">",
        escape_html(report.currency()),
        rows.len() * 24 + 8
    );
    for (at, row) in rows.iter().enumerate() {
        let y = at * 24 + 4;
        let width = row.usage.gpu_cost.filter(|_| largest > 0.0).map_or(0.0, |cost| cost / largest * 560.0);
        let _infallible = write!(
            svg,
            "<text x=\"2\" y=\"{}\">{}</text><rect class=\"bar\" x=\"220\" y=\"{y}\" width=\"{width:.1}\" height=\"16\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            y + 13,
            escape_html(&crate::format::shorten(&row.name, 32)),
            226.0 + width,
            y + 13,
            super::markdown::cost(row.usage.gpu_cost),
        );
    }
    svg + "</svg>\n"
}

impl WeeklyReport {
    /// The report as one self-contained HTML file.
    pub fn to_html(&self) -> String {
        let title = escape_html(&self.title());
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title}</title>\n<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        );
        for line in preamble(self) {
            let _infallible = writeln!(html, "<p>{}</p>", escape_html(&line));
        }
        for simulated in [false, true] {
            let mark = if simulated { " – SIMULATED" } else { "" };
            let points: Vec<&HourlyPoint> = self.hourly.iter().filter(|point| point.simulated == simulated).collect();
            if !points.is_empty() {
                html += &hourly_chart(&points, self.request.window.hours(), mark);
            }
            html += &cost_chart(self, simulated, mark);
        }
        for (name, header, rows) in sections(self, usize::MAX) {
            let _infallible = write!(html, "<h2>{}</h2>\n<div class=\"scroll\"><table><tr>", escape_html(&name));
            for cell in header {
                let _infallible = write!(html, "<th>{}</th>", escape_html(cell));
            }
            html += "</tr>\n";
            for row in rows {
                html += "<tr>";
                for cell in row {
                    let _infallible = write!(html, "<td>{}</td>", escape_html(&cell));
                }
                html += "</tr>\n";
            }
            html += "</table></div>\n";
        }
        html + "</body></html>\n"
    }
}
