//! What can be wrong in a price book.
#![expect(missing_docs, reason = "the messages name the fields")]

use super::Period;

/// A price book that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriceBookError {
    #[error("price book: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("price book: currency {code:?} is not an active ISO 4217 code; {hint}")]
    Currency { code: String, hint: String },
    #[error(
        "price book: {key} is {value}, it must be a number of at least {least}; leave the key out if it is not known"
    )]
    Number { key: String, value: f64, least: f64 },
    #[error(
        "price book: {key} = {text:?} is neither a date like \"2026-01-31\" nor a time like \"2026-01-31T12:00:00Z\""
    )]
    Time { key: &'static str, text: String },
    #[error("price book: the period {period} is empty; `until` must be later than `from`")]
    EmptyPeriod { period: Period },
    #[error(
        "price book: {key} has two prices in a part of [{first}] and [{second}]; end the first where the second starts, and keep it out of the top level, which holds always"
    )]
    Overlap { key: String, first: Period, second: Period },
    #[error("price book: [distribute] has an empty metric; name a stored metric that services have")]
    DistributeMetric,
    #[error("price book: two commitments are named {name:?}; give each its own name")]
    CommitmentName { name: String },
    #[error(
        "price book: commitment {name:?} covers what has no price for [{period}], so what is used above it could not be priced; add the price or give the commitment `from` and `until`"
    )]
    CommitmentWithoutPrice { name: String, period: Period },
    #[error(
        "price book: commitment {name:?} covers what has a list and an effective price for [{period}]; usage above a commitment is charged at list, so give one price"
    )]
    CommitmentWithTwoPrices { name: String, period: Period },
}
