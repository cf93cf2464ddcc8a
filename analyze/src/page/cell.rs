//! Cells and columns from values.

use super::{Cell, Column};

/// A cell of `text`.
pub(crate) fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// Texts to the left, numbers to the right.
pub(crate) fn columns(texts: &[&str], numbers: &[&str]) -> Vec<Column> {
    let column = |is_number| move |name: &&str| Column { name: (*name).to_owned(), is_number };
    texts.iter().map(column(false)).chain(numbers.iter().map(column(true))).collect()
}

/// A number with `decimals`, or what stands for none.
pub(crate) fn number(value: Option<f64>, scale: f64, decimals: usize) -> Cell {
    value.map_or(Cell::Unknown, |value| Cell::Text(decimal(value * scale, decimals)))
}

/// The same where none means that there is nothing.
pub(crate) fn number_or_dash(value: Option<f64>, scale: f64, decimals: usize) -> Cell {
    value.map_or_else(|| text("–"), |value| Cell::Text(decimal(value * scale, decimals)))
}

/// A number with `decimals`; nothing has no sign.
fn decimal(value: f64, decimals: usize) -> String {
    // A sum of nothing is -0.
    format!("{:.decimals$}", value + 0.0)
}
