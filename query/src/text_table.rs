//! A JSON answer as a table for a terminal.

use serde_json::Value;

const CELL_WIDTH_MIN: usize = 6;

/// Renders an answer of `/api/v1/sql` (format `json`) in at most `width` columns; cells that do not fit end in `…`.
pub fn render_table(answer: &Value, width: usize) -> String {
    let names = answer["columns"].as_array().into_iter().flatten();
    let mut lines = vec![names.map(|column| cell(&column["name"])).collect::<Vec<_>>()];
    for row in answer["rows"].as_array().into_iter().flatten() {
        lines.push(row.as_array().into_iter().flatten().map(cell).collect());
    }
    let numeric: Vec<bool> = (0..lines[0].len())
        .map(|column| {
            answer["rows"].as_array().into_iter().flatten().all(|row| row[column].is_number() || row[column].is_null())
        })
        .collect();
    let widths = fit(&lines, width);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).zip(&numeric).map(|((cell, &width), numeric)| {
            let cell = cut(cell, width);
            if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
        if index == 0 {
            text += &widths.iter().map(|&width| "─".repeat(width)).collect::<Vec<_>>().join("  ");
            text.push('\n');
        }
    }
    let more =
        if answer["truncated"] == true { ", cut: there are more (add LIMIT, or use --format ndjson)" } else { "" };
    text + &format!("({} rows{more})\n", answer["row_count"])
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Control characters of stored text must not reach the terminal.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width - 1).chain(['…']).collect() }
}

/// Column widths: as wide as the content, the widest shortened until all fit.
fn fit(lines: &[Vec<String>], width: usize) -> Vec<usize> {
    let columns = lines[0].len();
    let widest =
        |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let mut widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or(0).max(1)).collect();
    loop {
        let total = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
        match widths.iter_mut().max() {
            Some(widest) if total > width && *widest > CELL_WIDTH_MIN => *widest -= 1,
            _ => return widths,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_fit_and_numbers_stand_right() {
        let answer = json!({
            "columns": [{ "name": "n" }, { "name": "text" }],
            "rows": [[1, "a".repeat(100)], [23, null]], "row_count": 2, "truncated": true,
        });
        let table = render_table(&answer, 30);
        assert!(table.lines().take(4).all(|line| line.chars().count() <= 30), "{table}");
        assert!(table.contains(" 1  aaa") && table.contains('…') && table.contains("there are more"), "{table}");
    }
}
