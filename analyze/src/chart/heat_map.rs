//! Days by hours: when a fleet is busy.

use super::{Canvas, Caption, Svg, WIDTH, known, number};

/// One row of a heat map.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatRow {
    /// Its name, such as `Mon`.
    pub name: String,
    /// One value per column, 0 to [`HeatMap::max`]; none where there is no data.
    pub values: Vec<Option<f64>>,
}

/// Rows of cells with their values printed in them.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// What it is.
    pub caption: Caption,
    /// Unit of the values.
    pub unit: String,
    /// The value of the strongest colour; larger ones have the same.
    pub max: f64,
    /// Names over the columns.
    pub columns: Vec<String>,
    /// The rows, from the top.
    pub rows: Vec<HeatRow>,
}

const LEFT: f64 = 60.0;
const TOP: f64 = 44.0;
const CELL_HEIGHT: f64 = 26.0;

impl HeatMap {
    /// Draws it.
    pub fn to_svg(&self) -> Svg {
        let bottom = TOP + self.rows.len() as f64 * CELL_HEIGHT;
        let mut canvas = Canvas::new(&self.caption, bottom + 30.0);
        canvas.patterns();
        canvas.text(4.0, 12.0, "dim", &self.unit);
        let width = (WIDTH - LEFT - 4.0) / self.columns.len().max(1) as f64;
        for (column, name) in self.columns.iter().enumerate() {
            canvas.label(LEFT + (column as f64 + 0.5) * width, TOP - 8.0, "mid dim", name, 4);
        }
        for (at, row) in self.rows.iter().enumerate() {
            let y = TOP + at as f64 * CELL_HEIGHT;
            canvas.label(4.0, y + 17.0, "", &row.name, 8);
            for column in 0..self.columns.len() {
                let x = LEFT + column as f64 * width;
                let Some(value) = known(row.values.get(column).copied().flatten()) else {
                    canvas.no_data(x, y, width - 1.0, CELL_HEIGHT - 1.0);
                    continue;
                };
                let share = if self.max > 0.0 { (value / self.max).min(1.0) } else { 0.0 };
                let level = ((share * 5.0) as usize).min(4);
                canvas.rect(&format!("c{level}"), x, y, width - 1.0, CELL_HEIGHT - 1.0);
                canvas.text(x + (width - 1.0) / 2.0, y + 17.0, &format!("mid x{level}"), &short(value));
            }
        }
        canvas.text(
            LEFT,
            bottom + 20.0,
            "dim",
            &format!("0 to {} {} from pale to strong; hatched: no data", number(self.max), self.unit),
        );
        canvas.finish()
    }
}

/// At most four characters, for a cell is narrow.
fn short(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{:.0}M", v / 1e6),
        v if v >= 999.5 => format!("{:.0}k", v / 1e3),
        v if v >= 9.95 => format!("{v:.0}"),
        v => number((v * 10.0).round() / 10.0),
    }
}
