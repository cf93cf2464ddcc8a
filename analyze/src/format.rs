//! Text for people: numbers, aligned tables, Markdown, HTML, CSV cells.

/// `12.3 %`, or `–` when there is no value.
pub(crate) fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".into(), |ratio| format!("{:.1} %", ratio * 100.0))
}

/// `1.2 GiB`, or `–` when there is no value.
pub(crate) fn gib(bytes: Option<f64>) -> String {
    bytes.map_or_else(|| "–".into(), |bytes| format!("{:.1} GiB", bytes / f64::from(1 << 30)))
}

/// `value` to `digits` significant digits and all of its integer part, without zeros at the end; very small and very large
/// values with an exponent.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = value.abs().log10().floor();
    if !(-5.0..15.0).contains(&exponent) {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let decimals = (digits as f64 - 1.0 - exponent).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// `text` cut to `max` characters; a cut text ends in `…`.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    // The tail is kept: of `host/GPU-uuid` and of `pod-name-suffix` it is the end that tells two apart.
    let skip = text.chars().count() - (max - 1);
    format!("…{}", text.chars().skip(skip).collect::<String>())
}

/// Escapes `text` for HTML and SVG, attributes included.
pub(crate) fn escape_html(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

/// One CSV cell (RFC 4180). Text that a spreadsheet would run as a formula gets a leading apostrophe.
pub(crate) fn csv_cell(text: &str) -> String {
    let is_number = text.parse::<f64>().is_ok();
    let guarded =
        if !is_number && text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.into() };
    if guarded.contains([',', '"', '\n', '\r']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

/// `text` that cannot leave its cell or become markup.
pub(crate) fn escape_markdown(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

fn widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([header[column].chars().count()]).max().unwrap_or(0).max(3)
        })
        .collect()
}

fn pad(text: &str, width: usize, left: bool) -> String {
    let fill = " ".repeat(width.saturating_sub(text.chars().count()));
    if left { format!("{text}{fill}") } else { format!("{fill}{text}") }
}

/// An aligned Markdown table; the first `left_count` columns are texts, the others numbers.
pub(crate) fn markdown_table(header: &[&str], left_count: usize, rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escape_markdown(cell)).collect()).collect();
    let widths = widths(header, &rows);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let pad_row = |cells: &mut dyn Iterator<Item = &str>| {
        cells.zip(&widths).enumerate().map(|(at, (cell, width))| pad(cell, *width, at < left_count)).collect()
    };
    let mut text = line(pad_row(&mut header.iter().copied()));
    let rule = |(at, width): (usize, &usize)| {
        if at < left_count { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) }
    };
    text += &line(widths.iter().enumerate().map(rule).collect());
    for row in &rows {
        text += &line(pad_row(&mut row.iter().map(String::as_str)));
    }
    text
}

/// An aligned table for a terminal; the first `left_count` columns are texts, the others numbers.
pub(crate) fn text_table(header: &[&str], left_count: usize, rows: &[Vec<String>]) -> String {
    let plain: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| cell.replace(|c: char| c.is_control(), " ")).collect()).collect();
    let widths = widths(header, &plain);
    let mut text = String::new();
    let header_row: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&header_row).chain(&plain) {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells.map(|(at, (cell, width))| pad(cell, *width, at < left_count)).collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_cell() {
        assert_eq!(escape_html("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_cell("=1+1"), "'=1+1");
        assert_eq!(csv_cell("-1.5"), "-1.5");
        let table = markdown_table(&["name", "n"], 1, &[vec!["a|b\nc".into(), "1".into()]]);
        assert_eq!(table, "| name   |   n |\n| ------ | --: |\n| a\\|b c |   1 |\n");
    }

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (386.0, "386"),
            (2746.5, "2746.5"),
            (1_923_096.863_215, "1923097"),
            (-1_164.162_64, "-1164.16"),
            (0.012_345_678, "0.0123457"),
            (0.1 + 0.2, "0.3"),
            (1e-9, "1.00000e-9"),
            (f64::MAX, "1.79769e308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(value, 6), text, "{value:e}");
        }
    }

    #[test]
    fn long_names_keep_their_tail() {
        assert_eq!(shorten("abcdef", 4), "…def");
        assert_eq!(shorten("abcd", 4), "abcd");
    }
}
