//! The TOML text of a price book, as serde reads and writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Distribute;

/// Everything in the file. Price keys at the top level hold at all times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BookText {
    pub(super) currency: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vcpu_hour: Option<PriceText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gb_hour: Option<PriceText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kwh: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pue: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gpu_hour: BTreeMap<String, PriceText>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    node_hour: BTreeMap<String, PriceText>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    carbon_g_per_kwh: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) vcpus: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) memory_gb: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) host_region: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) period: Vec<PricesText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) commitment: Vec<CommitmentText>,
    #[serde(default, skip_serializing_if = "Distribute::is_default")]
    pub(super) distribute: Distribute,
}

/// Prices that hold from one time until another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PricesText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vcpu_hour: Option<PriceText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gb_hour: Option<PriceText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kwh: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pue: Option<f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) gpu_hour: BTreeMap<String, PriceText>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) node_hour: BTreeMap<String, PriceText>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) carbon_g_per_kwh: BTreeMap<String, f64>,
}

/// One price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a price is a number, or { list = 4.0, effective = 3.5 }")]
pub(super) enum PriceText {
    /// List and effective price are the same.
    One(f64),
    /// They differ.
    Two(TwoPricesText),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TwoPricesText {
    pub(super) list: f64,
    pub(super) effective: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitmentText {
    pub(super) name: String,
    pub(super) covers: CoversText,
    pub(super) quantity: f64,
    pub(super) hour: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
}

/// `"vcpu"`, `"gb"` or `{ gpu = "model" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CoversText {
    Vcpu,
    Gb,
    Gpu(String),
}

impl BookText {
    /// The prices at the top level as those of a period without bounds.
    pub(super) fn always(&self) -> PricesText {
        PricesText {
            from: None,
            until: None,
            vcpu_hour: self.vcpu_hour,
            gb_hour: self.gb_hour,
            kwh: self.kwh,
            pue: self.pue,
            gpu_hour: self.gpu_hour.clone(),
            node_hour: self.node_hour.clone(),
            carbon_g_per_kwh: self.carbon_g_per_kwh.clone(),
        }
    }
}
