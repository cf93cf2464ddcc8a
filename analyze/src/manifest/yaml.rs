//! YAML of JSON values.
//!
//! Strings are always quoted as JSON quotes them, which is YAML too, so no text can be taken for a number, a date or `no`. Maps and
//! lists are in block style with two spaces, keys sorted.

use serde_json::Value;

/// `value` as a document that ends in a newline, under `comment` (a line of `#` for each of its lines).
pub(super) fn document(comment: &str, value: &Value) -> String {
    let mut text = String::new();
    for line in comment.lines() {
        // Text of the telemetry must not leave the comment; a lone carriage return is a line break in YAML.
        let line: String = line.chars().map(|c| if is_break(c) { ' ' } else { c }).collect();
        text.push_str("# ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    block(&mut text, value, 0);
    text
}

fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            // Sorted here, since the map's own order depends on a feature that any crate of the build may turn on.
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in fields {
                text.push_str(&" ".repeat(indent));
                text.push_str(&key_text(key));
                text.push(':');
                nested(text, value, indent + 2);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                let mut inner = String::new();
                block(&mut inner, value, indent + 2);
                // The first line of the item begins after its dash.
                text.push_str(&" ".repeat(indent));
                text.push_str("- ");
                text.push_str(inner.trim_start());
            }
        }
        _ => {
            text.push_str(&scalar(value));
            text.push('\n');
        }
    }
}

fn nested(text: &mut String, value: &Value, indent: usize) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        block(text, value, indent);
    } else {
        text.push(' ');
        text.push_str(&scalar(value));
        text.push('\n');
    }
}

/// JSON of a value without block form.
fn scalar(value: &Value) -> String {
    let json = value.to_string();
    // JSON lets these through; some YAML readers take them for line breaks or refuse them.
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if is_break(c) {
            text.push_str(&format!("\\u{:04x}", c as u32));
        } else {
            text.push(c);
        }
        text
    })
}

fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn key_text(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '_'))
        && !matches!(
            key.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain { key.to_owned() } else { scalar(&Value::String(key.to_owned())) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_lists_and_scalars_have_their_block_form() {
        let value = json!({
            "a": {"b": 1, "c": [], "d": {}},
            "e": [{"f": "x", "g": ["y", 2]}, "no", ["z"]],
            "h": null,
            "on": true,
        });
        let expected = "# why\na:\n  b: 1\n  c: []\n  d: {}\ne:\n  - f: \"x\"\n    g:\n      - \"y\"\n      - 2\n  - \"no\"\n  - - \"z\"\nh: null\n\"on\": true\n";
        assert_eq!(document("why", &value), expected);
    }

    #[test]
    fn text_cannot_leave_its_place() {
        let value = json!({"a: b\n": "x\u{2028}\u{85}\ny: 1 # \"no\""});
        let text = document("one\rapiVersion: v1\u{2028}kind: Secret\ntwo", &value);
        assert_eq!(
            text,
            "# one apiVersion: v1 kind: Secret\n# two\n\"a: b\\n\": \"x\\u2028\\u0085\\ny: 1 # \\\"no\\\"\"\n"
        );
        assert_eq!(document("", &json!({})), "{}\n");
    }
}
