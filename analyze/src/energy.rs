//! Energy, and the carbon and money of it.
//!
//! Energy comes from counters of joules; mean power times time stands in where there is no counter, and is said to.
//! Carbon is joules × PUE × intensity of the region (CodeCarbon), cost is joules × PUE × price of a kWh.

use crate::{
    money::Money,
    price_book::{Period, PriceBook, Timeline},
};

const JOULES_PER_KWH: f64 = 3.6e6;
const US_PER_SECOND: f64 = 1e6;

/// How energy was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnergySource {
    /// Increases of a counter of joules.
    Counter,
    /// Mean power times time: what happens between two samples is not seen.
    MeanPower,
}

/// Energy in a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// Joules; nothing is added for the part that is not covered.
    pub joules: f64,
    /// How they were found.
    pub source: EnergySource,
    /// Part of the window that they cover, 0 to 1.
    pub coverage: f64,
    /// Times the counter started again.
    pub reset_count: u32,
}

/// One sample: UTC microseconds and the value.
pub type Sample = (i64, f64);

/// Energy in `window` from a counter of joules, otherwise from power in watts; none where both have less than two samples.
///
/// Samples are in order of time; those outside of the window, out of order or not finite are left out. Two samples of
/// power that are more than `gap_us_max` apart say nothing about the time between them; a counter does.
pub fn energy(counter: &[Sample], power: &[Sample], window: Period, gap_us_max: i64) -> Option<Energy> {
    from_counter(counter, window).or_else(|| from_power(power, window, gap_us_max))
}

fn from_counter(samples: &[Sample], window: Period) -> Option<Energy> {
    let (mut joules, mut covered_us, mut reset_count) = (0.0, 0, 0);
    for ((from_us, before), (until_us, after)) in steps(samples, window) {
        if after >= before {
            joules += after - before;
        } else {
            // It started again from 0: what it counted before that moment and after the sample is lost.
            joules += after;
            reset_count += 1;
        }
        covered_us += until_us - from_us;
    }
    measured(joules, EnergySource::Counter, covered_us, reset_count, window)
}

fn from_power(samples: &[Sample], window: Period, gap_us_max: i64) -> Option<Energy> {
    let (mut joules, mut covered_us) = (0.0, 0);
    for ((from_us, before), (until_us, after)) in steps(samples, window) {
        if until_us - from_us <= gap_us_max {
            joules += (before + after) / 2.0 * (until_us - from_us) as f64 / US_PER_SECOND;
            covered_us += until_us - from_us;
        }
    }
    measured(joules, EnergySource::MeanPower, covered_us, 0, window)
}

fn measured(joules: f64, source: EnergySource, covered_us: i64, reset_count: u32, window: Period) -> Option<Energy> {
    let window_us = window.end_us as f64 - window.start_us as f64;
    (covered_us > 0).then(|| Energy { joules, source, coverage: covered_us as f64 / window_us, reset_count })
}

/// Pairs of neighbours among the samples that can be used.
fn steps(samples: &[Sample], window: Period) -> Vec<(Sample, Sample)> {
    let mut pairs = Vec::with_capacity(samples.len());
    let mut last: Option<Sample> = None;
    // The sample at the very end closes the window.
    let inside = |time_us: i64| window.contains(time_us) || time_us == window.end_us;
    for sample in samples.iter().filter(|(time_us, value)| inside(*time_us) && value.is_finite() && *value >= 0.0) {
        match last {
            Some(before) if sample.0 <= before.0 => continue,
            Some(before) => pairs.push((before, *sample)),
            None => {}
        }
        last = Some(*sample);
    }
    pairs
}

/// Why there is no figure.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoFootprint {
    /// A key of the price book is missing for a time.
    #[error("{key} is unknown for [{period}]; add it to the price book")]
    Unknown {
        /// The key.
        key: String,
        /// When.
        period: Period,
    },
    /// The book does not say where the host is.
    #[error("the region is unknown; add `region` or `host_region` to the price book")]
    NoRegion,
}

/// What energy costs and emits.
#[derive(Debug, Clone, PartialEq)]
pub struct Footprint {
    /// Energy of the computers, kWh.
    pub kwh: f64,
    /// The same with cooling and losses of the building (× PUE), kWh.
    pub facility_kwh: Result<f64, NoFootprint>,
    /// Grams of CO2 equivalent.
    pub carbon_g: Result<f64, NoFootprint>,
    /// Cost of the energy of the building.
    pub cost: Result<Money, NoFootprint>,
}

/// Carbon and cost of `energy` in `region` over `window`.
///
/// Where PUE, price or intensity change within the window the energy is taken as spread evenly over it.
pub fn footprint(energy: &Energy, book: &PriceBook, region: Option<&str>, window: Period) -> Footprint {
    let kwh = energy.joules / JOULES_PER_KWH;
    let empty = Timeline::EMPTY;
    let carbon_g = region.ok_or(NoFootprint::NoRegion).and_then(|region| {
        let key = format!("carbon_g_per_kwh.{region:?}");
        mean_with_pue(book, &key, book.carbon_intensity(region).unwrap_or(&empty), window)
    });
    let cost = mean_with_pue(book, "kwh", book.kwh(), window);
    Footprint {
        kwh,
        facility_kwh: mean(book.pue().over(window), "pue", window).map(|pue| kwh * pue),
        carbon_g: carbon_g.map(|grams| kwh * grams),
        cost: cost.map(|price| Money::from_units(kwh * price)),
    }
}

/// Mean over `window` of PUE times the value of `line`.
fn mean_with_pue(book: &PriceBook, key: &str, line: &Timeline<f64>, window: Period) -> Result<f64, NoFootprint> {
    let mut products = Vec::new();
    for (period, pue) in book.pue().over(window) {
        let pue = pue.ok_or_else(|| NoFootprint::Unknown { key: "pue".to_owned(), period })?;
        products.extend(line.over(period).into_iter().map(|(part, value)| (part, value.map(|value| pue * value))));
    }
    mean(products, key, window)
}

fn mean(parts: Vec<(Period, Option<f64>)>, key: &str, window: Period) -> Result<f64, NoFootprint> {
    let mut sum = 0.0;
    for (period, value) in parts {
        sum += value.ok_or_else(|| NoFootprint::Unknown { key: key.to_owned(), period })? * period.hours();
    }
    Ok(sum / window.hours())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;
    const WINDOW: Period = Period { start_us: 0, end_us: 4 * HOUR_US };

    fn at(hour: i64, value: f64) -> Sample {
        (hour * HOUR_US, value)
    }

    #[test]
    fn a_counter_is_preferred_and_its_resets_are_counted() {
        // 1 to 3 MJ is 2 MJ; then it starts again and shows 0.5 MJ; 4 h of 4 h covered although a sample is missing.
        let counter = [at(0, 1e6), at(2, 3e6), at(3, 0.5e6), at(3, 9e6), (3 * HOUR_US + 1, f64::NAN), at(4, 1.6e6)];
        let found = energy(&counter, &[at(0, 1.0), at(4, 1.0)], WINDOW, HOUR_US).unwrap();
        let expected = Energy { joules: 3.6e6, source: EnergySource::Counter, coverage: 1.0, reset_count: 1 };
        assert_eq!(found, expected);
    }

    #[test]
    fn power_stands_in_and_gaps_are_not_filled() {
        // 300 W for the first hour, 300 to 500 W in the second, then a gap of two hours: 1.08 MJ + 1.44 MJ.
        let power = [at(0, 300.0), at(1, 300.0), at(2, 500.0), at(4, 500.0)];
        let found = energy(&[at(0, 5.0)], &power, WINDOW, HOUR_US).unwrap();
        assert_eq!((found.joules, found.source, found.coverage), (2.52e6, EnergySource::MeanPower, 0.5));
        assert_eq!(energy(&[], &[at(9, 1.0), at(10, 1.0)], WINDOW, HOUR_US), None, "outside of the window");
    }

    fn one_kwh() -> Energy {
        Energy { joules: 3.6e6, source: EnergySource::Counter, coverage: 1.0, reset_count: 0 }
    }

    #[test]
    fn carbon_and_cost_follow_the_book() {
        let text = "currency = \"EUR\"\nkwh = 0.25\npue = 1.2\ncarbon_g_per_kwh = { north = 30 }\n[[period]]\n\
                    until = \"1970-01-01T01:00:00Z\"\ncarbon_g_per_kwh = { home = 100 }\n[[period]]\n\
                    from = \"1970-01-01T01:00:00Z\"\ncarbon_g_per_kwh = { home = 500 }";
        let book = PriceBook::parse(text).unwrap();
        let print = footprint(&one_kwh(), &book, Some("north"), WINDOW);
        // 1 kWh x 1.2 x 30 g = 36 g; 1 kWh x 1.2 x 0.25 = 0.30.
        assert!((print.carbon_g.unwrap() - 36.0).abs() < 1e-9 && (print.facility_kwh.unwrap() - 1.2).abs() < 1e-9);
        assert_eq!(print.cost, Ok(Money::from_units(0.3)));
        // One hour of four at 100 g, three at 500 g: 400 g x 1.2 = 480 g.
        let home = footprint(&one_kwh(), &book, Some("home"), WINDOW).carbon_g.unwrap();
        assert!((home - 480.0).abs() < 1e-9, "{home}");
    }

    #[test]
    fn what_the_book_does_not_say_is_unknown_with_the_key() {
        let book = PriceBook::parse("currency = \"EUR\"\npue = 1.2").unwrap();
        let print = footprint(&one_kwh(), &book, None, WINDOW);
        assert_eq!((print.kwh, print.carbon_g), (1.0, Err(NoFootprint::NoRegion)));
        assert!(
            print.cost.unwrap_err().to_string().contains("kwh is unknown for [1970-01-01 .. 1970-01-01T04:00:00Z]")
        );
        let home = footprint(&one_kwh(), &book, Some("home"), WINDOW).carbon_g.unwrap_err().to_string();
        assert!(home.contains("carbon_g_per_kwh.\"home\" is unknown"), "{home}");
        let no_pue = PriceBook::parse("currency = \"EUR\"\nkwh = 0.2").unwrap();
        assert!(footprint(&one_kwh(), &no_pue, None, WINDOW).cost.unwrap_err().to_string().contains("pue is unknown"));
    }
}
