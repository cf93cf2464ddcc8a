//! One line of a page.

use super::{Format, Sample};

/// A fault of a line, in words.
type Fault = &'static str;

/// Reads `name{label="value",…} value [time]`, in OpenMetrics with an exemplar after it, which is left out.
pub(super) fn read_sample(line: &str, format: Format) -> Result<Sample, Fault> {
    let (mut name, mut rest) = match line.strip_prefix('{') {
        Some(_) => (String::new(), line),
        None => name_and_rest(line)?,
    };
    let mut labels = Vec::new();
    if let Some(inner) = rest.trim_start().strip_prefix('{') {
        rest = read_labels(inner, &mut name, &mut labels)?;
    }
    if name.is_empty() {
        return Err("the sample has no name");
    }
    let rest = match (format, rest.find(" # ")) {
        (Format::OpenMetrics, Some(exemplar)) => &rest[..exemplar],
        _ => rest,
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or("the sample has no value")?;
    let value = value.parse::<f64>().map_err(|_| "the value is no number")?;
    let time_ms = words.next().map(|time| read_time(time, format)).transpose()?;
    if words.next().is_some() {
        return Err("there is text after the sample");
    }
    labels.retain(|(_, value)| !value.is_empty());
    Ok(Sample { name, labels, value, time_ms })
}

/// Milliseconds in text, seconds in OpenMetrics.
fn read_time(text: &str, format: Format) -> Result<i64, Fault> {
    let fault = "the time is no number of milliseconds, or in OpenMetrics of seconds";
    match format {
        Format::Text => text.parse().map_err(|_| fault),
        Format::OpenMetrics => {
            let seconds = text.parse::<f64>().map_err(|_| fault)?;
            if seconds.abs() < 1e12 { Ok((seconds * 1000.0).round() as i64) } else { Err(fault) }
        }
    }
}

/// A name, plain or in quotes, and what comes after it.
pub(super) fn name_and_rest(text: &str) -> Result<(String, &str), Fault> {
    if let Some(quoted) = text.strip_prefix('"') {
        return read_quoted(quoted);
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a name must begin with a letter, _ or :, or be in quotes");
    }
    if !rest.is_empty() && !rest.starts_with([' ', '\t', '{', '=']) {
        return Err("a name has a character that is allowed in quotes only");
    }
    Ok((name.to_owned(), rest))
}

/// Labels up to the closing brace, and what comes after it. A quoted text without a value is the name of the metric.
fn read_labels<'a>(mut rest: &'a str, name: &mut String, labels: &mut Vec<(String, String)>) -> Result<&'a str, Fault> {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let is_quoted = rest.starts_with('"');
        let (key, after) = name_and_rest(rest)?;
        let after = after.trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let value = value.trim_start().strip_prefix('"').ok_or("a label value is not in quotes")?;
            let (value, after) = read_quoted(value)?;
            if labels.iter().any(|(known, _)| *known == key) {
                return Err("a label is given twice");
            }
            labels.push((key, value));
            rest = after;
        } else if is_quoted && name.is_empty() {
            *name = key;
            rest = after;
        } else {
            return Err("a label has no value");
        }
        rest = rest.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None if rest.starts_with('}') => rest,
            None => return Err("labels are not closed"),
        };
    }
}

/// Text up to the closing quote, and what comes after it.
fn read_quoted(text: &str) -> Result<(String, &str), Fault> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok((unescape(&text[..at]), &text[at + 1..])),
            _ => {}
        }
    }
    Err("quotes are not closed")
}

/// `\\`, `\"` and `\n`; any other backslash is itself.
pub(super) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let (character, length) = match rest.as_bytes().get(at + 1) {
            Some(b'n') => ('\n', 2),
            Some(b'"') => ('"', 2),
            Some(b'\\') => ('\\', 2),
            _ => ('\\', 1),
        };
        plain.push(character);
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    plain
}
