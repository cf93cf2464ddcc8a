//! Lines over time, as of the hours of a week.

use super::{Canvas, Caption, Svg, WIDTH, known, number, tick_step};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// One value per place; where there is none the line breaks.
    pub values: Vec<Option<f64>>,
}

/// Up to six lines over the same places.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What it is.
    pub caption: Caption,
    /// Unit of the values, at the axis.
    pub unit: String,
    /// Names under the axis: place and text.
    pub ticks: Vec<(usize, String)>,
    /// The lines; those after the sixth take its marks again.
    pub series: Vec<Series>,
}

/// A line upwards through the chart, as where something was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where, in places.
    pub place: f64,
    /// What is there.
    pub name: String,
}

const LEFT: f64 = 56.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 224.0;

impl LineChart {
    /// Draws it.
    pub fn to_svg(&self) -> Svg {
        self.to_svg_marked(&[])
    }

    /// Draws it with `marks`.
    pub fn to_svg_marked(&self, marks: &[Mark]) -> Svg {
        let legend_rows = self.series.len().div_ceil(3);
        let mut canvas = Canvas::new(&self.caption, BOTTOM + 34.0 + legend_rows as f64 * 20.0);
        canvas.patterns();
        let count = self.series.iter().map(|series| series.values.len()).max().unwrap_or(0);
        let values = || self.series.iter().flat_map(|series| &series.values).filter_map(|value| known(*value));
        let step = tick_step(values().fold(0.0, f64::max));
        let steps = (values().fold(0.0, f64::max) / step - 1e-9).ceil().max(1.0);
        let x = |place: f64| LEFT + place / (count.max(1) as f64) * (WIDTH - LEFT - 12.0);
        let y = |value: f64| BOTTOM - value / (step * steps) * (BOTTOM - TOP);
        let nothing: Vec<bool> = (0..count)
            .map(|at| self.series.iter().all(|series| series.values.get(at).copied().and_then(known).is_none()))
            .collect();
        for (from, to) in runs(&nothing) {
            canvas.no_data(x(from as f64), TOP, x(to as f64) - x(from as f64), BOTTOM - TOP);
        }
        canvas.text(4.0, 12.0, "dim", &self.unit);
        for at in 0..=(steps as u32) {
            let value = f64::from(at) * step;
            let (left, right, y) = (LEFT, WIDTH - 12.0, y(value));
            canvas.put(format_args!(
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n"
            ));
            canvas.text(LEFT - 6.0, y + 4.0, "end dim", &number(value));
        }
        for (place, name) in &self.ticks {
            let x = x(*place as f64);
            canvas.put(format_args!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP:.1}\" y2=\"{:.1}\"/>\n",
                BOTTOM + 5.0
            ));
            canvas.label(x + 4.0, BOTTOM + 16.0, "dim", name, 14);
        }
        for (at, series) in self.series.iter().enumerate() {
            let mut path = String::new();
            let mut last = None;
            for (place, value) in series.values.iter().enumerate() {
                let Some(value) = known(*value) else { continue };
                let (centre, height) = (x(place as f64 + 0.5), y(value));
                // A lone value is a short dash, for a path of one point draws nothing.
                path += &match last {
                    Some(before) if before + 1 == place => format!("L{centre:.1} {height:.1}"),
                    _ => format!("M{:.1} {height:.1}L{:.1} {height:.1}", centre - 0.8, centre + 0.8),
                };
                last = Some(place);
            }
            canvas.put(format_args!("<path class=\"ln s{}\" d=\"{path}\"/>\n", at % 6));
            let (left, top) = (LEFT + (at % 3) as f64 * 215.0, BOTTOM + 38.0 + (at / 3) as f64 * 20.0);
            canvas.put(format_args!("<path class=\"ln s{}\" d=\"M{left:.1} {top:.1}h34\"/>\n", at % 6));
            let name = if last.is_some() { series.name.clone() } else { format!("{} (no data)", series.name) };
            canvas.label(left + 42.0, top + 4.0, "", &name, 26);
        }
        for (at, mark) in marks.iter().enumerate() {
            let x = x(mark.place);
            canvas.put(format_args!(
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP:.1}\" y2=\"{BOTTOM:.1}\"/>\n"
            ));
            // Several in one place stand below each other.
            canvas.label(x + 4.0, TOP + 12.0 + (at % 6) as f64 * 14.0, "bold", &mark.name, 34);
        }
        if nothing.contains(&true) {
            canvas.text(WIDTH - 12.0, 12.0, "end dim", "hatched: no data");
        }
        canvas.finish()
    }
}

/// Ranges of places that are true.
fn runs(flags: &[bool]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for at in (0..flags.len()).filter(|at| flags[*at]) {
        match found.last_mut() {
            Some((_, to)) if *to == at => *to = at + 1,
            _ => found.push((at, at + 1)),
        }
    }
    found
}
