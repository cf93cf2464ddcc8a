//! Charts as SVG inside a page: no script, nothing fetched, the same bytes for the same input.
//!
//! Each has a title and a description for readers who do not see it, tells its parts apart by dash, hatch or printed value
//! besides colour, draws what is unknown as a gap or the word, and says so where its data is simulated. Drawn by hand: a
//! charting crate brings rasterisers and fonts, and has neither gaps, `desc` nor the page's light and dark colours.

mod heat_map;
mod line;
mod paired_bars;
pub(crate) mod palette;
mod sparkline;
mod stacked_bars;
#[cfg(test)]
mod tests;
mod waterfall;

use std::fmt::Write as _;

pub use heat_map::{HeatMap, HeatRow};
pub use line::{LineChart, Mark, Series};
pub use paired_bars::PairedBars;
pub use sparkline::sparkline;
pub use stacked_bars::{Bar, StackedBars};
pub use waterfall::{Rung, Waterfall};

use crate::format::{escape_html, shorten};

/// Width of all charts in units of the view box; a unit is a pixel on a wide screen.
const WIDTH: f64 = 720.0;

/// Styles of what is drawn here, over the variables of the palette.
pub(crate) const STYLE: &str = "\
svg.chart{display:block;width:100%;min-width:600px;max-width:60rem;height:auto}\
svg.chart text{fill:var(--fg);font:12px system-ui,sans-serif}svg.chart .dim{fill:var(--dim)}\
svg.chart .mid{text-anchor:middle}svg.chart .end{text-anchor:end}svg.chart .bold{font-weight:600}\
svg.chart .sim{fill:var(--warn);font-weight:600}svg .grid{stroke:var(--line)}svg .mark{stroke:var(--fg);stroke-width:1.4}\
svg .gap{fill:none;stroke:var(--dim);stroke-dasharray:3 3}svg .edge{stroke:var(--bg)}\
svg .ln{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
svg .s0{stroke:var(--s0)}svg .s1{stroke:var(--s1);stroke-dasharray:7 4}svg .s2{stroke:var(--s2);stroke-dasharray:2 4}\
svg .s3{stroke:var(--s3);stroke-dasharray:10 3 2 3}svg .s4{stroke:var(--s4);stroke-dasharray:1 5}svg .s5{stroke:var(--s5);stroke-dasharray:14 5}\
svg .f0{fill:var(--s0)}svg .f1{fill:var(--s1)}svg .f2{fill:var(--s2)}svg .f3{fill:var(--s3)}svg .f4{fill:var(--s4)}svg .f5{fill:var(--s5)}\
svg .hatch{stroke:var(--bg);stroke-width:1.6;fill:none}svg .nodata{stroke:var(--dim);stroke-width:1;fill:none}\
svg .c0{fill:var(--h0)}svg .c1{fill:var(--h1)}svg .c2{fill:var(--h2)}svg .c3{fill:var(--h3)}svg .c4{fill:var(--h4)}\
svg.chart .x0{fill:var(--t0)}svg.chart .x1{fill:var(--t1)}svg.chart .x2{fill:var(--t2)}svg.chart .x3{fill:var(--t3)}svg.chart .x4{fill:var(--t4)}\
svg.spark{width:7.5rem;height:1.5rem;vertical-align:middle}";

/// A finished drawing; only charts make one, so a page can put it in unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svg(String);

impl Svg {
    /// The element.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What every chart says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Unique in its page; letters, digits and `-`, others are replaced.
    pub id: String,
    /// What is shown.
    pub title: String,
    /// What it says, for readers who do not see it.
    pub description: String,
    /// Whether the data is simulated; then the chart is labelled so.
    pub simulated: bool,
}

/// A drawing in the making.
struct Canvas {
    svg: String,
    id: String,
}

impl Canvas {
    /// Begins an image of [`WIDTH`] × `height`.
    fn new(caption: &Caption, height: f64) -> Self {
        let id: String =
            caption.id.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        let mark = if caption.simulated { " (simulated data)" } else { "" };
        let svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{}{mark}</title><desc id=\"{id}-desc\">{}</desc>\n",
            escape_html(&caption.title),
            escape_html(&caption.description),
        );
        let mut canvas = Self { svg, id };
        if caption.simulated {
            // At the left, which a narrow screen shows without scrolling.
            canvas.text(110.0, 12.0, "sim", "SIMULATED");
        }
        canvas
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _infallible = self.svg.write_fmt(arguments);
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.put(format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape_html(text)));
    }

    /// `text` cut to `max` characters, with all of it in its tooltip.
    fn label(&mut self, x: f64, y: f64, class: &str, text: &str, max: usize) {
        let cut = shorten(text, max);
        if cut == text {
            return self.text(x, y, class, text);
        }
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"><title>{}</title>{}</text>\n",
            escape_html(text),
            escape_html(&cut)
        ));
    }

    fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>\n"
        ));
    }

    /// A bar of mark `index`: its colour and, from the second on, its hatch.
    fn bar(&mut self, index: usize, x: f64, y: f64, width: f64, height: f64) {
        self.rect(&format!("f{} edge", index % 6), x, y, width, height);
        if !index.is_multiple_of(6) {
            let pattern = format!("{}-p{}", self.id, index % 6);
            self.put(format_args!(
                "<rect fill=\"url(#{pattern})\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>\n"
            ));
        }
    }

    /// An area without data.
    fn no_data(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let id = self.id.clone();
        self.put(format_args!(
            "<rect fill=\"url(#{id}-none)\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>\n"
        ));
    }

    /// The hatches of [`Self::bar`] and [`Self::no_data`].
    fn patterns(&mut self) {
        let id = self.id.clone();
        let hatches = [
            ("p1", 8, "hatch", "M0 8L8 0"),
            ("p2", 8, "hatch", "M0 0L8 8"),
            ("p3", 6, "hatch", "M3 0V6"),
            ("p4", 6, "hatch", "M0 3H6"),
            ("p5", 8, "hatch", "M0 0L8 8M0 8L8 0"),
            ("none", 8, "nodata", "M0 8L8 0"),
        ];
        self.svg += "<defs>";
        for (name, size, class, path) in hatches {
            self.put(format_args!(
                "<pattern id=\"{id}-{name}\" width=\"{size}\" height=\"{size}\" patternUnits=\"userSpaceOnUse\">\
                 <path class=\"{class}\" d=\"{path}\"/></pattern>"
            ));
        }
        self.svg += "</defs>\n";
    }

    fn finish(mut self) -> Svg {
        self.svg += "</svg>\n";
        Svg(self.svg)
    }
}

/// A finite, non-negative value; anything else is unknown.
fn known(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

/// A step of 1, 2 or 5 × 10ⁿ by which `max` is reached in at most five.
fn tick_step(max: f64) -> f64 {
    if !(max.is_finite() && max > 0.0) {
        return 1.0;
    }
    let raw = max / 5.0;
    let power = 10_f64.powi(raw.log10().floor() as i32);
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= raw * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// `12 345`, `12.3` or `0.12`: three digits or all before the point, in groups of three.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m == 0.0 || m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    // Nothing is no less than nothing: an empty sum is -0.0.
    let is_zero = text.bytes().all(|byte| !byte.is_ascii_digit() || byte == b'0');
    let mut grouped = String::from(if is_zero { "" } else { sign });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            // A narrow space that no line breaks at.
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}
