//! Three small fleets; every number is derived in the comments.

use super::*;
use crate::{
    money::Money,
    price_book::{Charges, Item, Metered, PriceBook},
};

const HOUR_US: i64 = 3_600_000_000;

fn hours(start: i64, end: i64) -> Period {
    Period { start_us: start * HOUR_US, end_us: end * HOUR_US }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn holder(pairs: &[(&str, &str)]) -> Holder {
    Holder { labels: labels(pairs), shared: false }
}

fn hold(holder: &str, asset: &str, resource: Resource, period: Period, claim: Claim) -> Holding {
    Holding { holder: holder.into(), asset: asset.into(), resource, period, claim, source: "kubernetes".into() }
}

fn amount(request: Option<f64>, usage: Option<f64>) -> Claim {
    Claim::Amount { request, usage }
}

fn shared(busy: Option<f64>) -> Claim {
    Claim::Shared { weight: 1.0, busy }
}

/// Charges `parts` (name, item, quantity, period) of `host` and makes assets of them.
fn assets(book: &PriceBook, host: &str, window: Period, parts: &[(&str, Item, f64, Period)]) -> (Vec<Asset>, Charges) {
    let metered: Vec<Metered> = parts
        .iter()
        .map(|(_, item, quantity, period)| Metered {
            item: item.clone(),
            host: Some(host.into()),
            quantity: *quantity,
            period: *period,
        })
        .collect();
    let charges = book.charge(&metered, window);
    let assets = parts
        .iter()
        .zip(&charges.charges)
        .map(|((name, item, quantity, period), charge)| Asset {
            name: (*name).into(),
            resource: match item {
                Item::Gpu(_) => Resource::Gpu,
                Item::Vcpu => Resource::Cpu,
                Item::Gb => Resource::Memory,
            },
            capacity: *quantity,
            period: *period,
            cost: charge.cost,
            labels: labels(&[("host", host)]),
            source: "dcgm".into(),
        })
        .collect();
    (assets, charges)
}

fn cents(groups: &[Group]) -> Vec<(String, String)> {
    let rounded = round_groups(groups, 2);
    let text = |paid: Option<Money>| paid.map_or("unknown".to_owned(), |paid| paid.to_text(2));
    groups.iter().zip(rounded).map(|(group, paid)| (group.name.clone(), text(paid))).collect()
}

fn expect(groups: &[Group], expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    assert_eq!(cents(groups), expected);
}

/// A card shared by two services, requests and usage, idle CPU and memory.
fn fleet_of_two_services() -> Fleet {
    let text = "currency = \"USD\"\nvcpu_hour = 0.04\ngb_hour = 0.005\ngpu_hour = { H100 = 3.5 }";
    let (book, week) = (PriceBook::parse(text).unwrap(), hours(0, 168));
    // GPU 168 x 3.50 = 588.00; CPU 16 x 168 x 0.04 = 107.52; memory 128 x 168 x 0.005 = 107.52. Bill 803.04.
    let parts =
        [("g0", Item::Gpu("H100".into()), 1.0, week), ("h1", Item::Vcpu, 16.0, week), ("h1", Item::Gb, 128.0, week)];
    let (assets, _) = assets(&book, "h1", week, &parts);
    let half = hours(0, 84);
    Fleet {
        assets,
        holdings: vec![
            hold("chat-0", "g0", Resource::Gpu, week, shared(Some(0.5))),
            hold("embed-0", "g0", Resource::Gpu, half, shared(Some(0.1))),
            hold("chat-0", "h1", Resource::Cpu, week, amount(Some(4.0), Some(6.0))),
            hold("embed-0", "h1", Resource::Cpu, half, amount(Some(4.0), Some(2.0))),
            hold("chat-0", "h1", Resource::Memory, week, amount(Some(64.0), Some(50.0))),
            hold("embed-0", "h1", Resource::Memory, half, amount(None, Some(32.0))),
        ],
        holders: BTreeMap::from([
            ("chat-0".into(), holder(&[("service", "chat"), ("team", "a")])),
            ("embed-0".into(), holder(&[("service", "embed"), ("team", "a")])),
        ]),
        overhead: Vec::new(),
    }
}

#[test]
fn two_services_share_a_card() {
    let fleet = fleet_of_two_services();
    let allocation = allocate(&fleet, &Distributions::default()).unwrap();
    assert_eq!(allocation.bill.total(), Some(Money::from_units(803.04)));
    assert_eq!(allocation.notices, []);
    // Card: chat has half of 84 h and all of the next 84 h = 126 h x 3.50 = 441.00; embed 42 h x 3.50 = 147.00.
    // CPU:  chat max(4, 6) x 168 x 0.04 = 40.32; embed max(4, 2) x 84 x 0.04 = 13.44; idle 107.52 - 53.76 = 53.76.
    // Memory: chat max(64, 50) x 168 x 0.005 = 53.76; embed 32 x 84 x 0.005 = 13.44; idle 40.32.
    // chat 441.00 + 40.32 + 53.76 = 535.08; embed 147.00 + 13.44 + 13.44 = 173.88; idle 94.08; together 803.04.
    let services = group_by(&allocation.lines, "service");
    expect(&services, &[("chat", "535.08"), ("embed", "173.88"), (UNALLOCATED, "94.08")]);
    assert_eq!(services[0].hours[&Resource::Gpu], 126.0);
    expect(&group_by(&allocation.lines, "team"), &[("a", "708.96"), (UNALLOCATED, "94.08")]);
    expect(&group_by(&allocation.lines, "host"), &[("h1", "803.04"), (UNALLOCATED, "0.00")]);
}

#[test]
fn idle_follows_the_share_of_each_resource() {
    let distributions = Distributions { idle: Distribution::ByShare, ..Distributions::default() };
    let allocation = allocate(&fleet_of_two_services(), &distributions).unwrap();
    // Idle CPU 53.76 by 40.32 : 13.44 = 40.32 and 13.44; idle memory 40.32 by 53.76 : 13.44 = 32.256 and 8.064.
    // chat 535.08 + 72.576 = 607.656; embed 173.88 + 21.504 = 195.384. The cent goes to chat: 0.6 of it against 0.4.
    let services = group_by(&allocation.lines, "service");
    expect(&services, &[("chat", "607.66"), ("embed", "195.38"), (UNALLOCATED, "0.00")]);
    // The hours go with the cost: of the 16 x 168 vCPU-hours nobody holds any by itself.
    let vcpu_hours: f64 = services.iter().filter_map(|group| group.hours.get(&Resource::Cpu)).sum();
    assert!((vcpu_hours - 16.0 * 168.0).abs() < 1e-9, "{services:?}");
    // A distributed cost has left its host: 94.08.
    expect(&group_by(&allocation.lines, "host"), &[("h1", "708.96"), (UNALLOCATED, "94.08")]);
}

/// A node with one price, MIG slices, a system workload and a fee.
fn fleet_of_slices() -> Fleet {
    let text = "currency = \"EUR\"\nvcpu_hour = 0.1\ngb_hour = 0.01\ngpu_hour = { A100 = 6 }\nnode_hour = { h2 = 8 }";
    let (book, day) = (PriceBook::parse(text).unwrap(), hours(0, 24));
    // Parts at book prices: 1 x 6 + 20 x 0.1 + 200 x 0.01 = 10 an hour; the node costs 8, so each part 0.8 of it:
    // card 4.80 x 24 = 115.20, CPU 1.60 x 24 = 38.40, memory 38.40; node 192.00. With the fee of 2.40 the bill is 194.40.
    let parts =
        [("g0", Item::Gpu("A100".into()), 1.0, day), ("h2", Item::Vcpu, 20.0, day), ("h2", Item::Gb, 200.0, day)];
    let (assets, _) = assets(&book, "h2", day, &parts);
    let half = hours(12, 24);
    let slice = |sevenths: f64| Claim::Slice { fraction: sevenths / 7.0, busy: Some(0.5) };
    let fee = Cost { list: Money::from_units(2.4), effective: Money::from_units(2.4), unpriced_hours: 0.0 };
    Fleet {
        assets,
        holdings: vec![
            hold("a-0", "g0", Resource::Gpu, day, slice(3.0)),
            hold("b-0", "g0", Resource::Gpu, half, slice(2.0)),
            hold("dns-0", "h2", Resource::Cpu, day, amount(Some(4.0), Some(1.0))),
            hold("a-0", "h2", Resource::Cpu, day, amount(None, Some(8.0))),
            hold("dns-0", "h2", Resource::Memory, day, amount(Some(20.0), None)),
            hold("a-0", "h2", Resource::Memory, day, amount(Some(100.0), Some(10.0))),
            hold("b-0", "h2", Resource::Memory, half, amount(Some(20.0), None)),
        ],
        holders: BTreeMap::from([
            ("a-0".into(), holder(&[("namespace", "a")])),
            ("b-0".into(), holder(&[("namespace", "b")])),
            ("dns-0".into(), Holder { labels: labels(&[("namespace", "kube-system")]), shared: true }),
        ]),
        overhead: vec![Overhead { name: "control plane".into(), cost: fee }],
    }
}

#[test]
fn slices_of_a_node_with_one_price() {
    let allocation = allocate(&fleet_of_slices(), &Distributions::default()).unwrap();
    assert_eq!(allocation.bill.total(), Some(Money::from_units(194.4)));
    // Card: a 3/7 x 115.20 = 49.371429; b 2/7 x 12/24 x 115.20 = 16.457143; idle 49.371428 (the micro-units that are
    //   left over go to the largest remainders, b and then a).
    // CPU: system 4/20 x 38.40 = 7.68; a 8/20 = 15.36; idle 8/20 = 15.36.
    // Memory: system 20/200 = 3.84; a 100/200 = 19.20; b 20/200 x 1/2 = 1.92; idle 13.44.
    // a 83.931429, b 18.377143, system 11.52; idle 78.171428 + fee 2.40 = 80.571428. In cents the floors are
    // 83.93 + 18.37 + 11.52 + 80.57 = 194.39; the missing cent goes to b, which has 0.71 of it.
    let groups = group_by(&allocation.lines, "namespace");
    expect(&groups, &[("a", "83.93"), ("b", "18.38"), ("kube-system", "11.52"), (UNALLOCATED, "80.57")]);
    let card: Money = allocation
        .lines
        .iter()
        .filter(|line| line.asset.as_deref() == Some("g0"))
        .map(|line| line.cost.effective)
        .sum();
    assert_eq!(card, Money::from_units(115.2));
}

#[test]
fn shared_and_overhead_are_given_to_the_workloads() {
    let distributions = Distributions {
        idle: Distribution::None,
        shared: Distribution::Uniform,
        overhead: Distribution::ByMetric(BTreeMap::from([("a-0".into(), 3.0), ("b-0".into(), 1.0)])),
    };
    let allocation = allocate(&fleet_of_slices(), &distributions).unwrap();
    // System 7.68 + 3.84, half each: 5.76; fee 2.40 by 3 : 1: 1.80 and 0.60.
    // a 83.931429 + 5.76 + 1.80 = 91.491429; b 18.377143 + 5.76 + 0.60 = 24.737143; idle 78.171428; cent to b.
    let groups = group_by(&allocation.lines, "namespace");
    expect(&groups, &[("a", "91.49"), ("b", "24.74"), (UNALLOCATED, "78.17")]);
}

#[test]
fn training_jobs_under_a_commitment_with_a_card_without_price() {
    let text = "currency = \"USD\"\ngpu_hour = { L4 = 1.0 }\n[[commitment]]\nname = \"two L4\"\n\
                covers = { gpu = \"L4\" }\nquantity = 2\nhour = 0.5";
    let (book, window) = (PriceBook::parse(text).unwrap(), hours(0, 100));
    let l4 = || Item::Gpu("L4".into());
    // The third L4 vanishes at 60 h. Hours 0 to 60: (2 x 0.50 + 1 x 1.00) / 3 = 2/3 a card; then 0.50 a card.
    // g0 and g1: 60 x 2/3 + 40 x 0.50 = 60.00 each; g2: 40.00. Together 160.00 = 2 x 100 x 0.50 + 60 x 1.00.
    let parts = [
        ("g0", l4(), 1.0, window),
        ("g1", l4(), 1.0, window),
        ("g2", l4(), 1.0, hours(0, 60)),
        ("g3", Item::Gpu("another".into()), 1.0, window),
    ];
    let (mut assets, charges) = assets(&book, "h3", window, &parts);
    assert_eq!(charges.unused, []);
    // A second source sees g0 as well, for less time. It must not be paid twice.
    assets.push(Asset { source: "otel".into(), period: hours(0, 90), ..assets[0].clone() });
    let job = |holder: &str, card: &str, end: i64, busy| hold(holder, card, Resource::Gpu, hours(0, end), shared(busy));
    let twice = Holding { source: "slurm".into(), ..job("t1", "g0", 80, None) };
    let fleet = Fleet {
        assets,
        holdings: vec![
            job("t1", "g0", 80, Some(0.5)),
            twice,
            job("t1", "g1", 80, Some(0.5)),
            job("t2", "g2", 60, None),
            job("t2", "g3", 50, Some(0.2)),
        ],
        holders: BTreeMap::from([
            ("t1".into(), holder(&[("job", "train-1")])),
            ("t2".into(), holder(&[("job", "train-2")])),
        ]),
        overhead: Vec::new(),
    };
    let allocation = allocate(&fleet, &Distributions::default()).unwrap();
    assert_eq!((allocation.bill.total(), allocation.bill.effective), (None, Money::from_units(160.0)));
    assert_eq!(allocation.bill.unpriced_hours, 100.0);
    assert_eq!(
        allocation.notices,
        [Notice::TwoSources { asset: "g0".into(), kept: "dcgm".into(), dropped: "otel".into() }]
    );
    // train-1: 80/100 of 60.00, twice = 96.00; 160 h, half of them busy. train-2: 40.00 known and 50 h without a price;
    // 110 h, of the 50 whose use is known 0.2 busy = 10 h.
    let gpu_hours = |name: &str| {
        let of_job = allocation.lines.iter().filter(|line| line.labels.get("job").is_some_and(|job| job == name));
        of_job.fold((0.0, 0.0, 0.0), |sum, line| {
            (sum.0 + line.hours, sum.1 + line.used_hours, sum.2 + line.used_known_hours)
        })
    };
    assert_eq!(gpu_hours("train-1"), (160.0, 80.0, 160.0));
    assert_eq!(gpu_hours("train-2"), (110.0, 10.0, 50.0));
    // Idle: 12.00 + 12.00 and 50 h of the card without a price.
    let groups = group_by(&allocation.lines, "job");
    expect(&groups, &[("train-1", "96.00"), ("train-2", "unknown"), (UNALLOCATED, "unknown")]);
    assert_eq!(groups[1].cost.effective, Money::from_units(40.0), "of the card with a price");
    assert_eq!(groups[2].cost.effective, Money::from_units(24.0));
}
