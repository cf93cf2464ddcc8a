//! Small fleets whose reports are computed by hand in the comments. Windows are ten hours with a point a minute.

use super::*;
use crate::{
    allocation::UNALLOCATED,
    test_session::{Sample, labels, session},
    waterfall::Rung,
    window::{HOUR_US, MINUTE_US},
};

/// Hours since the epoch; the day began at hour 96.
const START: i64 = 100;
const GIB: f64 = 1_073_741_824.0;

/// What a thing reports in every minute of some hours.
struct Thing {
    labels: Vec<(&'static str, String)>,
    from: i64,
    until: i64,
}

impl Thing {
    fn new(pairs: &[(&'static str, &str)], from: i64, until: i64) -> Self {
        Self { labels: labels(pairs), from, until }
    }

    /// `role` with the value that `of` gives each minute.
    fn says(&self, role: &'static str, of: impl Fn(i64) -> f64) -> Vec<Sample> {
        let sample = |minute: i64| Sample {
            time_us: self.from * HOUR_US + minute * MINUTE_US,
            role,
            value: of(minute),
            labels: self.labels.clone(),
            simulated: false,
        };
        (0..(self.until - self.from) * 60).map(sample).collect()
    }

    /// A card whose duty goes up and down by 0.1 around `duty`, since one that stands still is taken for a hung exporter.
    fn works(&self, duty: f64, memory_gib: f64) -> Vec<Sample> {
        let swing = if duty > 0.0 { 0.1 } else { 0.0 };
        let mut samples =
            self.says("gpu.utilization", |minute| if minute % 2 == 0 { duty - swing } else { duty + swing });
        samples.extend(self.says("gpu.memory.used", |_| memory_gib * GIB));
        samples
    }
}

fn book(text: &str) -> PriceBook {
    PriceBook::parse(&format!("currency = \"EUR\"\n{text}")).unwrap()
}

async fn report(samples: &[Sample], prices: &str) -> WeeklyReport {
    report_from(START, samples, prices).await
}

/// The same of ten hours from another one on.
async fn report_from(from: i64, samples: &[Sample], prices: &str) -> WeeklyReport {
    let window = Window::new(from * HOUR_US, (from + 10) * HOUR_US).unwrap();
    let request = WeeklyRequest {
        window,
        zone: Tz::UTC,
        prices: Some(book(prices)),
        holidays: vec![],
        now_us: window.end_us + 7,
    };
    weekly(&session(samples, &[]), None, &request).await.unwrap()
}

fn row<'a>(report: &'a WeeklyReport, dimension: Dimension, name: &str) -> &'a Row {
    let found = report.rows().find(|row| row.dimension == dimension && row.name == name);
    found.unwrap_or_else(|| {
        let names: Vec<_> = report.rows().map(|row| (row.dimension, &row.name)).collect();
        panic!("no {name} in {names:?}")
    })
}

/// Names and costs of a dimension; every dimension sums to the bill.
fn costs(report: &WeeklyReport, dimension: Dimension) -> Vec<(&str, String)> {
    let rows = report.rows().filter(|row| row.dimension == dimension);
    rows.map(|row| (row.name.as_str(), row.cost.map_or("unknown".into(), |cost| cost.to_text(2)))).collect()
}

fn pairs<'a>(expected: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    expected.iter().map(|(name, cost)| (*name, (*cost).to_owned())).collect()
}

fn assert_conserved(report: &WeeklyReport) {
    let bill = report.fleets[0].week.bill.allocation.bill.effective;
    for dimension in Dimension::ALL {
        let rows = || report.rows().filter(|row| row.dimension == dimension);
        if dimension == Dimension::Job && rows().next().is_none() {
            continue;
        }
        assert_eq!(rows().map(|row| row.now.cost().effective).sum::<crate::money::Money>(), bill, "{dimension:?}");
        if rows().all(|row| row.cost.is_some()) {
            assert_eq!(
                rows().filter_map(|row| row.cost).sum::<crate::money::Money>(),
                bill.rounded(2),
                "{dimension:?}"
            );
        }
    }
}

const PRICES: &str = "vcpu_hour = 0.04\nkwh = 0.25\npue = 1.2\nregion = \"north\"\ngpu_hour = { L4 = { list = 0.8, effective = 0.6 } }\n\
    [vcpus]\nh1 = 16\n[carbon_g_per_kwh]\nnorth = 100";

/// Host h1 with 16 vCPUs and two L4: one serves chat all the time, one works for batch for five hours and is free then.
fn two_cards() -> Vec<Sample> {
    let chat = [
        ("host_name", "h1"),
        ("gpu_id", "g1"),
        ("gpu_model", "L4"),
        ("service_name", "chat"),
        ("team", "talk"),
        ("model_name", "m"),
        ("model_version", "1"),
    ];
    let g1 = Thing::new(&chat, START, START + 10);
    let card = [("host_name", "h1"), ("gpu_id", "g2"), ("gpu_model", "L4")];
    let batch = Thing::new(&[&card[..], &[("service_name", "batch"), ("team", "nightly")]].concat(), START, START + 5);
    let free = Thing::new(&card, START + 5, START + 10);
    let host = Thing::new(&[("host_name", "h1")], START, START + 10);
    let mut samples = [g1.works(0.4, 20.0), batch.works(0.2, 10.0), free.works(0.0, 0.1)].concat();
    samples.extend(g1.says("gpu.power", |_| 300.0));
    samples.extend(host.says("cpu.utilization", |minute| if minute < 60 { 1.0 } else { 0.5 }));
    samples.extend(g1.says("latency.e2e", |_| 2.0));
    samples.extend(g1.says("input.tokens", |_| 100.0));
    samples.extend(g1.says("output.tokens", |_| 50.0));
    // The ten hours before: chat alone, half as much to do.
    let before = Thing::new(&chat, START - 10, START);
    samples.extend(before.works(0.2, 20.0));
    samples.extend(before.says("latency.e2e", |_| 2.0).into_iter().step_by(2));
    samples.extend(Thing::new(&[("host_name", "h1")], START - 10, START).says("cpu.utilization", |_| 0.5));
    samples
}

#[tokio::test]
async fn two_cards_cost_what_they_cost() {
    let report = report(&two_cards(), PRICES).await;
    // GPUs: 2 x 10 h x 0.60 = 12.00; vCPUs: 16 x 10 h x 0.04 = 6.40, half of them with each card. Together 18.40.
    // chat: 6.00 + 3.20. batch: half the time of the other card, 3.00 + 1.60. Idle: the rest, the same.
    assert_eq!(costs(&report, Dimension::Fleet), pairs(&[("all", "18.40")]));
    assert_eq!(costs(&report, Dimension::Part), pairs(&[("workload", "13.80"), ("idle", "4.60")]));
    let services = pairs(&[("chat", "9.20"), (UNALLOCATED, "4.60"), ("batch", "4.60")]);
    assert_eq!(costs(&report, Dimension::Service), services);
    assert_eq!(costs(&report, Dimension::Team)[0], ("talk", "9.20".into()));
    assert_eq!(costs(&report, Dimension::ModelVersion), pairs(&[(UNALLOCATED, "9.20"), ("m 1", "9.20")]));
    assert_eq!(costs(&report, Dimension::Host), pairs(&[("h1", "18.40")]));
    // By the card CPUs have no place: 6.40 are unallocated.
    assert_eq!(costs(&report, Dimension::Gpu), pairs(&[(UNALLOCATED, "6.40"), ("h1/g1", "6.00"), ("h1/g2", "6.00")]));
    assert_conserved(&report);
    let whole = row(&report, Dimension::Fleet, "all");
    // At list 2 x 10 h x 0.80 + 6.40.
    assert_eq!(whole.now.cost().list_total().unwrap().to_text(2), "22.40");
}

#[tokio::test]
async fn idle_cost_is_given_by_what_each_pays() {
    let report = report(&two_cards(), &format!("{PRICES}\n[distribute]\nidle = \"share\"")).await;
    // Of 18.40 nobody held 3.00 of cards, which go 6.00 : 3.00, and 1.60 of CPUs, which go 3.20 : 1.60.
    // chat: 9.20 + 2.00 + 1.0667; batch: 4.60 + 1.00 + 0.5333. What was held by nobody is still idle cost.
    assert_eq!(
        costs(&report, Dimension::Service),
        pairs(&[("chat", "12.27"), ("batch", "6.13"), (UNALLOCATED, "0.00")])
    );
    assert_eq!(costs(&report, Dimension::Part), pairs(&[("workload", "13.80"), ("idle", "4.60")]));
    // It has left its host, but not its kind of card.
    assert_eq!(costs(&report, Dimension::Host), pairs(&[("h1", "13.80"), (UNALLOCATED, "4.60")]));
    assert_eq!(costs(&report, Dimension::GpuModel), pairs(&[("L4", "12.00"), (UNALLOCATED, "6.40")]));
    assert_conserved(&report);
    let hours = |dimension, name| {
        let now = &row(&report, dimension, name).now;
        ((now.gpu_hours * 1e6).round() / 1e6, now.gpu_count)
    };
    // 15 h were held, and of 5 idle hours chat has two thirds.
    assert_eq!(hours(Dimension::Service, "chat"), (13.333_333, 1));
    assert_eq!((hours(Dimension::Fleet, "all"), hours(Dimension::GpuModel, "L4")), ((20.0, 2), (20.0, 2)));
    let text = report.to_text();
    assert!(text.contains("As the price book says, idle cost by what each pays is given to those"), "{text}");
}

#[tokio::test]
async fn idle_cost_is_given_by_what_a_counter_of_the_services_gained() {
    let metric = "bytes.sent";
    let prices = format!("{PRICES}\n[distribute]\nidle = {{ metric = \"{metric}\" }}\noverhead = \"uniform\"");
    let window = Window::new(START * HOUR_US, (START + 10) * HOUR_US).unwrap();
    let request =
        WeeklyRequest { window, zone: Tz::UTC, prices: Some(book(&prices)), holidays: vec![], now_us: window.end_us };
    let of = |service| crate::test_session::SeriesRow {
        last_us: window.start_us,
        labels: labels(&[("service_name", service)]),
        metric: [metric, "sum", "cumulative"],
        ..Default::default()
    };
    let at = |minute: i64| window.start_us + minute * MINUTE_US;
    // chat sent 30, of which 20 before the window do not count, and batch 10.
    let points = [
        (0, at(-1), 20.0, Some(20.0)),
        (0, at(1), 40.0, Some(20.0)),
        (0, at(2), 50.0, Some(10.0)),
        (1, at(1), 70.0, Some(10.0)),
    ];
    let ctx = session(&two_cards(), &[of("chat"), of("batch")]);
    crate::test_session::register_increases(&ctx, metric, &points);
    let report = weekly(&ctx, None, &request).await.unwrap();
    // 4.60 by 3 : 1 is 3.45 and 1.15.
    assert_eq!(
        costs(&report, Dimension::Service),
        pairs(&[("chat", "12.65"), ("batch", "5.75"), (UNALLOCATED, "0.00")])
    );
    assert_conserved(&report);
    // Without the metric nobody can be charged, and that is said.
    let ctx = session(&two_cards(), &[]);
    crate::test_session::register_increases(&ctx, metric, &[]);
    let report = weekly(&ctx, None, &request).await.unwrap();
    assert_eq!(costs(&report, Dimension::Part), pairs(&[("workload", "13.80"), ("idle", "4.60")]));
    let missing = report.fleets[0].week.missing.join("\n");
    assert!(missing.contains("Nobody can be charged a share of what is idle"), "{missing}");
}

#[tokio::test]
async fn use_waterfall_and_energy_are_those_of_the_minutes() {
    let report = report(&two_cards(), PRICES).await;
    let chat = row(&report, Dimension::Service, "chat").now.clone();
    // 300 minutes at 0.3 and as many at 0.5.
    assert!((chat.gpu.average.unwrap() - 0.4).abs() < 1e-6 && (chat.busy_gpu_hours - 4.0).abs() < 1e-6);
    assert!((chat.gpu.p95.unwrap() - 0.5).abs() < 1e-6 && (chat.gpu.peak.unwrap() - 0.5).abs() < 1e-6);
    assert_eq!((chat.gpu.count, chat.gpu_memory.peak, chat.coverage()), (600, Some(20.0 * GIB), Some(1.0)));
    let host = row(&report, Dimension::Host, "h1").now.clone();
    // One hour of ten at 1.0, nine at 0.5.
    assert!((host.cpu.average.unwrap() - 0.55).abs() < 1e-9);
    assert_eq!((host.cpu.p95, host.cpu.peak), (Some(1.0), Some(1.0)));
    // Paid 20 h; somebody had them and held memory 15 h; busy 10 h x 0.4 + 5 h x 0.2 = 5 h. Each hour is 0.60.
    let waterfall = &report.fleets[0].week.waterfall;
    let step = |rung| {
        let step = waterfall.step(rung);
        (step.hours.map(|hours| (hours * 1e6).round() / 1e6), step.cost.map(|cost| cost.to_text(2)))
    };
    assert_eq!(step(Rung::Paid), (Some(20.0), Some("12.00".into())));
    assert_eq!(step(Rung::Allocated), (Some(15.0), Some("9.00".into())));
    assert_eq!(step(Rung::Held), (Some(15.0), Some("9.00".into())));
    assert_eq!(step(Rung::Busy), (Some(5.0), Some("3.00".into())));
    assert_eq!(step(Rung::Productive), (None, None));
    // 300 W between 600 readings a minute apart: 599 min x 300 W = 2.995 kWh; x 1.2 x 100 g = 359.4 g; x 1.2 x 0.25 = 0.8985.
    assert!((chat.energy_kwh.unwrap() - 2.995).abs() < 1e-9 && (chat.carbon_g.unwrap() - 359.4).abs() < 1e-9);
    assert_eq!(chat.energy_cost.unwrap().to_text(4), "0.8985");
    assert_eq!(row(&report, Dimension::Service, "batch").now.energy_kwh, None, "no power is told: not 0");
}

#[tokio::test]
async fn work_has_a_price_and_the_difference_a_reason() {
    let report = report(&two_cards(), PRICES).await;
    let chat = row(&report, Dimension::Service, "chat");
    // 9.20 for 600 requests and 60 000 + 30 000 tokens; of the 6.00 for the card 0.4 are used: 2.40 + 3.20 = 5.60.
    let text = |figure: crate::unit_cost::Figure| figure.unwrap().to_text(4);
    assert_eq!(text(chat.unit.per_1000_requests), "15.3333");
    assert_eq!(text(chat.unit_used.per_1000_requests), "9.3333");
    assert_eq!(text(chat.unit.per_million_tokens), "102.2222");
    assert!(row(&report, Dimension::Service, "batch").unit.per_1000_requests.is_err());
    // Before: one card, 10 h x 0.60 for 300 requests; 12.40 with all CPUs.
    let whole = row(&report, Dimension::Fleet, "all");
    assert_eq!(whole.cost_change().unwrap().to_text(2), "6.00");
    let effects = |row: &Row| {
        let change = row.change.clone().unwrap();
        [change.difference, change.volume, change.utilisation.unwrap(), change.mix, change.price]
            .map(|money| money.to_text(2))
    };
    // Twice the requests would have taken 20 h as before, which were paid: 300 x 10/300 h x 0.60 = 6.00.
    assert_eq!(effects(whole), ["6.00", "6.00", "0.00", "0.00", "0.00"]);
    // chat did them with the same 10 h.
    assert_eq!(effects(chat), ["0.00", "6.00", "-6.00", "0.00", "0.00"]);
    assert!(whole.duty_change().is_some());
    // batch is new: 3.00 for its card and 1.60 for CPUs.
    assert_eq!(row(&report, Dimension::Service, "batch").cost_change().unwrap().to_text(2), "4.60");
}

#[tokio::test]
async fn what_is_gone_is_a_difference() {
    let card = |gpu, service| [("host_name", "h"), ("gpu_id", gpu), ("gpu_model", "L4"), ("service_name", service)];
    let stays = Thing::new(&card("g1", "chat"), START - 10, START + 10);
    let goes = Thing::new(&card("g2", "batch"), START - 10, START);
    let report = report(&[stays.works(0.4, 20.0), goes.works(0.4, 20.0)].concat(), PRICES).await;
    let batch = row(&report, Dimension::Service, "batch");
    // 10 h x 0.60 before, nothing now.
    assert_eq!(
        (batch.cost.unwrap().to_text(2), batch.cost_change().unwrap().to_text(2)),
        ("0.00".into(), "-6.00".into())
    );
    assert_eq!(row(&report, Dimension::Fleet, "all").cost_change().unwrap().to_text(2), "-6.00");
    assert!(report.to_text().contains("6.00 EUR less than before"));
}

#[tokio::test]
async fn a_host_that_vanishes_and_a_card_without_a_price() {
    let card =
        |host, gpu, model| [("host_name", host), ("gpu_id", gpu), ("gpu_model", model), ("service_name", "chat")];
    let stays = Thing::new(&card("h3", "g", "L4"), START, START + 10);
    let goes = Thing::new(&card("h2", "g", "Riddle 9000"), START, START + 4);
    // Half of the window only.
    let comes = Thing::new(&card("h4", "g", "L4"), START + 5, START + 10);
    let report =
        report(&[stays.works(0.4, 20.0), goes.works(0.4, 20.0), comes.works(0.4, 20.0)].concat(), PRICES).await;
    // L4: 10 h and 5 h at 0.60. The other: 4 h, unknown, and so is every sum that it is in.
    assert_eq!(costs(&report, Dimension::GpuModel), pairs(&[("L4", "9.00"), ("Riddle 9000", "unknown")]));
    assert_eq!(costs(&report, Dimension::Host), pairs(&[("h3", "6.00"), ("h4", "3.00"), ("h2", "unknown")]));
    assert_eq!(costs(&report, Dimension::Service), pairs(&[("chat", "unknown")]));
    let whole = row(&report, Dimension::Fleet, "all");
    assert_eq!((whole.cost, whole.now.cost().unpriced_hours, whole.now.gpu_hours), (None, 4.0, 19.0));
    assert!(whole.change.is_err(), "there was no week before");
    let missing = report.fleets[0].week.missing.join("\n");
    for words in [
        "No price for Riddle 9000 in [1970-01-05T04:00:00Z .. 1970-01-05T08:00:00Z]: the cost of 4.0 unit-hours",
        "h2 was last heard of at 1970-01-05 08:00 UTC; nothing of it is charged after that.",
        "GPUs that tell neither power nor energy: 3.",
        "how much of the busy time was productive is unknown",
    ] {
        assert!(missing.contains(words), "{words}\n{missing}");
    }
    assert!(!missing.contains("h3 was last") && !missing.contains("h4 was last"), "{missing}");
    let text = report.to_text();
    assert!(text.contains("9.00 EUR is known; 4.0 unit-hours have no price"), "{text}");
    assert_conserved(&report);
}

#[tokio::test]
async fn slices_sharers_and_a_commitment() {
    let sliced = |slice, service| {
        let card =
            [("host_name", "h1"), ("gpu_id", "a"), ("gpu_model", "A100"), ("mig_id", slice), ("service_name", service)];
        Thing::new(&card, START, START + 10)
    };
    let shared = |pod| {
        let card = [("host_name", "h1"), ("gpu_id", "t"), ("gpu_model", "T4"), ("shared_by", "2"), ("k8s_pod", pod)];
        Thing::new(&card, START, START + 10)
    };
    let one = Thing::new(
        &[("host_name", "h2"), ("gpu_id", "l"), ("gpu_model", "L4"), ("service_name", "solo")],
        START,
        START + 10,
    );
    let samples = [
        sliced("one", "small").works(0.4, 5.0),
        sliced("two", "large").works(0.4, 10.0),
        shared("p1").works(0.4, 5.0),
        shared("p2").works(0.4, 5.0),
        one.works(0.4, 5.0),
    ];
    let prices = "gpu_hour = { A100 = 7.0, T4 = 2.0, L4 = 0.6 }\n[[commitment]]\nname = \"reserved\"\ncovers = { gpu = \"L4\" }\n\
                  quantity = 2\nhour = 0.3";
    let report = report(&samples.concat(), prices).await;
    // A100: 70.00, of which 1/7 and 2/7 are held and 4/7 idle. T4: 20.00, shared by two pods at once: 10.00 each.
    // L4: two are reserved at 0.30 for 10 h = 6.00; one ran: 3.00, and 3.00 are overhead. Together 96.00.
    let expected = [(UNALLOCATED, "63.00"), ("large", "20.00"), ("small", "10.00"), ("solo", "3.00")];
    assert_eq!(costs(&report, Dimension::Service), pairs(&expected));
    assert_eq!(
        costs(&report, Dimension::Part),
        pairs(&[("workload", "53.00"), ("idle", "40.00"), ("overhead", "3.00")])
    );
    let models = [("A100", "70.00"), ("T4", "20.00"), (UNALLOCATED, "3.00"), ("L4", "3.00")];
    assert_eq!(costs(&report, Dimension::GpuModel), pairs(&models));
    assert_conserved(&report);
    let pods: Vec<_> = report.fleets[0]
        .week
        .bill
        .allocation
        .lines
        .iter()
        .filter(|line| line.asset.as_deref() == Some("h1/t"))
        .collect();
    assert!(pods.len() == 2 && pods.iter().all(|line| line.cost.effective.to_text(2) == "10.00"), "{pods:?}");
    assert_eq!(
        row(&report, Dimension::Service, "small").now.coverage(),
        None,
        "who worked on a sliced card is not known"
    );
    let whole = row(&report, Dimension::Fleet, "all");
    assert_eq!((whole.now.gpu_hours, whole.now.coverage()), (30.0, Some(1.0)));
}

/// What the cards and everything else of a service cost.
fn both_costs(report: &WeeklyReport, service: &str) -> [String; 2] {
    let now = &row(report, Dimension::Service, service).now;
    [now.gpu_cost, now.other_cost].map(|cost| cost.total().unwrap().to_text(2))
}

#[tokio::test]
async fn pods_that_follow_each_other_pay_their_own_hours() {
    let pod = |name, more: &[(&'static str, &'static str)], from, until| {
        let card =
            [("host_name", "h1"), ("gpu_id", "g1"), ("gpu_model", "L4"), ("k8s_pod", name), ("service_name", name)];
        Thing::new(&[&card[..], more].concat(), from, until)
    };
    // Day 5 begins at hour 120; a rollout replaces a by b an hour later, so that two series report the card that day only.
    let shared = [("shared_by", "2")];
    let host = Thing::new(&[("host_name", "h1")], 116, 126);
    let samples = [
        pod("a", &[], 116, 120).works(0.4, 5.0),
        pod("a", &shared, 120, 121).works(0.4, 5.0),
        pod("b", &shared, 121, 126).works(0.4, 5.0),
        host.says("cpu.count", |_| 10.0),
    ];
    let report = report_from(116, &samples.concat(), "vcpu_hour = 0.04\ngpu_hour = { L4 = 0.6 }").await;
    // 5 h x 0.60 each, and half of 10 vCPUs x 10 h x 0.04.
    for service in ["a", "b"] {
        assert_eq!(both_costs(&report, service), ["3.00", "2.00"], "{service}");
        assert_eq!(row(&report, Dimension::Service, service).now.coverage(), Some(1.0));
    }
    assert_eq!(costs(&report, Dimension::Part), pairs(&[("workload", "10.00")]));
    assert_conserved(&report);
}

#[tokio::test]
async fn sharers_divide_only_the_hours_in_which_both_are_there() {
    let pod = |name, from, until| {
        let card = [
            ("host_name", "h1"),
            ("gpu_id", "g1"),
            ("gpu_model", "L4"),
            ("shared_by", "2"),
            ("k8s_pod", name),
            ("service_name", name),
        ];
        Thing::new(&card, from, until)
    };
    let host = Thing::new(&[("host_name", "h1")], START, START + 10);
    let (a, b) = (pod("a", START, START + 6), pod("b", START + 4, START + 10));
    let samples = [a.works(0.4, 5.0), b.works(0.4, 5.0), host.says("cpu.count", |_| 10.0)];
    let report = report(&samples.concat(), "vcpu_hour = 0.04\ngpu_hour = { L4 = 0.6 }").await;
    // Each has the card and the CPUs for 4 h alone and for 2 h by halves: 5 h x 0.60, and 5 h x 10 x 0.04.
    for service in ["a", "b"] {
        assert_eq!(both_costs(&report, service), ["3.00", "2.00"], "{service}");
    }
    assert_conserved(&report);
}

#[tokio::test]
async fn one_slice_is_not_the_card() {
    let card =
        [("host_name", "h1"), ("gpu_id", "a"), ("gpu_model", "A100"), ("mig_id", "one"), ("service_name", "small")];
    let small = Thing::new(&card, START, START + 10);
    let report = report(&small.works(0.4, 5.0), "gpu_hour = { A100 = 7.0 }").await;
    // 10 h x 7.00, of which the slice is 1/7.
    assert_eq!(costs(&report, Dimension::Service), pairs(&[(UNALLOCATED, "60.00"), ("small", "10.00")]));
    assert_eq!(costs(&report, Dimension::Part), pairs(&[("idle", "60.00"), ("workload", "10.00")]));
    assert_conserved(&report);
}

#[tokio::test]
async fn a_slice_that_is_there_over_midnight_never_has_the_card() {
    let card =
        [("host_name", "h1"), ("gpu_id", "a"), ("gpu_model", "A100"), ("mig_id", "one"), ("service_name", "small")];
    let mut samples = Thing::new(&card, 115, 125).works(0.4, 5.0);
    // A point every five minutes, so that the last before midnight is four minutes short of it, and one in the last minute.
    samples.retain(|sample| sample.time_us / MINUTE_US % 5 == 0 || sample.time_us == 125 * HOUR_US - MINUTE_US);
    let duties = samples.iter_mut().filter(|sample| sample.role == "gpu.utilization");
    duties.enumerate().for_each(|(at, sample)| sample.value = if at % 2 == 0 { 0.3 } else { 0.5 });
    let report = report_from(115, &samples, "gpu_hour = { A100 = 7.0 }").await;
    // 10 h x 7.00 / 7.
    assert_eq!(row(&report, Dimension::Service, "small").cost.unwrap().to_text(2), "10.00");
}

#[tokio::test]
async fn slices_of_a_slow_source_have_their_part_until_its_last_point_ends() {
    let sliced = |slice, service| {
        let card =
            [("host_name", "h1"), ("gpu_id", "a"), ("gpu_model", "A100"), ("mig_id", slice), ("service_name", service)];
        Thing::new(&card, START, START + 10).works(0.4, 5.0)
    };
    let mut samples = [sliced("one", "small"), sliced("two", "large")].concat();
    // The last point, of minute 595, speaks for five minutes.
    samples.retain(|sample| sample.time_us / MINUTE_US % 5 == 0);
    let report = report(&samples, "gpu_hour = { A100 = 7.0 }").await;
    // 70.00, of which 1/7 and 2/7 are held to the end.
    let expected = [(UNALLOCATED, "40.00"), ("large", "20.00"), ("small", "10.00")];
    assert_eq!(costs(&report, Dimension::Service), pairs(&expected));
    assert_conserved(&report);
}

#[tokio::test]
async fn two_exporters_of_a_card_are_not_two_sharers() {
    let card = [("host_name", "h1"), ("gpu_id", "g1"), ("gpu_model", "L4"), ("shared_by", "2")];
    let told = |more: &[(&'static str, &'static str)]| {
        Thing::new(&[&card[..], more].concat(), START, START + 10).works(0.4, 5.0)
    };
    // One names the pod, the other itself; whichever of them speaks for the card, the pod has it.
    let pod = told(&[("k8s_pod", "chat-1"), ("service_name", "chat"), ("service_instance_id", "x")]);
    let exporter = told(&[("service_name", "exporter"), ("service_instance_id", "y")]);
    let same_pod = told(&[("k8s_pod", "chat-1"), ("team", "talk"), ("service_instance_id", "z")]);
    for samples in [[pod.clone(), exporter.clone()], [exporter, pod.clone()], [pod.clone(), same_pod]] {
        let report = report(&samples.concat(), PRICES).await;
        // 10 h x 0.60.
        assert_eq!(costs(&report, Dimension::Service), pairs(&[("chat", "6.00")]));
        let chat = row(&report, Dimension::Service, "chat");
        assert_eq!((chat.now.coverage(), chat.now.gpu_count), (Some(1.0), 1));
        assert_conserved(&report);
    }
}

#[tokio::test]
async fn the_hours_of_the_chart_and_its_query_add_slices_up_before_they_average() {
    let sliced = |slice| {
        let card = [("host_name", "h1"), ("gpu_id", "a"), ("gpu_model", "A100"), ("mig_id", slice)];
        Thing::new(&card, START, START + 10).works(0.4, 5.0)
    };
    let whole = Thing::new(&[("host_name", "h1"), ("gpu_id", "l"), ("gpu_model", "L4")], START, START + 10);
    let samples = [sliced("one"), sliced("two"), whole.works(0.4, 5.0)].concat();
    let report = report(&samples, PRICES).await;
    // 0.4 / 7 + 0.4 x 2 / 7 of one card, 0.4 of the other.
    let expected = (0.4 * 3.0 / 7.0 + 0.4) / 2.0;
    let hourly = &report.fleets[0].week.hourly;
    assert_eq!(hourly.len(), 10);
    assert!(hourly.iter().all(|busy| (busy.unwrap() - expected).abs() < 1e-6), "{hourly:?}");
    let queries = report.page().sections.into_iter().flat_map(|section| section.blocks);
    let query = queries.filter_map(|block| match block {
        crate::page::Block::Figure(figure) => figure.query,
        _ => None,
    });
    let query = query.collect::<Vec<_>>().pop().unwrap();
    let rows = crate::rows::Rows::query(&session(&samples, &[]), &query).await.unwrap();
    let busy = rows.numbers("busy").unwrap();
    assert_eq!(busy.len(), 10);
    assert!(busy.iter().all(|busy| (busy.unwrap() - expected).abs() < 1e-9), "{busy:?}");
}

#[tokio::test]
async fn a_silent_hour_does_not_make_requests_cheap() {
    let card = [("host_name", "h1"), ("gpu_id", "g1"), ("gpu_model", "L4"), ("service_name", "chat")];
    let mut samples = Thing::new(&card, START, START + 3).works(0.4, 5.0);
    samples.extend(Thing::new(&card, START + 4, START + 10).works(0.4, 5.0));
    samples.extend(Thing::new(&[("service_name", "chat")], START, START + 10).says("latency.e2e", |_| 2.0));
    let report = report(&samples, PRICES).await;
    let chat = row(&report, Dimension::Service, "chat");
    assert_eq!((chat.now.gpu_hours, chat.now.coverage()), (10.0, Some(0.9)));
    // 0.4 of the nine measured hours were busy, and so of all ten: 0.4 x 6.00 for 600 requests.
    assert_eq!(chat.unit_used.per_1000_requests.unwrap().to_text(4), "4.0000");
    assert!((chat.unit.load.gpu_busy.unwrap() - 0.4).abs() < 1e-6);
}

#[tokio::test]
async fn requests_that_two_metrics_count_are_counted_once() {
    let card = [("host_name", "h1"), ("gpu_id", "g1"), ("gpu_model", "L4"), ("service_name", "chat")];
    let counts = |metric| Thing::new(&[("service_name", "chat"), ("metric", metric)], START, START + 10);
    let mut samples = Thing::new(&card, START, START + 10).works(0.4, 5.0);
    // The server counts a request a minute; of those the gateway sees every second one.
    samples.extend(counts("server").says("latency.e2e", |_| 2.0));
    samples.extend(counts("gateway").says("latency.e2e", |_| 2.0).into_iter().step_by(2));
    let report = report(&samples, PRICES).await;
    assert_eq!(row(&report, Dimension::Service, "chat").now.requests(), Some(600.0));
}

#[tokio::test]
async fn a_pod_is_there_at_midnight() {
    let labels = [("host_name", "h1"), ("k8s_pod", "api-1"), ("k8s_namespace", "web"), ("scope", "pod")];
    let mut samples = Thing::new(&labels, 115, 125).says("cpu.usage", |_| 1.0);
    samples.retain(|sample| sample.time_us / MINUTE_US % 5 == 0);
    samples.extend(Thing::new(&[("host_name", "h1")], 115, 125).says("cpu.count", |_| 2.0));
    let report = report_from(115, &samples, "vcpu_hour = 0.6").await;
    // One vCPU from the first to the last point, 9 h 55 min, and the five minutes that its points are apart: 10 h x 0.60.
    assert_eq!(row(&report, Dimension::Namespace, "web").cost.unwrap().to_text(2), "6.00");
}

#[tokio::test]
async fn a_host_whose_price_pays_for_nothing_that_is_known_is_named() {
    let host = Thing::new(&[("host_name", "h1")], START, START + 10);
    let report = report(&host.says("cpu.utilization", |_| 0.5), "node_hour = { h1 = 3.0 }").await;
    let missing = report.fleets[0].week.missing.join("\n");
    let words = "Not in the bill: h1: it has a node_hour, and nothing says how many vCPUs or how much memory";
    assert!(missing.contains(words) && missing.contains("add `vcpus` or `memory_gb`"), "{missing}");
}

#[tokio::test]
async fn pods_pay_the_larger_of_request_and_use() {
    let pod = |name, space| {
        let labels = [("host_name", "h1"), ("k8s_pod", name), ("k8s_namespace", space), ("scope", "pod")];
        Thing::new(&labels, START, START + 10)
    };
    let host = Thing::new(&[("host_name", "h1")], START, START + 10);
    let (api, job, dns) = (pod("api-1", "web"), pod("job-1", "batch"), pod("dns-1", "kube-system"));
    let samples = [
        host.says("cpu.count", |_| 8.0),
        host.says("collector.cpu.usage", |_| 0.1),
        api.says("cpu.request", |_| 2.0),
        api.says("cpu.usage", |minute| if minute < 300 { 2.0 } else { 4.0 }),
        job.says("cpu.request", |_| 1.0),
        job.says("cpu.usage", |_| 0.5),
        dns.says("cpu.request", |_| 1.0),
    ];
    let report = report(&samples.concat(), "vcpu_hour = 0.05").await;
    // 8 vCPUs x 10 h x 0.05 = 4.00: web uses 3 of them = 1.50, batch asked for 1 = 0.50, kube-system for 1 = 0.50 (shared).
    let parts = pairs(&[("workload", "2.00"), ("idle", "1.50"), ("shared", "0.50")]);
    assert_eq!(costs(&report, Dimension::Part), parts);
    let spaces = [("web", "1.50"), (UNALLOCATED, "1.50"), ("batch", "0.50"), ("kube-system", "0.50")];
    let spaces: std::collections::BTreeMap<_, _> = pairs(&spaces).into_iter().collect();
    assert_eq!(costs(&report, Dimension::Namespace).into_iter().collect::<std::collections::BTreeMap<_, _>>(), spaces);
    assert_conserved(&report);
    // A tenth of a vCPU for 10 h: 0.05.
    assert_eq!(report.fleets[0].week.bill.monitoring.unwrap().total().unwrap().to_text(2), "0.05");
}

#[tokio::test]
async fn a_pod_that_is_told_every_half_hour_is_there_until_the_next_point_would_come() {
    let labels = [("host_name", "h1"), ("k8s_pod", "api-1"), ("k8s_namespace", "web"), ("scope", "pod")];
    let (pod, host) = (Thing::new(&labels, START, START + 5), Thing::new(&[("host_name", "h1")], START, START + 10));
    let mut samples = host.says("cpu.count", |_| 8.0);
    samples.extend(pod.says("cpu.request", |_| 2.0).into_iter().step_by(30));
    let report = report(&samples, "vcpu_hour = 0.05").await;
    // The last of ten points is of 4:30, so two vCPUs are held for five hours, not for four and a half: 2 x 5 x 0.05.
    assert_eq!(row(&report, Dimension::Namespace, "web").cost.unwrap().to_text(2), "0.50");
    assert_conserved(&report);
}

#[tokio::test]
async fn training_jobs_have_a_row_each_with_what_they_had_and_used() {
    let card = |gpu, more: &[(&'static str, &str)], from, until| {
        let labels = [("host_name", "h1"), ("gpu_id", gpu), ("gpu_model", "L4")];
        Thing::new(&[&labels, more].concat(), START + from, START + until)
    };
    // Slurm names the job on the card; of the second job only the pod is on the card, and two hours are not measured.
    let slurm = card("g1", &[("hpc_job", "4711")], 0, 10);
    let pod = [("k8s_pod", "train-x"), ("k8s_namespace", "ml")];
    let (first, last) = (card("g2", &pod, 0, 4), card("g2", &pod, 6, 10));
    let serving = card("g3", &[("service_name", "chat")], 0, 10);
    let of_pod = Thing::new(
        &[("host_name", "h1"), ("k8s_pod", "train-x"), ("k8s_namespace", "ml"), ("scope", "pod")],
        START,
        START + 10,
    );
    let mut samples =
        [slurm.works(0.5, 20.0), first.works(0.4, 20.0), last.works(0.4, 20.0), serving.works(0.3, 20.0)].concat();
    samples.extend(Thing::new(&[("host_name", "h1")], START, START + 10).says("cpu.count", |_| 8.0));
    samples.extend(of_pod.says("cpu.request", |_| 2.0));
    let window = Window::new(START * HOUR_US, (START + 10) * HOUR_US).unwrap();
    let named = crate::test_session::SeriesRow {
        last_us: window.start_us + HOUR_US,
        labels: labels(&pod),
        attributes: vec![("k8s.job.name", "train")],
        ..Default::default()
    };
    let prices = Some(book("gpu_hour = { L4 = 0.6 }\nvcpu_hour = 0.05"));
    let request = WeeklyRequest { window, zone: Tz::UTC, prices, holidays: vec![], now_us: window.end_us };
    let report = weekly(&session(&samples, &[named]), None, &request).await.unwrap();
    // 4711: 10 h x 0.60. train: 8 h that are told x 0.60 = 4.80, and 2 of 8 vCPUs x 10 h x 0.05 = 1.00. The rest of 18.00 + 4.00.
    let jobs = [(UNALLOCATED, "10.20"), ("4711", "6.00"), ("train", "5.80")];
    assert_eq!(costs(&report, Dimension::Job), pairs(&jobs));
    assert_conserved(&report);
    let of = |name| row(&report, Dimension::Job, name).now.clone();
    let (slurm, train) = (of("4711"), of("train"));
    assert!((slurm.busy().unwrap() - 5.0).abs() < 0.01 && (train.busy().unwrap() - 3.2).abs() < 0.01);
    assert!((slurm.gpu_hours - 10.0).abs() < 0.02 && (train.gpu_hours - 8.0).abs() < 0.05, "{}", train.gpu_hours);
    let text = report.to_text();
    assert!(text.contains("Training jobs") && text.contains("4711"), "{text}");
    assert!(report.to_csv().contains(",job,4711,") || report.to_csv().contains("job,4711"), "{}", report.to_csv());
}

#[tokio::test]
async fn energy_is_that_of_the_counter_where_there_is_one() {
    let g1 = Thing::new(
        &[("host_name", "h1"), ("gpu_id", "g1"), ("gpu_model", "L4"), ("service_name", "s")],
        START,
        START + 10,
    );
    let mut samples = g1.works(0.4, 5.0);
    samples.extend(g1.says("gpu.power", |_| 999.0));
    // 18 000 J a minute; the driver is loaded anew after 300 minutes.
    samples.extend(
        g1.says("gpu.energy", |minute| 18_000.0 * if minute < 300 { minute + 1000 } else { minute - 300 } as f64),
    );
    let report = report(&samples, PRICES).await;
    // Readings at minutes 9, 19, .. 599: (299 - 9) + 9 since the reset + (599 - 309) = 589 minutes x 18 kJ = 2.945 kWh.
    let energy = row(&report, Dimension::Fleet, "all").now.energy_kwh.unwrap();
    assert!((energy - 2.945).abs() < 1e-9, "{energy}");
    assert!(report.fleets[0].week.missing.iter().any(|said| said.contains("Resets of energy counters: 1.")));
}

#[tokio::test]
async fn a_card_under_two_names_of_its_host_is_charged_once() {
    let uuid = "GPU-12345678-1234-1234-1234-123456789abc";
    let under =
        |host, from| Thing::new(&[("host_name", host), ("gpu_id", uuid), ("gpu_model", "L4")], from, START + 10);
    let report =
        report(&[under("h1", START).works(0.4, 5.0), under("h1.cluster", START + 2).works(0.4, 5.0)].concat(), PRICES)
            .await;
    assert_eq!(costs(&report, Dimension::Fleet), pairs(&[("all", "6.00")]));
    let missing = report.fleets[0].week.missing.join("\n");
    assert!(missing.contains("is reported by hosts h1 and h1.cluster; it is charged once, to h1."), "{missing}");
    // Nobody is named: who had the card is unknown, and its work is nobody's by name.
    assert_eq!(costs(&report, Dimension::Part), pairs(&[("(unnamed work)", "6.00")]));
    assert!(missing.contains("Send service.name"), "{missing}");
}

#[tokio::test]
async fn a_silent_exporter_is_not_an_idle_card() {
    let card = [("host_name", "h1"), ("gpu_id", "g1"), ("gpu_model", "L4")];
    let before = Thing::new(&[&card[..], &[("service_name", "a")]].concat(), START, START + 3);
    let after = Thing::new(&[&card[..], &[("service_name", "b")]].concat(), START + 7, START + 10);
    let report = report(&[before.works(0.4, 5.0), after.works(0.4, 5.0)].concat(), PRICES).await;
    // 3 h each, and 4 h of which nothing is known: 1.80, 1.80, 2.40.
    assert_eq!(costs(&report, Dimension::Part), pairs(&[("workload", "3.60"), ("(no telemetry)", "2.40")]));
    let waterfall = &report.fleets[0].week.waterfall;
    assert!((waterfall.no_telemetry_hours - 4.0).abs() < 1e-9);
    // Paid 6.00, busy 6 h x 0.4 = 1.44, unknown 2.40: the rest was measured, and not busy.
    let text = report.to_text();
    for words in ["measured and not busy  2.16 EUR  (nothing is known of 2.40 EUR)", "nothing is known of 4.0)"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let coverage = row(&report, Dimension::Fleet, "all").now.coverage().unwrap();
    assert!((coverage - 0.6).abs() < 1e-9, "{coverage}");
    assert_conserved(&report);
}
