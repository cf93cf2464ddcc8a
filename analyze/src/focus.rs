//! Allocation lines as rows with the columns of FOCUS 1.2, and as CSV.
//!
//! Invariant: the rows of an asset sum to its charge, copy its dimensions and show one unit price (the rule of the split
//! allocation drafts of FOCUS). Costs have all six decimals, so that no cent is lost.
//!
//! What is unknown is an empty cell, also where FOCUS wants a number (`BilledCost` of what has no price): 0 would be a
//! lie. `x_UnpricedHours` tells such rows.

mod csv;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use csv::{COLUMNS, to_csv};

use crate::{
    allocation::{Allocation, Line, LineKind, Resource},
    money::Money,
    price_book::{Cost, Item, Period, PriceBook},
};

/// What all rows have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Who pays (`BillingAccountId`).
    pub billing_account: String,
    /// Who makes the charges available (`ProviderName`, `PublisherName`, `InvoiceIssuerName`).
    pub provider: String,
    /// The time of the charges.
    pub charge_period: Period,
    /// The time of the bill; the charges must be inside.
    pub billing_period: Period,
    /// Label that is the sub account, such as `namespace` or `team`.
    pub sub_account: String,
}

/// Why there are no rows.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FocusError {
    /// FOCUS wants every charge inside of its bill.
    #[error(
        "the charges [{charge}] are not inside of the bill [{billing}]; cut them at its ends and write one file each"
    )]
    Outside {
        /// Period of the charges.
        charge: Period,
        /// Period of the bill.
        billing: Period,
    },
}

/// One row; an empty cell is none or an empty text.
#[derive(Debug, Clone, PartialEq)]
pub struct FocusRow {
    /// `EffectiveCost` and `BilledCost`, which are the same because nothing is paid ahead.
    pub effective_cost: Option<Money>,
    /// `ContractedCost`: with negotiated prices and without commitments.
    pub contracted_cost: Option<Money>,
    /// `ListCost`.
    pub list_cost: Option<Money>,
    /// `ListUnitPrice`, of one unit-hour.
    pub list_unit_price: Option<f64>,
    /// `ContractedUnitPrice`.
    pub contracted_unit_price: Option<f64>,
    /// `PricingQuantity`, unit-hours; none where the cost was distributed.
    pub pricing_quantity: Option<f64>,
    /// `ConsumedQuantity`, unit-hours in use; none where a part is unknown.
    pub consumed_quantity: Option<f64>,
    /// `PricingUnit` and `ConsumedUnit`.
    pub unit: &'static str,
    /// `PricingCategory`.
    pub pricing_category: &'static str,
    /// `CommitmentDiscountId` of a commitment that was not used.
    pub unused_commitment: Option<String>,
    /// `ChargeDescription`.
    pub description: String,
    /// `ResourceId`.
    pub resource_id: String,
    /// `ResourceType`, `ServiceName` and the start of `SkuId`.
    pub resource: Option<Resource>,
    /// `SkuId`: the GPU model, `vCPU` or `Memory`.
    pub sku: String,
    /// `RegionId`.
    pub region: String,
    /// `SubAccountId`.
    pub sub_account: String,
    /// `Tags`, a JSON object of all labels.
    pub tags: String,
    /// `x_LineKind`.
    pub kind: LineKind,
    /// `x_Holder`.
    pub holder: String,
    /// `x_UnpricedHours`.
    pub unpriced_hours: f64,
}

/// Sums over the lines of one asset, for one unit price in all of its rows.
#[derive(Default)]
struct AssetSum {
    cost: Cost,
    hours: f64,
}

/// One row per line of `allocation`.
///
/// # Errors
/// [`FocusError::Outside`] where the charges are not inside of the bill.
pub fn focus_rows(allocation: &Allocation, book: &PriceBook, origin: &Origin) -> Result<Vec<FocusRow>, FocusError> {
    if origin.charge_period.intersect(origin.billing_period) != Some(origin.charge_period) {
        return Err(FocusError::Outside { charge: origin.charge_period, billing: origin.billing_period });
    }
    let mut sums: BTreeMap<(&str, Option<Resource>), AssetSum> = BTreeMap::new();
    for line in &allocation.lines {
        if let Some(asset) = &line.asset {
            let sum = sums.entry((asset, line.resource)).or_default();
            sum.cost += line.cost;
            sum.hours += line.hours;
        }
    }
    Ok(allocation
        .lines
        .iter()
        .map(|line| {
            let asset = line.asset.as_deref().and_then(|asset| sums.get(&(asset, line.resource)));
            row(line, asset, book, origin)
        })
        .collect())
}

fn row(line: &Line, asset: Option<&AssetSum>, book: &PriceBook, origin: &Origin) -> FocusRow {
    let label = |name: &str| line.labels.get(name).cloned().unwrap_or_default();
    let committed = is_committed(line, book);
    // A commitment covers only what has one price, its list price (the book refuses others).
    let contracted = |cost: &Cost| if committed { cost.list_total() } else { cost.total() };
    let unit_price = |of: &dyn Fn(&Cost) -> Option<Money>| {
        let asset = asset.filter(|asset| asset.hours > 0.0)?;
        Some(of(&asset.cost)?.units() / asset.hours)
    };
    let overhead = label("overhead");
    let unused = book.commitments().iter().any(|one| line.kind == LineKind::Overhead && one.name == overhead);
    let (unit, sku) = match line.resource {
        Some(Resource::Gpu) => ("GPU-Hours", label("gpu_model")),
        Some(Resource::Cpu) => ("vCPU-Hours", "vCPU".to_owned()),
        Some(Resource::Memory) => ("GB-Hours", "Memory".to_owned()),
        None => ("", String::new()),
    };
    FocusRow {
        effective_cost: line.cost.total(),
        contracted_cost: contracted(&line.cost),
        list_cost: line.cost.list_total(),
        list_unit_price: unit_price(&Cost::list_total),
        contracted_unit_price: unit_price(&contracted),
        pricing_quantity: asset.map(|_| line.hours),
        consumed_quantity: asset.filter(|_| line.used_known_hours >= line.hours).map(|_| line.used_hours),
        unit: if asset.is_some() { unit } else { "" },
        pricing_category: if committed || unused { "Committed" } else { "Standard" },
        unused_commitment: unused.then(|| overhead.clone()),
        description: description(line, &overhead),
        resource_id: line.asset.clone().unwrap_or_default(),
        resource: line.resource,
        sku,
        region: label("region"),
        sub_account: label(&origin.sub_account),
        // A map of texts always is JSON.
        tags: serde_json::to_string(&line.labels).unwrap_or_default(),
        kind: line.kind,
        holder: line.holder.clone().unwrap_or_default(),
        unpriced_hours: line.cost.unpriced_hours,
    }
}

fn is_committed(line: &Line, book: &PriceBook) -> bool {
    let item = match line.resource {
        Some(Resource::Gpu) => {
            let Some(model) = line.labels.get("gpu_model") else { return false };
            Item::Gpu(model.to_lowercase())
        }
        Some(Resource::Cpu) => Item::Vcpu,
        Some(Resource::Memory) => Item::Gb,
        None => return false,
    };
    let own_price = line.labels.get("host").is_some_and(|host| book.node(host).is_some());
    !own_price && book.commitments().iter().any(|one| one.covers == item)
}

fn description(line: &Line, overhead: &str) -> String {
    let what = match line.resource {
        Some(Resource::Gpu) => "GPU",
        Some(Resource::Cpu) => "vCPU",
        Some(Resource::Memory) => "memory",
        None => overhead,
    };
    let from = line.asset.as_ref().map_or_else(String::new, |asset| format!(" of {asset}"));
    let to = line.holder.as_ref().map_or_else(String::new, |holder| format!(" for {holder}"));
    format!("{}: {what}{from}{to}", line.kind.as_str())
}
