//! Price books as people write them, and charges derived by hand.

use super::*;
use crate::money::Money;

const HOUR_US: i64 = 3_600_000_000;

fn hours(start: i64, end: i64) -> Period {
    Period { start_us: start * HOUR_US, end_us: end * HOUR_US }
}

fn book(text: &str) -> PriceBook {
    PriceBook::parse(&format!("currency = \"USD\"\n{text}")).unwrap()
}

fn refused(text: &str) -> String {
    PriceBook::parse(&format!("currency = \"USD\"\n{text}")).unwrap_err().to_string()
}

fn metered(item: Item, quantity: f64, period: Period) -> Metered {
    Metered { item, host: Some("h".into()), quantity, period }
}

fn gpu(model: &str) -> Item {
    Item::Gpu(model.into())
}

fn effective(charges: &Charges) -> Vec<Money> {
    charges.charges.iter().map(|charge| charge.cost.effective).collect()
}

fn units(values: &[f64]) -> Vec<Money> {
    values.iter().map(|value| Money::from_units(*value)).collect()
}

#[test]
fn the_examples_are_price_books() {
    let book = PriceBook::parse(include_str!("../../prices.example.toml")).unwrap();
    assert_eq!((book.gpu("nvidia h100 80gb hbm3"), book.gpu("another")), (Some(3.5), None));
    assert_eq!((book.host("gpu-host-01"), book.host("another")), (Some(96.0 * 0.04), None));
    assert_eq!(book.currency.as_str(), "USD");
    let demo = PriceBook::parse(include_str!("../../../src/demo/prices.toml")).unwrap();
    assert_eq!(demo.gpu("NVIDIA H100 80GB HBM3 (simulated)"), Some(3.5));
}

#[test]
fn a_key_that_is_wrong_is_named_with_what_to_do() {
    for (text, parts) in [
        ("gpu_hour = { x = -1.0 }", ["gpu_hour.\"x\" is -1", "leave the key out"]),
        ("vcpu_hour = nan", ["vcpu_hour is NaN", "number"]),
        ("gpu_hours = {}", ["unknown field `gpu_hours`", "line 2"]),
        ("vcpu_hour = \"4 cents\"", ["a price is a number, or { list", "line 2"]),
        ("[distribute]\nidle = \"half\"", ["unknown variant `half`", "`share`"]),
        ("[distribute]\nrest = \"share\"", ["unknown field `rest`", "`overhead`"]),
        ("[distribute]\nidle = { metric = \" \" }", ["[distribute] has an empty metric", "name a stored metric"]),
        ("pue = 0.9", ["pue is 0.9", "at least 1"]),
        ("[memory_gb]\nh = -1", ["memory_gb.\"h\" is -1", "at least 0"]),
        ("[gpu_hour]\nL4 = { list = 1.0 }", ["list", "effective"]),
        ("[[period]]\nfrom = \"soon\"\nvcpu_hour = 1", ["from = \"soon\"", "2026-01-31"]),
        ("[[period]]\nfrom = \"2026-02-01\"\nuntil = \"2026-01-01\"", ["2026-02-01 .. 2026-01-01", "later"]),
    ] {
        let message = refused(text);
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
    }
}

#[test]
fn who_pays_for_what_nobody_holds_is_recorded_as_it_is_read() {
    let text = "[distribute]\nidle = \"share\"\noverhead = { metric = \"bytes.sent\" }";
    let distribute = book(text).distribute().clone();
    assert_eq!((distribute.idle.as_ref(), distribute.shared.as_ref()), (Some(&DistributeBy::Share), None));
    assert_eq!(distribute.metrics().collect::<Vec<_>>(), ["bytes.sent"]);
    let recorded = serde_json::to_value(book(text)).unwrap();
    assert_eq!(recorded["distribute"], serde_json::json!({"idle": "share", "overhead": {"metric": "bytes.sent"}}));
    assert!(serde_json::to_value(book("vcpu_hour = 1")).unwrap().get("distribute").is_none());
}

#[test]
fn overlaps_name_both_and_gaps_are_unknown_from_until() {
    let message = refused(
        "[[period]]\nuntil = \"2026-02-01\"\ngpu_hour = { L4 = 1 }\n[[period]]\nfrom = \"2026-01-15\"\ngpu_hour = { l4 = 2 }",
    );
    assert!(message.contains("gpu_hour.\"l4\"") && message.contains("[.. 2026-02-01]"), "{message}");
    assert!(message.contains("[2026-01-15 ..]"), "{message}");
    assert!(refused("vcpu_hour = 1\n[[period]]\nfrom = \"2026-01-15\"\nvcpu_hour = 2").contains("[always]"));
    assert!(refused("gpu_hour = { L4 = 1, l4 = 2 }").contains("always"));

    // Hours 0 to 10 at 1.00, 10 to 14 without a price, then 2.00.
    let book = book(
        "[[period]]\nuntil = \"1970-01-01T10:00:00Z\"\nvcpu_hour = 1\n[[period]]\nfrom = \"1970-01-01T14:00:00Z\"\nvcpu_hour = 2",
    );
    let charges = book.charge(&[metered(Item::Vcpu, 3.0, hours(8, 15))], hours(0, 100));
    // 3 vCPUs x (2 h x 1.00 + 1 h x 2.00) = 12.00, and 3 x 4 h without a price.
    assert_eq!(effective(&charges), units(&[12.0]));
    assert_eq!(charges.charges[0].unknown, [hours(10, 14)]);
    assert_eq!(charges.charges[0].unknown[0].to_string(), "1970-01-01T10:00:00Z .. 1970-01-01T14:00:00Z");
    assert_eq!((charges.charges[0].cost.unpriced_hours, charges.charges[0].cost.total()), (12.0, None));
    assert_eq!(book.host("h"), None);
}

#[test]
fn what_is_not_priced_is_unknown_and_never_nothing() {
    let charges = book("vcpu_hour = 1").charge(&[metered(gpu("L4"), 1.0, hours(0, 5))], hours(0, 10));
    assert_eq!((charges.charges[0].cost.total(), charges.charges[0].cost.unpriced_hours), (None, 5.0));
    assert_eq!(charges.charges[0].unknown, [hours(0, 5)]);
}

#[test]
fn a_commitment_is_paid_in_full_and_what_is_above_it_costs_list() {
    let book = book(
        "[gpu_hour]\nL4 = 2.0\n[[commitment]]\nname = \"one year\"\ncovers = { gpu = \"l4\" }\nquantity = 2\nhour = 1.0",
    );
    // Hours 0 to 4: three GPUs, two of them covered: (2 x 1.00 + 1 x 2.00) / 3 = 1.333333 each; hours 4 to 10: one GPU, covered.
    let all = [
        metered(gpu("L4"), 1.0, hours(0, 10)),
        metered(gpu("L4"), 1.0, hours(0, 4)),
        metered(gpu("L4"), 1.0, hours(0, 4)),
    ];
    let charges = book.charge(&all, hours(0, 10));
    // 4 x 4/3 + 6 x 1.00 = 11.333333; 4 x 4/3 = 5.333333.
    assert_eq!(effective(&charges), units(&[11.333333, 5.333333, 5.333333]));
    assert_eq!(charges.charges[0].cost.list, Money::from_units(20.0));
    // One of two is not used for 6 hours: 6.00. Paid: 11.33 + 5.33 + 5.33 + 6.00 = 28.00 = 2 x 10 x 1.00 + 4 x 2.00.
    assert_eq!(charges.unused.len(), 1);
    assert_eq!((charges.unused[0].unit_hours, charges.unused[0].cost.effective), (6.0, Money::from_units(6.0)));
    assert_eq!(book.gpu("L4"), None, "depends on how many run");
    // It is paid even where nothing of it was there.
    assert_eq!(book.charge(&[], hours(0, 10)).unused[0].cost.effective, Money::from_units(20.0));
}

#[test]
fn a_commitment_that_could_not_be_charged_is_refused() {
    let commitment = "[[commitment]]\nname = \"c\"\ncovers = \"vcpu\"\nquantity = 2\nhour = 1.0\n";
    assert!(refused(commitment).contains("has no price for [always]"));
    assert!(refused(&format!("vcpu_hour = {{ list = 2, effective = 1 }}\n{commitment}")).contains("give one price"));
    assert!(refused(&format!("vcpu_hour = 2\n{commitment}{commitment}")).contains("two commitments"));
}

#[test]
fn a_node_price_is_split_by_the_ratio_of_its_parts() {
    // OpenCost specification, appendix A: 30 : 30 : 10 of a node of 35.00 are 15.00, 15.00 and 5.00.
    let book_a = book("vcpu_hour = 30\ngb_hour = 10\ngpu_hour = { L4 = 30 }\nnode_hour = { h = 35 }");
    let hour = hours(0, 1);
    let node = [metered(gpu("L4"), 1.0, hour), metered(Item::Vcpu, 1.0, hour), metered(Item::Gb, 1.0, hour)];
    assert_eq!(effective(&book_a.charge(&node, hour)), units(&[15.0, 15.0, 5.0]));
    // Only the node is priced: 0.95 + 8 x 0.031611 + 32 x 0.004237 = 0.95 + 0.252888 + 0.135584 = 1.338472;
    // 2.00 x 0.95 / 1.338472 = 1.419529, 2.00 x 0.252888 / 1.338472 = 0.377876, 2.00 x 0.135584 / 1.338472 = 0.202595.
    let book_b = book("node_hour = { h = 2.0 }");
    let node = [metered(gpu("L4"), 1.0, hour), metered(Item::Vcpu, 8.0, hour), metered(Item::Gb, 32.0, hour)];
    assert_eq!(effective(&book_b.charge(&node, hour)), units(&[1.419529, 0.377876, 0.202595]));
    assert_eq!(book_b.host("h"), None, "how much of it are vCPUs depends on what else is there");
    // A GPU that was seen for half of the time leaves no part of the node unpaid: 2 hours x 2.00.
    let window = hours(0, 2);
    let node = [metered(gpu("L4"), 1.0, hours(0, 1)), metered(Item::Vcpu, 8.0, window)];
    assert_eq!(effective(&book_b.charge(&node, window)).into_iter().sum::<Money>(), Money::from_units(4.0));
}

#[test]
fn list_and_effective_prices_are_kept_apart() {
    let book = book("gb_hour = { list = 0.005, effective = 0.004 }");
    let cost = book.charge(&[metered(Item::Gb, 100.0, hours(0, 10))], hours(0, 10)).charges[0].cost;
    assert_eq!((cost.list, cost.effective), (Money::from_units(5.0), Money::from_units(4.0)));
}

#[test]
fn a_report_records_the_book_as_it_was_written() {
    let text = "currency = \"EUR\"\nkwh = 0.3\nregion = \"DE\"\n\n[gpu_hour]\nL4 = 0.5\n";
    let json = serde_json::to_value(PriceBook::parse(text).unwrap()).unwrap();
    assert_eq!(json, serde_json::json!({"currency": "EUR", "kwh": 0.3, "region": "DE", "gpu_hour": {"L4": 0.5}}));
}
