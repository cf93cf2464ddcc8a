//! Checks manifests against the published field names and types (`schema.json`).

use serde_json::Value;

/// Every way in which `value` is not a `type_name`; empty where it is one.
pub(super) fn violations(type_name: &str, value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("schema.json")).unwrap();
    let mut found = Vec::new();
    check(&schema["types"], &Value::String(type_name.into()), value, type_name, &mut found);
    found
}

fn check(types: &Value, expected: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    match expected {
        Value::String(name) => check_named(types, name, value, path, found),
        Value::Array(items) => match value {
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    check(types, &items[0], value, &format!("{path}[{index}]"), found);
                }
            }
            _ => found.push(format!("{path}: no list")),
        },
        Value::Object(fields) => {
            let Some(map) = value.as_object() else { return found.push(format!("{path}: no map")) };
            for (key, value) in map {
                let field = [key.clone(), format!("{key}!"), "*".into()].into_iter().find_map(|key| fields.get(&key));
                match field {
                    Some(field) => check(types, field, value, &format!("{path}.{key}"), found),
                    None => found.push(format!("{path}.{key}: unknown field")),
                }
            }
            for name in fields.keys().filter_map(|key| key.strip_suffix('!')).filter(|name| !map.contains_key(*name)) {
                found.push(format!("{path}.{name}: missing"));
            }
        }
        _ => found.push(format!("{path}: unreadable schema")),
    }
}

fn check_named(types: &Value, name: &str, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(name) = name.strip_suffix('?') {
        if !value.is_null() {
            check_named(types, name, value, path, found);
        }
        return;
    }
    let fits = match name {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        // `all`, or numbers of cards.
        "devices" => value == "all" || value.as_array().is_some_and(|list| list.iter().all(Value::is_u64)),
        "quantity" => value.as_str().is_some_and(is_quantity),
        // An object's kind has the name of its type.
        _ if value == name => true,
        _ => match types.get(name) {
            Some(fields) => return check(types, fields, value, path, found),
            None => false,
        },
    };
    if !fits {
        found.push(format!("{path}: {value} is no {name}"));
    }
}

/// A number with the suffixes that are written.
fn is_quantity(text: &str) -> bool {
    let number = text.strip_suffix("Mi").or(text.strip_suffix('m')).unwrap_or(text);
    !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}

#[test]
fn a_wrong_field_a_wrong_type_and_a_missing_one_are_seen() {
    let wrong = serde_json::json!({ "type": "Pods", "value": "4", "period": 15 });
    let found = violations("ScalingPolicy", &wrong);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found.iter().any(|it| it.contains(".period: unknown"))
            && found.iter().any(|it| it.contains("periodSeconds: missing"))
    );
    assert_eq!(violations("MigParted", &serde_json::json!({ "version": "v2", "mig-configs": {} })).len(), 1);
}
