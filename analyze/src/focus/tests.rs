use super::*;
use crate::{
    allocation::{Asset, Claim, Distribution, Distributions, Fleet, Holder, Holding, Labels, Overhead, allocate},
    price_book::Metered,
};

const WEEK: Period = Period { start_us: 0, end_us: 168 * 3_600_000_000 };

fn book() -> PriceBook {
    PriceBook::parse(
        "currency = \"USD\"\nvcpu_hour = { list = 0.05, effective = 0.04 }\ngpu_hour = { L4 = 1.0 }\n\
         [[commitment]]\nname = \"two L4\"\ncovers = { gpu = \"L4\" }\nquantity = 2\nhour = 0.5",
    )
    .unwrap()
}

fn origin() -> Origin {
    Origin {
        billing_account: "fleet".into(),
        provider: "platform".into(),
        charge_period: WEEK,
        billing_period: WEEK,
        sub_account: "namespace".into(),
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// One L4 of two that are paid for, 16 vCPUs and a card without a price; a third of each is held by "=cmd".
fn fleet() -> Fleet {
    let items = [Item::Gpu("L4".into()), Item::Vcpu, Item::Gpu("another".into())];
    let quantities = [1.0, 16.0, 1.0];
    let metered: Vec<Metered> = items
        .iter()
        .zip(quantities)
        .map(|(item, quantity)| Metered { item: item.clone(), host: None, quantity, period: WEEK })
        .collect();
    let charges = book().charge(&metered, WEEK);
    let names = [("g0", Resource::Gpu, "L4"), ("h", Resource::Cpu, ""), ("g1", Resource::Gpu, "another")];
    let assets =
        names.iter().zip(quantities).zip(&charges.charges).map(|(((name, resource, model), capacity), charge)| {
            let labels = labels(&[("host", "h"), ("region", "north"), ("gpu_model", model)]);
            let (name, cost) = ((*name).to_owned(), charge.cost);
            Asset { name, resource: *resource, capacity, period: WEEK, cost, labels, source: "dcgm".into() }
        });
    let third = Period { start_us: 0, end_us: WEEK.end_us / 3 };
    let card = Claim::Shared { weight: 1.0, busy: Some(0.5) };
    let cpu = Claim::Amount { request: Some(16.0), usage: None };
    let hold = |asset: &str, resource, claim| Holding {
        holder: "=cmd".into(),
        asset: asset.into(),
        resource,
        period: third,
        claim,
        source: "kubernetes".into(),
    };
    let overhead = charges.unused.iter().map(|one| Overhead { name: one.name.clone(), cost: one.cost });
    Fleet {
        assets: assets.collect(),
        holdings: vec![hold("g0", Resource::Gpu, card), hold("h", Resource::Cpu, cpu), hold("g1", Resource::Gpu, card)],
        holders: BTreeMap::from([(
            "=cmd".into(),
            Holder { labels: labels(&[("namespace", "ns"), ("team", "a,\"b\"")]), shared: false },
        )]),
        overhead: overhead.collect(),
    }
}

fn of<'a>(rows: &'a [FocusRow], asset: &'a str) -> Vec<&'a FocusRow> {
    rows.iter().filter(|row| row.resource_id == asset).collect()
}

#[test]
fn rows_sum_to_the_origin_charge_with_its_dimensions_and_price() {
    let fleet = fleet();
    let allocation = allocate(&fleet, &Distributions::default()).unwrap();
    let rows = focus_rows(&allocation, &book(), &origin()).unwrap();
    for asset in fleet.assets.iter().filter(|asset| asset.name != "g1") {
        let rows = of(&rows, &asset.name);
        assert_eq!(rows.len(), 2);
        let sum = |pick: fn(&FocusRow) -> Option<Money>| rows.iter().map(|row| pick(row).unwrap()).sum::<Money>();
        assert_eq!(sum(|row| row.effective_cost), asset.cost.effective);
        assert_eq!(sum(|row| row.list_cost), asset.cost.list);
        for row in &rows {
            assert_eq!(
                (row.list_unit_price, &row.region, &row.sku),
                (rows[0].list_unit_price, &rows[0].region, &rows[0].sku)
            );
        }
        let hours: f64 = rows.iter().filter_map(|row| row.pricing_quantity).sum();
        assert!((hours - asset.capacity * 168.0).abs() < 1e-9);
    }
    // g0: 168 h at list 1.00, covered at 0.50 = 84.00; a third is 28.00, at list and contracted 56.00; half of 56 h busy.
    let row = of(&rows, "g0")[0];
    assert_eq!(
        (row.effective_cost, row.contracted_cost),
        (Some(Money::from_units(28.0)), Some(Money::from_units(56.0)))
    );
    assert_eq!((row.list_unit_price, row.consumed_quantity), (Some(1.0), Some(28.0)));
    assert_eq!((row.pricing_category, row.sub_account.as_str()), ("Committed", "ns"));
    // vCPU: 16 x 56 h x 0.04 = 35.84, negotiated; its use is not known.
    let row = of(&rows, "h")[0];
    assert_eq!((row.effective_cost, row.contracted_cost), (Some(Money::from_units(35.84)), row.effective_cost));
    assert_eq!((row.list_cost, row.consumed_quantity), (Some(Money::from_units(44.8)), None));
    // The second L4 was paid for and not used: 168 x 0.50 = 84.00.
    let unused = rows.iter().find(|row| row.unused_commitment.is_some()).unwrap();
    assert_eq!(
        (unused.effective_cost, unused.unused_commitment.as_deref()),
        (Some(Money::from_units(84.0)), Some("two L4"))
    );
}

#[test]
fn distributed_rows_still_sum_to_the_bill() {
    let mut fleet = fleet();
    fleet.assets.pop();
    let uniform = || Distribution::Uniform;
    let allocation =
        allocate(&fleet, &Distributions { idle: uniform(), shared: uniform(), overhead: uniform() }).unwrap();
    let rows = focus_rows(&allocation, &book(), &origin()).unwrap();
    assert_eq!(rows.iter().map(|row| row.effective_cost.unwrap()).sum::<Money>(), allocation.bill.effective);
    assert!(rows.iter().all(|row| row.holder == "=cmd"));
}

#[test]
fn csv_has_the_columns_and_leaves_the_unknown_empty() {
    let allocation = allocate(&fleet(), &Distributions::default()).unwrap();
    let rows = focus_rows(&allocation, &book(), &origin()).unwrap();
    let csv = to_csv(&rows, &origin(), book().currency);
    let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert_eq!((lines[0].split(',').count(), lines.len()), (COLUMNS.len(), 1 + rows.len()));
    assert!(lines[0].starts_with("BilledCost,BillingAccountId,") && COLUMNS[..46].is_sorted());
    let first = lines.iter().find(|line| line.contains(",g0,")).unwrap();
    assert!(
        first.starts_with("28.000000,fleet,fleet,USD,1970-01-08T00:00:00Z,1970-01-01T00:00:00Z,,,Usage,,"),
        "{first}"
    );
    assert!(first.contains(",'=cmd,workload,0"), "a formula is defused: {first}");
    assert!(first.contains(r#"""team"":""a,\""b\"""""#), "{first}");
    let unknown = lines.iter().find(|line| line.contains(",g1,")).unwrap();
    assert!(unknown.starts_with(",fleet,") && unknown.ends_with("workload,56"), "{unknown}");
    assert!(csv.contains(",two L4,two L4,Unused,"), "{csv}");
}

#[test]
fn a_charge_outside_of_its_bill_is_refused() {
    let short = Period { start_us: 0, end_us: WEEK.end_us / 2 };
    let error = focus_rows(&Allocation::default(), &book(), &Origin { billing_period: short, ..origin() }).unwrap_err();
    assert!(error.to_string().contains("[1970-01-01 .. 1970-01-04T12:00:00Z]"), "{error}");
}
