//! SQL for a label of a series by the names that people use.

use driftwatt_store::PROMOTED;

use crate::rows::literal;

/// Short names of attributes that no column holds, with the keys they are sent under.
const SHORT_NAMES: [(&str, &[&str]); 2] =
    [("tenant", &["tenant", "tenant.id", "driftwatt.tenant"]), ("route", &["route", "http.route"])];

/// The label `key`: a column (`service_name`), the attribute key that fills one (`service.name`), `tenant` or `route`, or
/// any other attribute key. Null where the series does not have it.
pub(crate) fn label_sql(key: &str) -> String {
    let promoted = PROMOTED.iter().find(|label| label.column == key || label.keys.contains(&key));
    if let Some(label) = promoted {
        return label.column.to_owned();
    }
    // An absent mark means "not simulated", so that `=false` selects what real sources send.
    if key == "driftwatt.simulated" {
        return "coalesce(attributes['driftwatt.simulated'], 'false')".to_owned();
    }
    let attribute = |key: &str| format!("attributes[{}]", literal(key));
    match SHORT_NAMES.iter().find(|(name, _)| *name == key) {
        Some((_, keys)) => {
            let all: Vec<String> = keys.iter().map(|key| attribute(key)).collect();
            format!("coalesce({})", all.join(", "))
        }
        None => attribute(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_columns_attributes_or_short_names() {
        assert_eq!(label_sql("cloud.region"), "region");
        assert_eq!(label_sql("model_version"), "model_version");
        assert_eq!(label_sql("route"), "coalesce(attributes['route'], attributes['http.route'])");
        assert_eq!(label_sql("o'hara"), "attributes['o''hara']");
    }
}
