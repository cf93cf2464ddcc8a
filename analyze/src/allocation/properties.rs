//! COST-1 over random fleets.

use proptest::{option, prelude::*};

use super::*;
use crate::money::{Money, round_parts};

const DIMENSIONS: [&str; 6] = ["service", "team", "host", "gpu_model", "job", "nothing"];

fn periods() -> impl Strategy<Value = Period> {
    (0_i64..100_000, 1_i64..100_000)
        .prop_map(|(start, length)| Period { start_us: start * 1_000_003, end_us: (start + length) * 1_000_003 })
}

fn costs() -> impl Strategy<Value = Cost> {
    (0_i128..1_000_000_000_000, 0_i128..1_000_000_000_000, prop_oneof![Just(0.0), 0.0..500.0]).prop_map(
        |(list, effective, unpriced_hours)| Cost {
            list: Money::from_micros(list),
            effective: Money::from_micros(effective),
            unpriced_hours,
        },
    )
}

fn assets() -> impl Strategy<Value = Vec<Asset>> {
    let one = (0_usize..6, 0_usize..3, 0.0_f64..64.0, periods(), costs(), 0_usize..2);
    prop::collection::vec(one, 1..12).prop_map(|all| {
        let make = |(name, resource, size, period, cost, source): (usize, usize, f64, Period, Cost, usize)| {
            let resource = [Resource::Gpu, Resource::Cpu, Resource::Memory][resource];
            Asset {
                name: format!("asset-{name}"),
                resource,
                capacity: if resource == Resource::Gpu { 1.0 } else { size },
                period,
                cost,
                labels: Labels::from([("host".into(), format!("h{}", name % 2)), ("gpu_model".into(), "L4".into())]),
                source: ["dcgm", "otel"][source].into(),
            }
        };
        all.into_iter().map(make).collect()
    })
}

fn holdings() -> impl Strategy<Value = Vec<Holding>> {
    let part = || option::of(0.0_f64..=1.0);
    let one = (0_usize..5, 0_usize..7, 0_usize..4, periods(), 0.001_f64..1.0, part(), part(), 0_usize..2);
    prop::collection::vec(one, 0..30).prop_map(|all| {
        all.into_iter()
            .map(|(holder, asset, kind, period, fraction, a, b, source)| {
                let units = |part: Option<f64>| part.map(|part| part * 40.0);
                let amount = Claim::Amount { request: units(a), usage: units(b) };
                let (resource, claim) = match kind {
                    0 => (Resource::Gpu, Claim::Slice { fraction, busy: a }),
                    1 => (Resource::Gpu, Claim::Shared { weight: fraction * 10.0, busy: a }),
                    2 => (Resource::Cpu, amount),
                    _ => (Resource::Memory, amount),
                };
                let source = ["kubernetes", "slurm"][source].into();
                Holding {
                    holder: format!("w{holder}"),
                    asset: format!("asset-{asset}"),
                    resource,
                    period,
                    claim,
                    source,
                }
            })
            .collect()
    })
}

fn distributions() -> impl Strategy<Value = Distribution> {
    let metric = prop::collection::btree_map("w[0-6]", 0.0_f64..1e6, 0..5);
    prop_oneof![
        Just(Distribution::None),
        Just(Distribution::Uniform),
        Just(Distribution::ByShare),
        metric.prop_map(Distribution::ByMetric),
    ]
}

fn fleets() -> impl Strategy<Value = Fleet> {
    (assets(), holdings(), prop::collection::vec(costs(), 0..3)).prop_map(|(assets, holdings, overhead)| {
        let holder = |at: usize| {
            let labels = [("service", at % 2), ("team", at % 3), ("job", at)];
            // The last one has no labels at all; the first serves the others.
            let labels =
                labels.iter().filter(|_| at < 4).map(|(key, value)| ((*key).to_owned(), format!("{key}{value}")));
            (format!("w{at}"), Holder { labels: labels.collect(), shared: at == 0 })
        };
        let overhead = overhead.into_iter().map(|cost| Overhead { name: "fee".into(), cost }).collect();
        Fleet { assets, holdings, holders: (0..5).map(holder).collect(), overhead }
    })
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn lines_sum_to_the_bill_however_they_are_distributed_and_grouped(
        fleet in fleets(), idle in distributions(), shared in distributions(), overhead in distributions(),
    ) {
        let undistributed = allocate(&fleet, &Distributions::default()).unwrap();
        let allocation = allocate(&fleet, &Distributions { idle, shared, overhead }).unwrap();
        let sum: Cost = allocation.lines.iter().map(|line| line.cost).sum();
        prop_assert_eq!((sum.list, sum.effective), (allocation.bill.list, allocation.bill.effective));
        prop_assert!(close(sum.unpriced_hours, allocation.bill.unpriced_hours));
        let cents: Vec<Money> = allocation.lines.iter().map(|line| line.cost.effective).collect();
        prop_assert_eq!(round_parts(&cents, 2).into_iter().sum::<Money>(), allocation.bill.effective.rounded(2));
        for resource in [Resource::Gpu, Resource::Cpu, Resource::Memory] {
            let hours = |allocation: &Allocation| -> f64 {
                allocation.lines.iter().filter(|line| line.resource == Some(resource)).map(|line| line.hours).sum()
            };
            prop_assert!(close(hours(&allocation), hours(&undistributed)), "{resource:?}");
        }
        for dimension in DIMENSIONS {
            let groups = group_by(&allocation.lines, dimension);
            // What people read are cents; the groups they read sum to the bill in cents.
            let paid: Vec<Money> = groups.iter().map(|group| group.cost.effective).collect();
            prop_assert_eq!(round_parts(&paid, 2).into_iter().sum::<Money>(), allocation.bill.effective.rounded(2));
            prop_assert_eq!(&groups.last().unwrap().name, UNALLOCATED);
            let sum: Cost = groups.iter().map(|group| group.cost).sum();
            prop_assert_eq!((sum.list, sum.effective), (allocation.bill.list, allocation.bill.effective));
        }
    }

    #[test]
    fn parts_of_each_asset_sum_to_it_once(fleet in fleets()) {
        let allocation = allocate(&fleet, &Distributions::default()).unwrap();
        let mut assets: BTreeMap<(&str, Resource), Vec<&Asset>> = BTreeMap::new();
        for asset in &fleet.assets {
            assets.entry((&asset.name, asset.resource)).or_default().push(asset);
        }
        let mut bill: Cost = fleet.overhead.iter().map(|one| one.cost).sum();
        for ((name, resource), same) in assets {
            let of_asset = || allocation.lines.iter().filter(
                |line| line.asset.as_deref() == Some(name) && line.resource == Some(resource));
            let cost: Cost = of_asset().map(|line| line.cost).sum();
            let whole = same.iter().find(|one| (one.cost.list, one.cost.effective) == (cost.list, cost.effective));
            prop_assert!(whole.is_some(), "{name} costs {cost:?}, none of {same:?}");
            bill += whole.unwrap().cost;
            let hours: f64 = of_asset().map(|line| line.hours).sum();
            prop_assert!(same.iter().any(|one| close(hours, one.capacity * one.period.hours())), "{hours} {same:?}");
            prop_assert!(of_asset().all(|line| line.used_hours <= line.used_known_hours * (1.0 + 1e-9)));
            prop_assert!(of_asset().all(|line| line.used_known_hours <= line.hours * (1.0 + 1e-9)));
        }
        prop_assert_eq!(bill.effective, allocation.bill.effective);
    }
}
