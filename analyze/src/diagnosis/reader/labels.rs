//! By what the rows are grouped: machines, versions, tenants, and every other attribute of the requests with few values.

use std::collections::BTreeMap;

use crate::diagnosis::service_window::{Dimension, Labels};

/// Values of one label from which it is an identity and no category.
const VALUES_MAX: usize = 200;
/// Beginnings of attributes that describe the sender, not the request.
const OF_SENDER: [&str; 14] = [
    "service",
    "telemetry.",
    "host",
    "k8s",
    "container.",
    "process.",
    "os.",
    "hw.",
    "deployment",
    "driftwatt.",
    "cloud.",
    "gpu",
    "server.",
    "team",
];

/// What each key groups by, the preferred first; a key that is not here is a category of the input.
const DIMENSIONS: [(Dimension, &[&str]); 6] = [
    (Dimension::Host, &["k8s_node", "host_name", "k8s_pod", "service_instance_id"]),
    (Dimension::Gpu, &["gpu_id"]),
    (Dimension::Zone, &["cloud.availability_zone", "region"]),
    (Dimension::Version, &["model_version", "service.version", "gen_ai.response.model"]),
    (Dimension::Tenant, &["tenant.id", "tenant", "customer.id", "customer", "organization.id"]),
    (Dimension::FinishReason, &["gen_ai.response.finish_reasons", "finish_reason", "finished_reason"]),
];

/// The labels of rows whose group is `groups[row]`, over groups with `labels`.
pub(super) fn labels(labels: &[BTreeMap<String, String>], groups: &[u32]) -> Vec<Labels> {
    let mut keys: Vec<(Dimension, &str)> = Vec::new();
    for (dimension, names) in DIMENSIONS {
        let known = |name: &&&str| labels.iter().any(|labels| labels.contains_key(**name));
        keys.extend(names.iter().find(known).map(|name| (dimension, *name)));
    }
    let categories = labels.iter().flat_map(BTreeMap::keys).map(String::as_str);
    let mut categories: Vec<&str> = categories.filter(|key| is_category(key)).collect();
    categories.sort_unstable();
    categories.dedup();
    keys.extend(categories.into_iter().map(|key| (Dimension::Input, key)));
    keys.into_iter().filter_map(|(dimension, name)| column(dimension, name, labels, groups)).collect()
}

fn is_category(key: &str) -> bool {
    let named = DIMENSIONS.iter().any(|(_, names)| names.contains(&key));
    !named && key != "model_name" && !OF_SENDER.iter().any(|start| key.starts_with(start))
}

/// One label of all rows; none where it has too many values.
fn column(dimension: Dimension, name: &str, labels: &[BTreeMap<String, String>], groups: &[u32]) -> Option<Labels> {
    let mut values: Vec<String> = Vec::new();
    let mut codes: Vec<u16> = Vec::with_capacity(labels.len());
    for labels in labels {
        let value = labels.get(name).map_or("unknown", String::as_str);
        let code = values.iter().position(|known| known == value).unwrap_or_else(|| {
            values.push(value.to_owned());
            values.len() - 1
        });
        codes.push(u16::try_from(code).ok()?);
    }
    let machine = matches!(dimension, Dimension::Host | Dimension::Gpu);
    if values.len() > VALUES_MAX && !machine {
        return None;
    }
    let codes = groups.iter().map(|group| codes.get(*group as usize).copied()).collect::<Option<Vec<u16>>>()?;
    Some(Labels { dimension, name: name.to_owned(), values, codes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_the_machine_and_what_is_left_is_a_category_of_the_input() {
        let group = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let groups = [
            group(&[("host_name", "pod-1"), ("k8s_node", "n1"), ("client.version", "4.1"), ("service_name", "x")]),
            group(&[("host_name", "pod-2"), ("k8s_node", "n2"), ("model_version", "2"), ("os.type", "linux")]),
        ];
        let found = labels(&groups, &[1, 0, 1]);
        let shown: Vec<_> =
            found.iter().map(|label| (label.dimension, label.name.as_str(), label.codes.clone())).collect();
        assert_eq!(
            shown,
            [
                (Dimension::Host, "k8s_node", vec![1, 0, 1]),
                (Dimension::Version, "model_version", vec![1, 0, 1]),
                (Dimension::Input, "client.version", vec![1, 0, 1]),
            ]
        );
        assert_eq!(found[1].values, ["unknown", "2"]);
    }
}
