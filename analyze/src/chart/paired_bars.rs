//! Two distributions over the same bins, one bar of each below the other.

use super::{Canvas, Caption, Svg, WIDTH, known, number};

/// Rows of two bars on one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedBars {
    /// What it is.
    pub caption: Caption,
    /// Unit of the values, after each.
    pub unit: String,
    /// Names of the two.
    pub names: [String; 2],
    /// Name of each row and its two values; one that is unknown has no bar.
    pub rows: Vec<(String, [Option<f64>; 2])>,
}

const LEFT: f64 = 200.0;
const RIGHT: f64 = WIDTH - 90.0;
const TOP: f64 = 44.0;
/// Height of a bar, and of a row of two.
const BAR: f64 = 11.0;
const ROW: f64 = 30.0;

impl PairedBars {
    /// Draws it.
    pub fn to_svg(&self) -> Svg {
        let mut canvas = Canvas::new(&self.caption, TOP + self.rows.len() as f64 * ROW + 6.0);
        canvas.patterns();
        for (at, name) in self.names.iter().enumerate() {
            let x = 4.0 + at as f64 * 240.0;
            canvas.bar(at, x, 20.0, 18.0, 12.0);
            canvas.label(x + 24.0, 31.0, "", name, 30);
        }
        let values = self.rows.iter().flat_map(|(_, pair)| pair).filter_map(|value| known(*value));
        let largest = values.fold(0.0, f64::max);
        for (row, (name, pair)) in self.rows.iter().enumerate() {
            let top = TOP + row as f64 * ROW;
            canvas.label(4.0, top + 15.0, "", name, 28);
            for (at, value) in pair.iter().enumerate() {
                let y = top + at as f64 * (BAR + 1.0);
                let Some(value) = known(*value) else {
                    canvas.text(LEFT + 6.0, y + 10.0, "dim", "unknown");
                    continue;
                };
                let width = if largest > 0.0 { value / largest * (RIGHT - LEFT) } else { 0.0 };
                if width > 0.0 {
                    canvas.bar(at, LEFT, y, width, BAR);
                }
                canvas.text(LEFT + width + 6.0, y + 10.0, "dim", &format!("{} {}", number(value), self.unit));
            }
        }
        canvas.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_share_a_scale_and_unknown_is_a_word() {
        let chart = PairedBars {
            caption: Caption { id: "p".into(), title: "t".into(), description: "d".into(), simulated: true },
            unit: "%".into(),
            names: ["reference".into(), "current".into()],
            rows: vec![("a<b".into(), [Some(50.0), Some(25.0)]), ("c".into(), [None, Some(0.0)])],
        };
        let svg = chart.to_svg();
        let svg = svg.as_str();
        assert!(svg.contains("width=\"430.0\"") && svg.contains("width=\"215.0\""), "{svg}");
        assert!(svg.contains("a&lt;b") && svg.contains("unknown") && svg.contains("SIMULATED") && svg.contains("0 %"));
    }
}
