//! What a kWh costs by hour of the week.

use chrono_tz::Tz;

use crate::{
    demand::HOUR_OF_WEEK_COUNT,
    price_book::PriceBook,
    window::{HOUR_US, local_hour_of_week},
};

/// Prices and carbon by hour of the week, in local time; none where unknown.
///
/// Both are per kWh of computers: the price book's values times its power usage effectiveness.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HourlyEnergy {
    price_per_kwh: Vec<Option<f64>>,
    carbon_g_per_kwh: Vec<Option<f64>>,
}

impl HourlyEnergy {
    /// Values by hour, Monday 00:00 first; hours that are not given are unknown.
    pub fn new(price_per_kwh: Vec<Option<f64>>, carbon_g_per_kwh: Vec<Option<f64>>) -> Self {
        Self { price_per_kwh, carbon_g_per_kwh }
    }

    /// What `book` says for the week from `start_us` (UTC microseconds) in `region`.
    ///
    /// Without a power usage effectiveness both are unknown: a guess of 1 would make every building perfect.
    pub fn from_book(book: &PriceBook, region: &str, zone: Tz, start_us: i64) -> Self {
        let (mut price, mut carbon) = (vec![None; HOUR_OF_WEEK_COUNT], vec![None; HOUR_OF_WEEK_COUNT]);
        // Backwards from the week after, which has the hour that a clock put forward leaves out.
        for hour in (0..2 * HOUR_OF_WEEK_COUNT as i64).rev() {
            let time_us = start_us + hour * HOUR_US;
            let Some(local) = local_hour_of_week(time_us, zone) else { continue };
            let pue = book.pue().at(time_us);
            price[local] = book.kwh().at(time_us).zip(pue).map(|(price, pue)| price * pue);
            let grams = book.carbon_intensity(region).and_then(|grams| grams.at(time_us));
            carbon[local] = grams.zip(pue).map(|(grams, pue)| grams * pue);
        }
        Self { price_per_kwh: price, carbon_g_per_kwh: carbon }
    }

    pub(super) fn price_per_kwh(&self, hour: usize) -> Option<f64> {
        self.price_per_kwh.get(hour).copied().flatten()
    }

    pub(super) fn carbon_g_per_kwh(&self, hour: usize) -> Option<f64> {
        self.carbon_g_per_kwh.get(hour).copied().flatten()
    }
}
