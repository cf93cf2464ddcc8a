//! What an hour costs: a TOML file that people keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Prices. What has none is "unknown" in every report, never 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceBook {
    /// Currency of all prices, such as `USD`.
    pub currency: String,
    /// Price of one GPU-hour by GPU model, compared without regard to case.
    #[serde(default)]
    pub gpu_hour: BTreeMap<String, f64>,
    /// Price of one vCPU-hour.
    #[serde(default)]
    pub vcpu_hour: Option<f64>,
    /// vCPUs by host name, which telemetry does not tell.
    #[serde(default)]
    pub vcpus: BTreeMap<String, f64>,
}

impl PriceBook {
    /// Reads a price book.
    ///
    /// # Errors
    /// [`Error::PriceBook`] if the text is not one; [`Error::Price`] for a negative or infinite price.
    pub fn parse(text: &str) -> Result<Self> {
        let book: Self = toml::from_str(text)?;
        let vcpu = book.vcpu_hour.map(|price| ("vcpu_hour".to_owned(), price));
        let named = book.gpu_hour.iter().chain(&book.vcpus).map(|(name, price)| (name.clone(), *price)).chain(vcpu);
        for (name, value) in named {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::Price { name, value });
            }
        }
        Ok(book)
    }

    /// Price of one hour of `model`.
    pub fn gpu(&self, model: &str) -> Option<f64> {
        self.gpu_hour.iter().find(|(name, _)| name.eq_ignore_ascii_case(model)).map(|(_, price)| *price)
    }

    /// Price of one hour of all vCPUs of `host`.
    pub fn host(&self, host: &str) -> Option<f64> {
        Some(self.vcpu_hour? * self.vcpus.get(host)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_price_book() {
        let book = PriceBook::parse(include_str!("../prices.example.toml")).unwrap();
        assert_eq!(book.gpu("nvidia h100 80gb hbm3"), Some(3.5));
        assert_eq!(book.gpu("another"), None);
        assert_eq!(book.host("gpu-host-01"), Some(96.0 * 0.04));
        assert_eq!(book.host("another"), None);
    }

    #[test]
    fn a_price_is_a_number_that_is_not_negative() {
        assert!(PriceBook::parse("currency = \"USD\"\ngpu_hour = { x = -1.0 }").is_err());
        assert!(PriceBook::parse("currency = \"USD\"\nvcpu_hour = nan").is_err());
        assert!(PriceBook::parse("currency = \"USD\"\ngpu_hours = {}").is_err());
    }
}
