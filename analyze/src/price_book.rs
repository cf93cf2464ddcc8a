//! What things cost: a TOML file that people keep.
//!
//! Invariant: a price that is not in the book, or not for a time, is unknown; it is never 0 and never guessed.

mod charge;
mod cost;
mod currency;
mod distribute;
mod error;
mod period;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

pub use charge::{Charge, Charges, Metered, UnusedCommitment};
pub use cost::Cost;
pub use currency::Currency;
pub use distribute::{Distribute, DistributeBy};
pub use error::PriceBookError;
pub use period::{Period, Timeline};
use text::{BookText, CoversText, PriceText, PricesText};

/// Prices, energy and carbon figures, and what hosts are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceBook {
    /// Currency of all prices.
    pub currency: Currency,
    gpu_hour: BTreeMap<String, Timeline<Price>>,
    vcpu_hour: Timeline<Price>,
    gb_hour: Timeline<Price>,
    node_hour: BTreeMap<String, Timeline<Price>>,
    kwh: Timeline<f64>,
    pue: Timeline<f64>,
    carbon: BTreeMap<String, Timeline<f64>>,
    commitments: Vec<Commitment>,
    text: BookText,
}

/// What is priced by the hour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// One GPU of a model.
    Gpu(String),
    /// One vCPU.
    Vcpu,
    /// One gigabyte (1e9 bytes) of memory.
    Gb,
}

/// Price of one unit for one hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Published price.
    pub list: f64,
    /// What is paid after negotiated discounts.
    pub effective: f64,
}

/// A quantity that is paid for whether used or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Commitment {
    /// Its name.
    pub name: String,
    /// What it covers; a GPU model in lower case.
    pub covers: Item,
    /// Units paid for.
    pub quantity: f64,
    /// Price of one unit for one hour.
    pub hour: f64,
    /// When it is paid.
    pub period: Period,
}

impl PriceBook {
    /// Reads a price book.
    ///
    /// # Errors
    /// [`PriceBookError`], which names the key and says what to do.
    pub fn parse(text: &str) -> Result<Self, PriceBookError> {
        let text: BookText = toml::from_str(text)?;
        let mut book = Self {
            currency: Currency::parse(&text.currency)?,
            gpu_hour: BTreeMap::new(),
            vcpu_hour: Timeline::EMPTY,
            gb_hour: Timeline::EMPTY,
            node_hour: BTreeMap::new(),
            kwh: Timeline::EMPTY,
            pue: Timeline::EMPTY,
            carbon: BTreeMap::new(),
            commitments: Vec::new(),
            text: text.clone(),
        };
        for (key, amounts) in [("vcpus", &text.vcpus), ("memory_gb", &text.memory_gb)] {
            for (host, amount) in amounts {
                number(&format!("{key}.{host:?}"), *amount, 0.0)?;
            }
        }
        book.add_prices(&text.always())?;
        for prices in &text.period {
            book.add_prices(prices)?;
        }
        book.add_commitments(&text)?;
        text.distribute.check()?;
        Ok(book)
    }

    fn add_prices(&mut self, text: &PricesText) -> Result<(), PriceBookError> {
        let period = Period::parse(text.from.as_deref(), text.until.as_deref())?;
        for (key, price, line) in
            [("vcpu_hour", text.vcpu_hour, &mut self.vcpu_hour), ("gb_hour", text.gb_hour, &mut self.gb_hour)]
        {
            if let Some(price) = price {
                line.insert(key, period, Price::read(key, price)?)?;
            }
        }
        for (key, value, least, line) in [("kwh", text.kwh, 0.0, &mut self.kwh), ("pue", text.pue, 1.0, &mut self.pue)]
        {
            if let Some(value) = value {
                line.insert(key, period, number(key, value, least)?)?;
            }
        }
        for (model, price) in &text.gpu_hour {
            let key = format!("gpu_hour.{model:?}");
            let price = Price::read(&key, *price)?;
            self.gpu_hour.entry(model.to_lowercase()).or_default().insert(&key, period, price)?;
        }
        for (host, price) in &text.node_hour {
            let key = format!("node_hour.{host:?}");
            let price = Price::read(&key, *price)?;
            self.node_hour.entry(host.clone()).or_default().insert(&key, period, price)?;
        }
        for (region, grams) in &text.carbon_g_per_kwh {
            let key = format!("carbon_g_per_kwh.{region:?}");
            let grams = number(&key, *grams, 0.0)?;
            self.carbon.entry(region.clone()).or_default().insert(&key, period, grams)?;
        }
        Ok(())
    }

    fn add_commitments(&mut self, text: &BookText) -> Result<(), PriceBookError> {
        for one in &text.commitment {
            let key = format!("commitment {:?}", one.name);
            if self.commitments.iter().any(|other| other.name == one.name) {
                return Err(PriceBookError::CommitmentName { name: one.name.clone() });
            }
            let covers = match &one.covers {
                CoversText::Vcpu => Item::Vcpu,
                CoversText::Gb => Item::Gb,
                CoversText::Gpu(model) => Item::Gpu(model.to_lowercase()),
            };
            let period = Period::parse(one.from.as_deref(), one.until.as_deref())?;
            for (part, price) in self.prices(&covers, period) {
                let Some(price) = price else {
                    return Err(PriceBookError::CommitmentWithoutPrice { name: one.name.clone(), period: part });
                };
                if price.list != price.effective {
                    return Err(PriceBookError::CommitmentWithTwoPrices { name: one.name.clone(), period: part });
                }
            }
            let quantity = number(&format!("{key} quantity"), one.quantity, 0.0)?;
            let hour = number(&format!("{key} hour"), one.hour, 0.0)?;
            self.commitments.push(Commitment { name: one.name.clone(), covers, quantity, hour, period });
        }
        Ok(())
    }

    /// Effective price of one hour of a GPU of `model`, compared without regard to case.
    ///
    /// None where it is unknown, changes with time ([`Self::prices`]) or depends on how many run because a commitment
    /// covers some ([`Self::charge`]).
    pub fn gpu(&self, model: &str) -> Option<f64> {
        self.constant(&Item::Gpu(model.to_lowercase()))
    }

    /// Effective price of one hour of all vCPUs of `host`; none as in [`Self::gpu`], and where the host has a price of its own.
    pub fn host(&self, host: &str) -> Option<f64> {
        if self.node_hour.contains_key(host) {
            return None;
        }
        Some(self.constant(&Item::Vcpu)? * self.vcpus(host)?)
    }

    /// Effective price of one hour of a vCPU; none as in [`Self::gpu`].
    pub fn vcpu(&self) -> Option<f64> {
        self.constant(&Item::Vcpu)
    }

    /// Effective price of one hour of a gigabyte (1e9 bytes) of memory; none as in [`Self::gpu`].
    pub fn gb(&self) -> Option<f64> {
        self.constant(&Item::Gb)
    }

    fn constant(&self, item: &Item) -> Option<f64> {
        let covered = self.commitments.iter().any(|commitment| commitment.covers == *item);
        self.line(item)?.constant().filter(|_| !covered).map(|price| price.effective)
    }

    /// Price of one unit-hour of `item` over `period`, cut where it changes; none in the parts where it is unknown.
    pub fn prices(&self, item: &Item, period: Period) -> Vec<(Period, Option<Price>)> {
        self.line(item).map_or_else(|| vec![(period, None)], |line| line.over(period))
    }

    /// Price of one hour of the whole of `host`.
    pub fn node(&self, host: &str) -> Option<&Timeline<Price>> {
        self.node_hour.get(host)
    }

    /// Price of one kWh.
    pub fn kwh(&self) -> &Timeline<f64> {
        &self.kwh
    }

    /// Energy of the building over energy of the computers (power usage effectiveness), at least 1.
    pub fn pue(&self) -> &Timeline<f64> {
        &self.pue
    }

    /// Carbon intensity of `region`, grams of CO2 equivalent per kWh.
    pub fn carbon_intensity(&self, region: &str) -> Option<&Timeline<f64>> {
        self.carbon.get(region)
    }

    /// Region of `host`: its own, otherwise that of the book.
    pub fn region(&self, host: &str) -> Option<&str> {
        self.text.host_region.get(host).or(self.text.region.as_ref()).map(String::as_str)
    }

    /// vCPUs of `host`, which telemetry does not tell.
    pub fn vcpus(&self, host: &str) -> Option<f64> {
        self.text.vcpus.get(host).copied()
    }

    /// Memory of `host`, gigabytes.
    pub fn memory_gb(&self, host: &str) -> Option<f64> {
        self.text.memory_gb.get(host).copied()
    }

    /// How costs that are nobody's by themselves are given to the workloads.
    pub fn distribute(&self) -> &Distribute {
        &self.text.distribute
    }

    /// What is paid whether used or not.
    pub fn commitments(&self) -> &[Commitment] {
        &self.commitments
    }

    fn line(&self, item: &Item) -> Option<&Timeline<Price>> {
        match item {
            Item::Gpu(model) => self.gpu_hour.get(&model.to_lowercase()),
            Item::Vcpu => Some(&self.vcpu_hour),
            Item::Gb => Some(&self.gb_hour),
        }
    }
}

impl Price {
    fn read(key: &str, text: PriceText) -> Result<Self, PriceBookError> {
        match text {
            PriceText::One(price) => {
                let price = number(key, price, 0.0)?;
                Ok(Self { list: price, effective: price })
            }
            PriceText::Two(two) => Ok(Self {
                list: number(&format!("{key}.list"), two.list, 0.0)?,
                effective: number(&format!("{key}.effective"), two.effective, 0.0)?,
            }),
        }
    }
}

fn number(key: &str, value: f64, least: f64) -> Result<f64, PriceBookError> {
    let in_range = value.is_finite() && value >= least;
    if in_range { Ok(value) } else { Err(PriceBookError::Number { key: key.to_owned(), value, least }) }
}

impl Serialize for PriceBook {
    /// As it stands in the file, so that a report records what it was computed with.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}
