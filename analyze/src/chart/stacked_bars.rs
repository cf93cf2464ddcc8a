//! Bars of parts, as of the states of GPUs.

use super::{Canvas, Caption, Svg, WIDTH, known, number};

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// One value per part; none where it is unknown, and then so is the total.
    pub parts: Vec<Option<f64>>,
}

/// Horizontal bars on one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct StackedBars {
    /// What it is.
    pub caption: Caption,
    /// Unit of the values, after each total.
    pub unit: String,
    /// Names of the parts, at most six told apart.
    pub parts: Vec<String>,
    /// The bars, from the top.
    pub bars: Vec<Bar>,
}

const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - 130.0;

impl StackedBars {
    /// Draws it.
    pub fn to_svg(&self) -> Svg {
        let legend_rows = self.parts.len().div_ceil(4) as f64;
        let top = 22.0 + legend_rows * 20.0;
        let mut canvas = Canvas::new(&self.caption, top + self.bars.len() as f64 * 28.0 + 6.0);
        canvas.patterns();
        for (at, part) in self.parts.iter().enumerate() {
            let (x, y) = (4.0 + (at % 4) as f64 * 178.0, 22.0 + (at / 4) as f64 * 20.0);
            canvas.bar(at, x, y, 18.0, 12.0);
            canvas.label(x + 24.0, y + 11.0, "", part, 22);
        }
        let total = |bar: &Bar| bar.parts.iter().filter_map(|part| known(*part)).sum::<f64>();
        let largest = self.bars.iter().map(total).fold(0.0, f64::max);
        for (at, bar) in self.bars.iter().enumerate() {
            let y = top + 4.0 + at as f64 * 28.0;
            canvas.label(4.0, y + 14.0, "", &bar.name, 26);
            let mut x = LEFT;
            for (index, part) in bar.parts.iter().enumerate() {
                let Some(value) = known(*part).filter(|value| *value > 0.0) else { continue };
                let width = value / largest * (RIGHT - LEFT);
                canvas.bar(index, x, y, width, 20.0);
                x += width;
            }
            let unknown = bar.parts.iter().filter(|part| known(**part).is_none()).count();
            let text = match (unknown, bar.parts.len()) {
                (0, 1..) => format!("{} {}", number(total(bar)), self.unit),
                (some, all) if some < all => format!("≥ {} {}, rest unknown", number(total(bar)), self.unit),
                _ => "unknown".to_owned(),
            };
            if unknown > 0 {
                canvas.rect("gap", x, y, 18.0, 20.0);
                x += 24.0;
            }
            canvas.label(x + 6.0, y + 14.0, "", &text, 26);
        }
        canvas.finish()
    }
}
