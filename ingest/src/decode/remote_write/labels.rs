//! Labels of one series, and where OpenTelemetry has them.
//!
//! `job` is the resource attribute `service.name`, with `service.namespace` where it is written `namespace/name`;
//! `instance` is `service.instance.id`; `otel_scope_name` and `otel_scope_version` are the scope's. Every other label is a
//! point attribute with the name that it came with.
//!
//! Source: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>

use driftwatt_store::{AttributeValue, Attributes};

use crate::{
    config::Limits,
    decode::attributes::{KEY_SIZE_MAX, text},
    reason::Reason,
    wire::Slice,
};

const NAME: &[u8] = b"__name__";

/// Name and value of each label, as bytes of the request.
#[derive(Debug, Default)]
pub(super) struct Labels<'a>(Vec<(&'a [u8], &'a [u8])>);

/// Labels by their place in a series.
#[derive(Debug, Default)]
pub(super) struct Split<'a> {
    pub(super) resource: Attributes,
    pub(super) scope_name: &'a str,
    pub(super) scope_version: &'a str,
    pub(super) point: Attributes,
}

impl<'a> Labels<'a> {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds one label. To Prometheus a label without a value is a label that is not there.
    pub(super) fn push(&mut self, name: &'a [u8], value: &'a [u8], limits: &Limits) -> Result<(), Reason> {
        if name.is_empty() {
            return Err(Reason::ATTRIBUTE_KEY_EMPTY);
        }
        if value.is_empty() {
            return Ok(());
        }
        // The name of the metric is a label here and no attribute in the store.
        if self.0.len() > limits.attributes_max {
            return Err(Reason::ATTRIBUTES_TOO_MANY);
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Brings them in order. Senders must do so too, but one that does not is understood.
    pub(super) fn sort(&mut self) -> Result<(), Reason> {
        if !self.0.is_sorted_by(|a, b| a.0 < b.0) {
            self.0.sort_unstable();
        }
        if self.0.is_sorted_by(|a, b| a.0 < b.0) { Ok(()) } else { Err(Reason::LABEL_REPEATED) }
    }

    /// The name of the metric; empty if there is none.
    pub(super) fn name(&self) -> Result<&'a str, Reason> {
        let name = self.0.iter().find(|(name, _)| *name == NAME).map(|(_, value)| *value).unwrap_or_default();
        text(Slice { bytes: name, offset: 0 })
    }

    /// Appends what tells these labels from all others.
    pub(super) fn write_key(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&(self.0.len() as u64).to_le_bytes());
        for part in self.0.iter().flat_map(|(name, value)| [name, value]) {
            key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            key.extend_from_slice(part);
        }
    }

    /// Checks every label and puts it in its place.
    pub(super) fn split(&self, limits: &Limits) -> Result<Split<'a>, Reason> {
        let mut split = Split::default();
        for (name, value) in self.0.iter().filter(|(name, _)| *name != NAME) {
            if name.len() > KEY_SIZE_MAX {
                return Err(Reason::ATTRIBUTE_KEY_TOO_LONG);
            }
            if value.len() > limits.attribute_value_size_max {
                return Err(Reason::ATTRIBUTE_VALUE_TOO_LONG);
            }
            let name = text(Slice { bytes: name, offset: 0 })?;
            let value = text(Slice { bytes: value, offset: 0 })?;
            match name {
                "job" => put_job(value, &mut split.resource),
                "instance" => put("service.instance.id", value, &mut split.resource),
                "otel_scope_name" => split.scope_name = value,
                "otel_scope_version" => split.scope_version = value,
                _ => put(name, value, &mut split.point),
            }
        }
        if split.resource.len() + split.point.len() > limits.attributes_max {
            return Err(Reason::ATTRIBUTES_TOO_MANY);
        }
        Ok(split)
    }
}

fn put(key: &str, value: &str, attributes: &mut Attributes) {
    attributes.push((key.to_owned(), AttributeValue::String(value.to_owned())));
}

fn put_job(job: &str, resource: &mut Attributes) {
    match job.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            put("service.namespace", namespace, resource);
            put("service.name", name, resource);
        }
        _ => put("service.name", job, resource),
    }
}
