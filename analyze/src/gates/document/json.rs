//! From `serde_json` to the tree: its nodes know no line, but a syntax error does.

use super::{Node, Value};
use crate::gates::error::{Error, Place, Result};

pub(super) fn parse(file: &str, text: &str) -> Result<Node> {
    let value = serde_json::from_str(text).map_err(|error| Error::Document {
        place: Place { file: file.into(), line: Some(error.line()), path: String::new() },
        problem: error.to_string(),
        remedy: "correct the JSON syntax at this line".into(),
    })?;
    Ok(node(value))
}

/// Recursion is bounded: `serde_json` refuses more than 128 levels.
fn node(value: serde_json::Value) -> Node {
    let plain = |text| Value::Scalar { text, plain: true };
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => plain(truth.to_string()),
        serde_json::Value::Number(number) => plain(number.to_string()),
        serde_json::Value::String(text) => Value::Scalar { text, plain: false },
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(node).collect()),
        serde_json::Value::Object(members) => {
            Value::Map(members.into_iter().map(|(key, value)| (key, node(value))).collect())
        }
    };
    Node { line: None, value }
}
