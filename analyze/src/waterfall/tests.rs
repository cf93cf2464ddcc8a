use proptest::{option, prelude::*};

use super::*;

fn priced(units: f64) -> Cost {
    Cost { list: Money::from_units(units), effective: Money::from_units(units), unpriced_hours: 0.0 }
}

#[test]
fn hours_and_money_of_each_step() {
    let cards = [
        // 168 h at 3.50 = 588.00.
        CardHours {
            paid: 168.0,
            telemetry: 168.0,
            allocated: Some(150.0),
            held: Some(120.0),
            busy: Some(40.0),
            productive: Some(10.0),
            cost: priced(588.0),
        },
        // 100 h at 1.00; 20 of them without telemetry; no productive activity known, and held not known either.
        CardHours {
            paid: 100.0,
            telemetry: 80.0,
            allocated: Some(100.0),
            busy: Some(30.0),
            cost: priced(100.0),
            ..CardHours::default()
        },
    ];
    let fall = waterfall(&cards);
    let steps: Vec<_> = fall.steps.iter().map(|step| (step.hours.unwrap(), step.cost.unwrap().to_text(2))).collect();
    // Allocated 150 x 3.50 + 100 = 625.00; held 120 x 3.50 + at least the 30 busy = 450.00; busy 140.00 + 30.00; productive 35.00.
    let texts = ["688.00", "625.00", "450.00", "170.00", "35.00"].map(str::to_owned);
    assert_eq!(steps, [268.0, 250.0, 150.0, 70.0, 10.0].into_iter().zip(texts).collect::<Vec<_>>());
    assert_eq!(fall.step(Rung::Held).coverage, Some(168.0 / 268.0));
    assert_eq!((fall.step(Rung::Busy).coverage, fall.lost_hours(Rung::Busy)), (Some(1.0), Some(80.0)));
    assert_eq!((fall.no_telemetry_hours, fall.no_telemetry_cost), (20.0, Some(Money::from_units(20.0))));
}

#[test]
fn unknown_steps_and_prices_stay_unknown() {
    let unpriced = Cost { unpriced_hours: 10.0, ..Cost::ZERO };
    let fall = waterfall(&[CardHours { paid: 10.0, busy: Some(4.0), cost: unpriced, ..CardHours::default() }]);
    assert_eq!((fall.step(Rung::Allocated).hours, fall.step(Rung::Allocated).coverage), (None, Some(0.0)));
    assert_eq!((fall.step(Rung::Busy).hours, fall.step(Rung::Busy).cost), (Some(4.0), None));
    assert_eq!((fall.step(Rung::Productive).hours, fall.lost_hours(Rung::Busy)), (None, Some(6.0)));
    assert_eq!((fall.no_telemetry_hours, fall.no_telemetry_cost), (10.0, None));
    let nothing = waterfall(&[]);
    assert_eq!((nothing.step(Rung::Paid).hours, nothing.step(Rung::Paid).coverage), (None, None));
}

#[test]
fn more_than_the_step_above_is_cut_and_said() {
    let card = CardHours { paid: 10.0, telemetry: 10.0, held: Some(12.0), busy: Some(11.0), ..CardHours::default() };
    let fall = waterfall(&[card]);
    assert_eq!(
        (fall.step(Rung::Held).hours, fall.step(Rung::Busy).hours, fall.cut_hours),
        (Some(10.0), Some(10.0), 3.0)
    );
}

fn cards() -> impl Strategy<Value = CardHours> {
    let hours = || option::of(0.0_f64..200.0);
    (0.0_f64..170.0, 0.0_f64..170.0, hours(), hours(), hours(), hours(), 0.0_f64..1e5).prop_map(
        |(paid, telemetry, allocated, held, busy, productive, cost)| CardHours {
            paid,
            telemetry,
            allocated,
            held,
            busy,
            productive,
            cost: priced(cost),
        },
    )
}

proptest! {
    #[test]
    fn no_step_is_larger_than_one_above_it(cards in prop::collection::vec(cards(), 0..20)) {
        let fall = waterfall(&cards);
        let hours: Vec<f64> = fall.steps.iter().filter_map(|step| step.hours).collect();
        prop_assert!(hours.windows(2).all(|pair| pair[0] >= pair[1] - 1e-9), "{hours:?}");
        let costs: Vec<Money> = fall.steps.iter().filter_map(|step| step.cost).collect();
        prop_assert!(costs.windows(2).all(|pair| pair[0] >= pair[1]), "{costs:?}");
        let paid: Money = cards.iter().filter(|card| card.paid > 0.0).map(|card| card.cost.effective).sum();
        prop_assert!(cards.is_empty() || costs[0] == paid);
        prop_assert!(fall.steps.iter().filter_map(|step| step.coverage).all(|part| (0.0..=1.0 + 1e-9).contains(&part)));
        for step in &fall.steps[1..] {
            prop_assert!(step.hours.is_some() || step.coverage.is_none_or(|part| part == 0.0), "{step:?}");
        }
    }
}
