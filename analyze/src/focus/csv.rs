//! FOCUS rows as CSV (RFC 4180).

use chrono::{DateTime, SecondsFormat};

use super::{FocusRow, Origin};
use crate::{
    allocation::{LineKind, Resource},
    format::csv_cell,
    money::Money,
    price_book::Currency,
};

/// Columns in the order of the file: those of FOCUS 1.2 that a private fleet can fill, and our own after them.
pub const COLUMNS: [&str; 50] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "CapacityReservationId",
    "CapacityReservationStatus",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "x_AllocatedMethodId",
    "x_Holder",
    "x_LineKind",
    "x_UnpricedHours",
];

/// A header and one line per row, lines ended by CRLF.
pub fn to_csv(rows: &[FocusRow], origin: &Origin, currency: Currency) -> String {
    let mut text = format!("{}\r\n", COLUMNS.join(","));
    for row in rows {
        let cells = COLUMNS.map(|column| csv_cell(&cell(column, row, origin, currency)));
        text += &cells.join(",");
        text += "\r\n";
    }
    text
}

fn cell(column: &str, row: &FocusRow, origin: &Origin, currency: Currency) -> String {
    match column {
        "BilledCost" | "EffectiveCost" => money(row.effective_cost),
        "ContractedCost" => money(row.contracted_cost),
        "ListCost" => money(row.list_cost),
        "ContractedUnitPrice" => number(row.contracted_unit_price),
        "ListUnitPrice" => number(row.list_unit_price),
        "PricingQuantity" => number(row.pricing_quantity),
        "ConsumedQuantity" => number(row.consumed_quantity),
        "PricingUnit" => row.unit.to_owned(),
        "ConsumedUnit" => row.consumed_quantity.map_or_else(String::new, |_| row.unit.to_owned()),
        "PricingCategory" => row.pricing_category.to_owned(),
        "BillingAccountId" | "BillingAccountName" => origin.billing_account.clone(),
        "ProviderName" | "PublisherName" | "InvoiceIssuerName" => origin.provider.clone(),
        "BillingCurrency" => currency.as_str().to_owned(),
        "BillingPeriodStart" => time(origin.billing_period.start_us),
        "BillingPeriodEnd" => time(origin.billing_period.end_us),
        "ChargePeriodStart" => time(origin.charge_period.start_us),
        "ChargePeriodEnd" => time(origin.charge_period.end_us),
        "ChargeCategory" => "Usage".to_owned(),
        "ChargeFrequency" => "Usage-Based".to_owned(),
        "ChargeDescription" => row.description.clone(),
        "RegionId" | "RegionName" => row.region.clone(),
        "ResourceId" | "ResourceName" => row.resource_id.clone(),
        "SkuId" | "SkuPriceId" => row.sku.clone(),
        "SubAccountId" | "SubAccountName" => row.sub_account.clone(),
        "Tags" => row.tags.clone(),
        "x_AllocatedMethodId" => method(row).to_owned(),
        "x_Holder" => row.holder.clone(),
        "x_LineKind" => row.kind.as_str().to_owned(),
        "x_UnpricedHours" => row.unpriced_hours.to_string(),
        _ => named(column, row),
    }
}

/// Columns with words that FOCUS prescribes.
fn named(column: &str, row: &FocusRow) -> String {
    let unused = row.unused_commitment.as_deref();
    let text = match column {
        "ResourceType" if row.resource_id.is_empty() => "",
        "ResourceType" if row.resource == Some(Resource::Gpu) => "GPU",
        "ResourceType" => "Host",
        "ServiceCategory" if row.resource.is_some() || unused.is_some() => "Compute",
        "ServiceCategory" => "Management and Governance",
        "ServiceSubcategory" if row.resource.is_some() => "Containers",
        "ServiceSubcategory" if unused.is_some() => "Other (Compute)",
        "ServiceSubcategory" => "Other (Management and Governance)",
        "ServiceName" => match row.resource {
            Some(Resource::Gpu) => "GPU",
            Some(Resource::Cpu) => "vCPU",
            Some(Resource::Memory) => "Memory",
            None => "Overhead",
        },
        "CommitmentDiscountId" | "CommitmentDiscountName" => unused.unwrap_or_default(),
        "CommitmentDiscountCategory" if unused.is_some() => "Usage",
        "CommitmentDiscountStatus" if unused.is_some() => "Unused",
        "CommitmentDiscountType" if unused.is_some() => "Price book commitment",
        _ => "",
    };
    text.to_owned()
}

fn method(row: &FocusRow) -> &'static str {
    match (row.kind, row.holder.is_empty()) {
        (LineKind::Shared, false) if row.resource_id.is_empty() => "distributed",
        (LineKind::Workload | LineKind::Shared, _) if row.resource == Some(Resource::Gpu) => "allocated GPU time",
        (LineKind::Workload | LineKind::Shared, _) => "max(request, usage)",
        (_, true) => "",
        (_, false) => "distributed",
    }
}

fn money(amount: Option<Money>) -> String {
    amount.map_or_else(String::new, |amount| amount.to_string())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn time(time_us: i64) -> String {
    let time = DateTime::from_timestamp_micros(time_us);
    time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}
