//! Whose series it is: labels that say so, from the target and from the page.
//!
//! `job` is `service.name`, with `service.namespace` where it is written `namespace/name`; `instance` is
//! `service.instance.id`; `otel_scope_name` and `otel_scope_version` are the scope's. Other labels are point attributes.
//!
//! Source: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>

use std::collections::BTreeMap;

/// What becomes resource and scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    pub(crate) job: String,
    pub(crate) instance: String,
    pub(crate) scope_name: String,
    pub(crate) scope_version: String,
}

/// Labels that a target gives its series.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetLabels {
    /// `job` and `instance` among them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether a label of the page wins over one of the target with the same name. If not, it is kept as `exported_…`.
    pub(crate) honor_labels: bool,
}

impl TargetLabels {
    /// Joins the labels of a series with those of its target and puts each in its place, attributes sorted by name.
    pub(crate) fn place(&self, labels: Vec<(String, String)>) -> (Owner, Vec<(String, String)>) {
        let mut joined = BTreeMap::new();
        for (mut name, value) in labels {
            if !self.honor_labels {
                while self.labels.contains_key(&name) || joined.contains_key(&name) {
                    name.insert_str(0, "exported_");
                }
            }
            joined.insert(name, value);
        }
        for (name, value) in &self.labels {
            joined.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let mut take = |name: &str| joined.remove(name).unwrap_or_default();
        let owner = Owner {
            job: take("job"),
            instance: take("instance"),
            scope_name: take("otel_scope_name"),
            scope_version: take("otel_scope_version"),
        };
        (owner, joined.into_iter().collect())
    }
}

impl Owner {
    /// The owner of what is said about the target itself.
    pub(crate) fn of_target(target: &TargetLabels) -> Self {
        target.place(Vec::new()).0
    }

    /// Resource attributes that the labels stand for.
    pub(crate) fn resource(&self) -> Vec<(&'static str, &str)> {
        let mut attributes = match self.job.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                vec![("service.namespace", namespace), ("service.name", name)]
            }
            _ => vec![("service.name", self.job.as_str())],
        };
        attributes.push(("service.instance.id", &self.instance));
        attributes.retain(|(_, value)| !value.is_empty());
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_label_that_both_have_is_kept_as_exported_or_wins() {
        let labels = pairs(&[("instance", "h:1"), ("job", "gpu"), ("rack", "7")]).into_iter().collect();
        let mut target = TargetLabels { labels, honor_labels: false };
        let page = pairs(&[("gpu", "0"), ("job", "train"), ("rack", "9")]);
        let (owner, attributes) = target.place(page.clone());
        assert_eq!((owner.job.as_str(), owner.instance.as_str()), ("gpu", "h:1"));
        let expected = [("exported_job", "train"), ("exported_rack", "9"), ("gpu", "0"), ("rack", "7")];
        assert_eq!(attributes, pairs(&expected));
        target.honor_labels = true;
        let (owner, attributes) = target.place(page);
        assert_eq!((owner.job.as_str(), owner.instance.as_str()), ("train", "h:1"));
        assert_eq!(attributes, pairs(&[("gpu", "0"), ("rack", "9")]));
    }

    #[test]
    fn a_job_with_a_namespace_is_two_attributes() {
        let owner = |job: &str| Owner { job: job.into(), instance: "i".into(), ..Owner::default() };
        let instance = ("service.instance.id", "i");
        let expected = [("service.namespace", "a"), ("service.name", "b"), instance];
        assert_eq!(owner("a/b").resource(), expected);
        assert_eq!(owner("a/b/c").resource(), [("service.name", "a/b/c"), instance]);
    }
}
