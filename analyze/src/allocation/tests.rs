//! Bad and odd fleets.

use super::*;
use crate::money::Money;

const HOUR_US: i64 = 3_600_000_000;

fn hours(start: i64, end: i64) -> Period {
    Period { start_us: start * HOUR_US, end_us: end * HOUR_US }
}

fn asset(resource: Resource, capacity: f64) -> Asset {
    let cost = Cost { list: Money::from_units(10.0), effective: Money::from_units(10.0), unpriced_hours: 0.0 };
    let labels = Labels::new();
    Asset { name: "x".into(), resource, capacity, period: hours(0, 10), cost, labels, source: "dcgm".into() }
}

fn hold(holder: &str, resource: Resource, period: Period, claim: Claim) -> Holding {
    Holding { holder: holder.into(), asset: "x".into(), resource, period, claim, source: "kubernetes".into() }
}

fn fleet(asset: Asset, holdings: Vec<Holding>) -> Fleet {
    Fleet { assets: vec![asset], holdings, ..Fleet::default() }
}

/// Money by holder, idle as `-`.
fn paid(fleet: &Fleet) -> (Vec<(String, String)>, Vec<Notice>) {
    let allocation = allocate(fleet, &Distributions::default()).unwrap();
    let name = |line: &Line| line.holder.clone().unwrap_or_else(|| "-".into());
    (allocation.lines.iter().map(|line| (name(line), line.cost.effective.to_text(2))).collect(), allocation.notices)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect()
}

fn usage(units: f64) -> Claim {
    Claim::Amount { request: None, usage: Some(units) }
}

#[test]
fn sharers_get_what_slices_leave_by_weight() {
    let card = |holder, claim| hold(holder, Resource::Gpu, hours(0, 10), claim);
    // 10.00: a slice of 0.4 is 4.00; the rest of 6.00 by 2 : 1.
    let holdings = vec![
        card("a", Claim::Slice { fraction: 0.4, busy: None }),
        card("b", Claim::Shared { weight: 2.0, busy: None }),
        card("c", Claim::Shared { weight: 1.0, busy: None }),
    ];
    let (lines, notices) = paid(&fleet(asset(Resource::Gpu, 1.0), holdings));
    assert_eq!(lines, pairs(&[("a", "4.00"), ("b", "4.00"), ("c", "2.00")]));
    assert_eq!(notices, []);
}

#[test]
fn a_slice_that_another_source_sees_as_a_share_is_one_holding() {
    let slice = hold("a", Resource::Gpu, hours(0, 10), Claim::Slice { fraction: 0.5, busy: None });
    let share =
        Holding { claim: Claim::Shared { weight: 1.0, busy: Some(0.2) }, source: "dcgm".into(), ..slice.clone() };
    let (lines, _) = paid(&fleet(asset(Resource::Gpu, 1.0), vec![slice, share]));
    assert_eq!(lines, pairs(&[("a", "5.00"), ("-", "5.00")]));
}

#[test]
fn what_exceeds_the_asset_is_scaled_and_said() {
    let holdings =
        vec![hold("a", Resource::Cpu, hours(0, 10), usage(3.0)), hold("b", Resource::Cpu, hours(5, 10), usage(9.0))];
    // Hours 0 to 5: a 3 of 4. Hours 5 to 10: 3 and 9 of 4, scaled to 1 and 3. a 15 + 5 = 20, b 15, idle 5 of 40 vCPU-hours.
    let (lines, notices) = paid(&fleet(asset(Resource::Cpu, 4.0), holdings));
    assert_eq!(lines, pairs(&[("a", "5.00"), ("b", "3.75"), ("-", "1.25")]));
    assert_eq!(notices, [Notice::Overcommitted { asset: "x".into(), hours: 5.0 }]);
}

#[test]
fn lost_holdings_are_said_and_stay_idle() {
    let unknown = Claim::Amount { request: None, usage: None };
    let mut elsewhere = hold("c", Resource::Cpu, hours(0, 1), usage(1.0));
    elsewhere.asset = "gone".into();
    let holdings = vec![
        hold("a", Resource::Cpu, hours(0, 4), unknown),
        hold("b", Resource::Cpu, hours(8, 20), usage(4.0)),
        elsewhere,
    ];
    let (lines, notices) = paid(&fleet(asset(Resource::Cpu, 4.0), holdings));
    assert_eq!(lines, pairs(&[("a", "0.00"), ("b", "2.00"), ("-", "8.00")]));
    let outside =
        |holder: &str, asset: &str, hours| Notice::Outside { holder: holder.into(), asset: asset.into(), hours };
    let unknown = Notice::UnknownAmount { holder: "a".into(), asset: "x".into(), hours: 4.0 };
    assert_eq!(notices, [outside("b", "x", 10.0), unknown, outside("c", "gone", 1.0)]);
}

#[test]
fn nobody_to_charge_leaves_the_line() {
    let distributions = Distributions { idle: Distribution::Uniform, ..Distributions::default() };
    let allocation = allocate(&fleet(asset(Resource::Gpu, 1.0), Vec::new()), &distributions).unwrap();
    assert_eq!(allocation.notices, [Notice::NotDistributed { kind: LineKind::Idle }]);
    assert_eq!(allocation.lines[0].cost, allocation.bill);
    // A host of unknown size still has its cost.
    let (lines, _) = paid(&fleet(asset(Resource::Cpu, 0.0), Vec::new()));
    assert_eq!(lines, pairs(&[("-", "10.00")]));
}

#[test]
fn impossible_amounts_are_refused_by_name() {
    let refused = |asset: Asset, holdings| allocate(&fleet(asset, holdings), &Distributions::default()).unwrap_err();
    let ten = hours(0, 10);
    let share = |weight| Claim::Shared { weight, busy: None };
    for (error, part) in [
        (refused(asset(Resource::Cpu, f64::NAN), vec![]), "a capacity of NaN"),
        (refused(asset(Resource::Gpu, 8.0), vec![]), "an asset of its own"),
        (refused(Asset { period: Period::ALWAYS, ..asset(Resource::Cpu, 1.0) }, vec![]), "open or empty"),
        (
            refused(asset(Resource::Cpu, 1.0), vec![hold("a", Resource::Cpu, ten, usage(-1.0))]),
            "-1 of \"x\" as its usage",
        ),
        (refused(asset(Resource::Gpu, 1.0), vec![hold("a", Resource::Gpu, ten, share(0.0))]), "above 0"),
        (
            refused(asset(Resource::Gpu, 1.0), vec![hold("a", Resource::Gpu, ten, usage(0.5))]),
            "cards by slice or share",
        ),
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}
