//! Why a week cost more or less than the week before.
//!
//! The difference is cut into effects that sum to it exactly. With q the hours and p the price of each kind of card,
//! Q = Σq, p̄ the mean price of the week before, and W the work done (requests or tokens):
//!
//! | effect | formula | question |
//! |---|---|---|
//! | volume | (W₁ − W₀) · Q₀/W₀ · p̄₀ | was there more work? |
//! | utilisation | (Q₁ − W₁ · Q₀/W₀) · p̄₀ | were more hours held for the same work? |
//! | mix | Σ p₀ · (q₁ − q₀ · Q₁/Q₀) | were dearer cards used? |
//! | price | Σ q₁ · (p₁ − p₀) | did the same card cost more? |
//!
//! Without the work, volume is (Q₁ − Q₀) · p̄₀ and utilisation is unknown.

use std::collections::BTreeMap;

use crate::money::Money;

/// Hours of one kind of thing, such as one GPU model, and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bought {
    /// Unit-hours.
    pub hours: f64,
    /// Their cost; `None` is unknown.
    pub cost: Option<Money>,
}

/// One week.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Week {
    /// By kind.
    pub bought: BTreeMap<String, Bought>,
    /// Work done: requests or tokens, the same in both weeks; `None` is unknown.
    pub work: Option<f64>,
}

/// The difference of two weeks and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Cost of the week less that of the week before; the effects sum to it.
    pub difference: Money,
    /// More or less work; without the work, more or less hours.
    pub volume: Money,
    /// More or less hours for the same work; none where the work is unknown or was zero.
    pub utilisation: Option<Money>,
    /// Other kinds of cards.
    pub mix: Money,
    /// Other prices.
    pub price: Money,
}

/// Why a difference cannot be explained.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoChange {
    /// There is nothing to compare with.
    #[error("the week before has no hours")]
    NothingBefore,
    /// A cost is unknown.
    #[error("{kind:?} has no price in {week}")]
    UnknownPrice {
        /// The kind of card.
        kind: String,
        /// Which week.
        week: &'static str,
    },
}

/// Explains the difference between two weeks.
///
/// A kind that is in one week only has no other price: it counts as mix. Effects are rounded to micro-units and mix takes
/// what is left, so that they sum to the difference exactly.
///
/// # Errors
/// [`NoChange`] where a price is unknown or the week before is empty.
pub fn change(now: &Week, before: &Week) -> Result<Change, NoChange> {
    let (cost_now, cost_before) = (total(now, "this week")?, total(before, "the week before")?);
    let (hours_now, hours_before) = (hours(now), hours(before));
    if hours_before <= 0.0 {
        return Err(NoChange::NothingBefore);
    }
    let mean_price = cost_before.units() / hours_before;
    let mut price = 0.0;
    for (kind, bought) in &now.bought {
        let same_before = before.bought.get(kind).and_then(|before| unit_price(*before));
        if let (Some(price_now), Some(price_before)) = (unit_price(*bought), same_before) {
            price += bought.hours * (price_now - price_before);
        }
    }
    let works = now.work.zip(before.work).filter(|(now, before)| now.is_finite() && *now >= 0.0 && *before > 0.0);
    let (volume, utilisation) = match works {
        Some((work_now, work_before)) => {
            let hours_for_work = work_now * hours_before / work_before;
            let volume = (hours_for_work - hours_before) * mean_price;
            (volume, Some(Money::from_units((hours_now - hours_for_work) * mean_price)))
        }
        None => ((hours_now - hours_before) * mean_price, None),
    };
    let (difference, volume, price) = (cost_now - cost_before, Money::from_units(volume), Money::from_units(price));
    let mix = difference - volume - price - utilisation.unwrap_or(Money::ZERO);
    Ok(Change { difference, volume, utilisation, mix, price })
}

fn total(week: &Week, name: &'static str) -> Result<Money, NoChange> {
    let cost = |(kind, bought): (&String, &Bought)| {
        let nothing = (bought.hours <= 0.0).then_some(Money::ZERO);
        bought.cost.or(nothing).ok_or_else(|| NoChange::UnknownPrice { kind: kind.clone(), week: name })
    };
    week.bought.iter().map(cost).sum::<Result<Money, _>>()
}

fn hours(week: &Week) -> f64 {
    week.bought.values().map(|bought| bought.hours).sum()
}

fn unit_price(bought: Bought) -> Option<f64> {
    (bought.hours > 0.0).then_some(bought.cost?.units() / bought.hours)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn week(work: Option<f64>, kinds: &[(&str, f64, f64)]) -> Week {
        let bought = kinds.iter().map(|(kind, hours, price)| {
            let cost = Some(Money::from_units(hours * price));
            ((*kind).to_owned(), Bought { hours: *hours, cost })
        });
        Week { bought: bought.collect(), work }
    }

    fn texts(change: &Change) -> [String; 5] {
        let utilisation = change.utilisation.map_or("unknown".to_owned(), |money| money.to_text(2));
        let text = |money: Money| money.to_text(2);
        [text(change.difference), text(change.volume), utilisation, text(change.mix), text(change.price)]
    }

    #[test]
    fn four_effects_by_hand() {
        // Before: 100 h L4 at 1.00 and 100 h H100 at 3.00 = 400.00; mean 2.00; 1 000 requests, 0.2 h each.
        let before = week(Some(1000.0), &[("L4", 100.0, 1.0), ("H100", 100.0, 3.0)]);
        // Now: 60 h L4 at 1.00 and 180 h H100 at 3.50 = 690.00; 1 100 requests.
        let now = week(Some(1100.0), &[("L4", 60.0, 1.0), ("H100", 180.0, 3.5)]);
        // Volume: 100 x 0.2 h x 2.00 = 40.00. Utilisation: 240 h - 220 h = 20 h x 2.00 = 40.00.
        // Mix: 1.00 x (60 - 120) + 3.00 x (180 - 120) = 120.00. Price: 180 h x 0.50 = 90.00. Together 290.00.
        assert_eq!(texts(&change(&now, &before).unwrap()), ["290.00", "40.00", "40.00", "120.00", "90.00"]);
        // Without the work the 40 h more are volume: 80.00.
        let unknown = change(&Week { work: None, ..now }, &before).unwrap();
        assert_eq!(texts(&unknown), ["290.00", "80.00", "unknown", "120.00", "90.00"]);
    }

    #[test]
    fn a_new_kind_is_mix_and_has_no_price_effect() {
        // 10 h at 1.00 become 10 h at 4.00 of another card.
        let change = change(&week(None, &[("B200", 10.0, 4.0)]), &week(None, &[("L4", 10.0, 1.0)])).unwrap();
        assert_eq!(texts(&change), ["30.00", "0.00", "unknown", "30.00", "0.00"]);
    }

    #[test]
    fn what_cannot_be_explained_says_why() {
        let known = week(None, &[("L4", 10.0, 1.0)]);
        let mut unpriced = known.clone();
        unpriced.bought.insert("X".into(), Bought { hours: 1.0, cost: None });
        assert_eq!(change(&unpriced, &known).unwrap_err().to_string(), "\"X\" has no price in this week");
        assert!(change(&known, &unpriced).unwrap_err().to_string().contains("the week before"));
        assert_eq!(change(&known, &Week::default()), Err(NoChange::NothingBefore));
    }

    fn weeks() -> impl Strategy<Value = Week> {
        let kind = ("[a-d]", (0.0_f64..1e4, 0.0_f64..10.0));
        (prop::option::of(0.0_f64..1e6), prop::collection::vec(kind, 0..5)).prop_map(|(work, kinds)| {
            let kinds: Vec<(&str, f64, f64)> = kinds.iter().map(|(kind, (h, p))| (kind.as_str(), *h, *p)).collect();
            week(work, &kinds)
        })
    }

    proptest! {
        #[test]
        fn effects_sum_to_the_difference_and_mix_is_its_formula(now in weeks(), before in weeks()) {
            if let Ok(change) = change(&now, &before) {
                let effects = change.volume + change.utilisation.unwrap_or(Money::ZERO) + change.mix + change.price;
                prop_assert_eq!(effects, change.difference);
                let (hours_now, hours_before) = (hours(&now), hours(&before));
                let kinds = now.bought.keys().chain(before.bought.keys()).collect::<std::collections::BTreeSet<_>>();
                let mix: f64 = kinds.into_iter().map(|kind| {
                    let of = |week: &Week| week.bought.get(kind).copied().unwrap_or_default();
                    let price = unit_price(of(&before)).or(unit_price(of(&now))).unwrap_or(0.0);
                    price * (of(&now).hours - of(&before).hours * hours_now / hours_before)
                }).sum();
                prop_assert!((change.mix.units() - mix).abs() < 1e-3 + mix.abs() * 1e-9, "{} {mix}", change.mix);
            }
        }
    }
}
