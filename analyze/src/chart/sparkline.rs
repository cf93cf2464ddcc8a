//! A line as large as a word, for a cell of a table.

use super::{Svg, known};
use crate::format::escape_html;

/// `values` from left to right on a scale from 0 to the largest; gaps are gaps. `title` says what it shows.
pub fn sparkline(title: &str, values: &[Option<f64>]) -> Svg {
    let largest = values.iter().filter_map(|value| known(*value)).fold(0.0, f64::max);
    let step = 120.0 / values.len().max(1) as f64;
    let (mut path, mut last) = (String::new(), None);
    for (at, value) in values.iter().enumerate() {
        let Some(value) = known(*value) else { continue };
        let x = (at as f64 + 0.5) * step;
        let y = if largest > 0.0 { 21.0 - value / largest * 18.0 } else { 21.0 };
        path += &match last {
            Some(before) if before + 1 == at => format!("L{x:.1} {y:.1}"),
            _ => format!("M{:.1} {y:.1}L{:.1} {y:.1}", x - 0.8, x + 0.8),
        };
        last = Some(at);
    }
    let none = if last.is_none() { ": no data" } else { "" };
    Svg(format!(
        "<svg class=\"spark\" viewBox=\"0 0 120 24\" role=\"img\" aria-label=\"{title}{none}\"><title>{title}{none}</title>\
         <path class=\"ln s0\" d=\"{path}\"/></svg>",
        title = escape_html(title)
    ))
}
