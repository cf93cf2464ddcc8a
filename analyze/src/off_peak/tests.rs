use chrono_tz::{Europe::Berlin, UTC};

use super::*;
use crate::{
    demand::Bucket,
    price_book::PriceBook,
    test_session::{Sample, SeriesRow, labels, session},
    window::{HOUR_US, MINUTE_US, Window},
};

const DAY_US: i64 = 24 * HOUR_US;
/// 2026-11-16, a Monday, 00:00 UTC.
const MONDAY_US: i64 = 1_794_787_200_000_000;

/// Serving needs `p95(day, hour)` GPUs.
fn envelope(p95: impl Fn(usize, usize) -> Option<f64>) -> Envelope {
    let bucket = |hour: usize| {
        let p95 = p95(hour / 24, hour % 24);
        Bucket { minute_count: p95.map_or(0, |_| 60), p95, ..Bucket::default() }
    };
    Envelope {
        buckets: (0..HOUR_OF_WEEK_COUNT).map(bucket).collect(),
        slope_per_minute: 0.0,
        holiday_minute_count: 0,
        deploy_minute_count: 0,
    }
}

/// 8 GPUs on working days from 9 to 18, else 2.
fn office() -> Envelope {
    envelope(|day, hour| Some(if day < 5 && (9..18).contains(&hour) { 8.0 } else { 2.0 }))
}

fn spans(plan: &OffPeakPlan) -> Vec<(usize, usize)> {
    plan.windows.iter().map(|window| (window.from_hour, window.hour_count)).collect()
}

#[test]
fn windows_are_where_enough_is_free() {
    let rules = OffPeakRules { gpus_needed: 4.0, ..OffPeakRules::default() };
    // 10 x 0.9 - 2 = 7 free, 1 free at peak. Friday 18:00 to Monday 9:00 is 63 hours, the nights are 15.
    let plan = plan(Some(&office()), 10.0, Berlin, &HourlyEnergy::default(), &rules);
    assert_eq!(plan.source, WindowSource::Measured);
    assert_eq!(spans(&plan), [(114, 63), (18, 15), (42, 15), (66, 15), (90, 15)]);
    assert_eq!((plan.hours[9].free_gpus, plan.hours[18].free_gpus), (Some(1.0), Some(7.0)));
    assert_eq!((plan.windows[0].free_gpus, plan.windows[0].price_per_kwh), (Some(7.0), None));
    assert!(plan.windows[0].contains(0) && plan.windows[0].contains(167) && !plan.windows[0].contains(9));
    // Nothing is left of 8 GPUs for a job of 6, and everything is left of 100.
    let wide = OffPeakRules { gpus_needed: 6.0, ..OffPeakRules::default() };
    assert_eq!(spans(&super::plan(Some(&office()), 8.0, Berlin, &HourlyEnergy::default(), &wide)), []);
    assert_eq!(spans(&super::plan(Some(&office()), 100.0, Berlin, &HourlyEnergy::default(), &wide)), [(0, 168)]);
}

#[test]
fn without_demand_the_clock_decides_and_capacity_is_unknown() {
    let partly = envelope(|day, _| (day < 3).then_some(1.0));
    for envelope in [None, Some(&partly)] {
        let plan = plan(envelope, 10.0, Berlin, &HourlyEnergy::default(), &OffPeakRules::default());
        assert_eq!(plan.source, WindowSource::RuleOfThumb);
        let expected: Vec<_> = (0..7).map(|day| (day * 24 + 18, 15)).collect();
        assert_eq!(spans(&plan), expected, "18:00 to 9:00 of every day");
        assert_eq!((plan.hours[20].free_gpus, plan.windows[0].free_gpus), (None, None));
    }
}

#[test]
fn cheap_hours_come_first_and_unknown_prices_last() {
    let rules = OffPeakRules { gpus_needed: 4.0, ..OffPeakRules::default() };
    let price = |hour: usize| match hour / 24 {
        1 | 2 => Some(0.20),
        3 => None,
        _ => Some(0.30),
    };
    let carbon = |hour: usize| Some(if hour / 24 == 2 { 100.0 } else { 400.0 });
    let week = |of: &dyn Fn(usize) -> Option<f64>| (0..HOUR_OF_WEEK_COUNT).map(of).collect::<Vec<_>>();
    let energy = HourlyEnergy::new(week(&price), week(&carbon));
    let order = |rules: &OffPeakRules| {
        plan(Some(&office()), 10.0, UTC, &energy, rules)
            .windows
            .iter()
            .map(|window| window.from_hour)
            .collect::<Vec<_>>()
    };
    // Tuesday night is 0.20 throughout; Monday night 6 x 0.30 + 9 x 0.20 = 0.24; the weekend 0.30; the nights of Wednesday and
    // Thursday hold hours of unknown price, the cleaner first: 6 x 100 + 9 x 400 = 280 g.
    assert_eq!(order(&rules), [42, 18, 114, 66, 90]);
    let monday = &plan(Some(&office()), 10.0, UTC, &energy, &rules).windows[1];
    assert!(monday.price_per_kwh.is_some_and(|price| (price - 0.24).abs() < 1e-9), "{monday:?}");
    // At 1000 a tonne: Tuesday night (6 x 400 + 9 x 100) / 15 = 220 g = 0.22 on 0.20; Monday night 0.40 on 0.24.
    let priced = OffPeakRules { carbon_price_per_tonne: 1_000.0, ..rules };
    assert_eq!(order(&priced)[..2], [42, 18]);
}

#[test]
fn the_price_book_gives_the_hours_of_a_week() {
    let book = PriceBook::parse(
        "currency = \"EUR\"\npue = 1.5\n[carbon_g_per_kwh]\nde = 400.0\n[[period]]\nuntil = \"2026-11-18\"\nkwh = 0.2\n\
         [[period]]\nfrom = \"2026-11-18\"\nuntil = \"2026-11-22\"\nkwh = 0.3\n",
    )
    .unwrap();
    let energy = HourlyEnergy::from_book(&book, "de", UTC, MONDAY_US);
    let near = |value: Option<f64>, expected: f64| value.is_some_and(|value| (value - expected).abs() < 1e-9);
    assert!(near(energy.price_per_kwh(0), 0.3) && near(energy.price_per_kwh(48), 0.45));
    assert_eq!(energy.price_per_kwh(6 * 24), None, "Sunday is in no period");
    assert!(near(energy.carbon_g_per_kwh(100), 600.0));
    assert_eq!(HourlyEnergy::from_book(&book, "fr", UTC, MONDAY_US).carbon_g_per_kwh(0), None);
    let without = PriceBook::parse("currency = \"EUR\"\nkwh = 0.2\n").unwrap();
    assert_eq!(HourlyEnergy::from_book(&without, "de", UTC, MONDAY_US).price_per_kwh(0), None, "no effectiveness");
}

#[test]
fn windows_become_lines_of_a_cron_in_their_zone() {
    let rules = OffPeakRules { gpus_needed: 4.0, ..OffPeakRules::default() };
    let lines = cron_lines(&plan(Some(&office()), 10.0, Berlin, &HourlyEnergy::default(), &rules).windows, Berlin);
    let schedules: Vec<_> = lines.iter().map(|line| (line.schedule.as_str(), line.hour_count)).collect();
    assert_eq!(schedules, [("0 18 * * 5", 63), ("0 18 * * 1,2,3,4", 15)]);
    assert_eq!(lines[1].crontab("train --date %F"), "CRON_TZ=Europe/Berlin\n0 18 * * 1,2,3,4 train --date \\%F\n");
    let daily = plan(None, 10.0, Berlin, &HourlyEnergy::default(), &OffPeakRules::default());
    assert_eq!(cron_lines(&daily.windows, Berlin)[0].schedule, "0 18 * * *");
    for line in lines {
        line.schedule.parse::<croner::Cron>().unwrap();
    }
}

#[test]
fn jobs_at_peak_are_found_with_what_moving_them_frees() {
    let rules = OffPeakRules { gpus_needed: 4.0, ..OffPeakRules::default() };
    let price =
        (0..HOUR_OF_WEEK_COUNT).map(|hour| Some(if (9..18).contains(&(hour % 24)) { 0.4 } else { 0.2 })).collect();
    let energy = HourlyEnergy::new(price, vec![Some(300.0); HOUR_OF_WEEK_COUNT]);
    let plan = plan(Some(&office()), 10.0, UTC, &energy, &rules);
    let job = |name: &str, from_hours: f64, hours: f64, gpus, power_watts| TrainingJob {
        name: name.into(),
        start_us: MONDAY_US + (from_hours * HOUR_US as f64) as i64,
        end_us: MONDAY_US + ((from_hours + hours) * HOUR_US as f64) as i64,
        gpus,
        power_watts,
    };
    let jobs = [
        job("night", 20.0, 8.0, 4.0, None),
        job("morning", 7.0, 4.0, 4.0, Some(2_000.0)),
        job("noon", 12.0, 3.5, 4.0, None),
        job("huge", 10.0, 2.0, 20.0, Some(9_000.0)),
    ];
    let found = peak_jobs(&plan, &jobs);
    let names: Vec<_> = found.iter().map(|found| (found.job.name.as_str(), found.peak_gpu_hours)).collect();
    assert_eq!(names, [("huge", 40.0), ("noon", 14.0), ("morning", 8.0)]);
    // Two of its four hours are at peak, where 1 GPU is free.
    let morning = &found[2];
    assert_eq!((morning.peak_share, morning.tightest), (0.5, Some((9, 1.0))));
    // The nights cost 0.20 throughout (15 hours from Monday 18:00); it ran 2 x 0.2 + 2 x 0.4 = 1.2 at 2 kW: (1.2 - 0.8) x 2.
    assert!(morning.window.is_some_and(|window| window.hour_count >= 15));
    assert!(morning.saving.is_some_and(|saving| (saving - 0.8).abs() < 1e-9), "{morning:?}");
    assert!(morning.carbon_g.is_some_and(|grams| grams.abs() < 1e-9));
    assert_eq!((found[1].saving, found[1].window.is_some()), (None, true), "its power is not known");
    assert_eq!((found[0].window, found[0].saving), (None, None), "no window has 20 GPUs");
}

#[test]
fn jobs_are_told_in_local_time_over_a_clock_change() {
    let plan = plan(None, 10.0, Berlin, &HourlyEnergy::default(), &OffPeakRules::default());
    // 2026-03-27 and 2026-03-30, 07:00 to 08:00 UTC: 08:00 before the change (off-peak), 09:00 after it.
    let job =
        |start_us| TrainingJob { name: "j".into(), start_us, end_us: start_us + HOUR_US, gpus: 1.0, power_watts: None };
    let friday_us = 1_774_594_800_000_000;
    assert!(peak_jobs(&plan, &[job(friday_us)]).is_empty());
    let after = peak_jobs(&plan, &[job(friday_us + 3 * DAY_US)]);
    assert_eq!((after.len(), after[0].peak_share, after[0].tightest), (1, 1.0, None));
    assert!(peak_jobs(&plan, &[TrainingJob { end_us: 0, ..job(friday_us) }]).is_empty(), "it ends before it starts");
}

/// A week of two cards that serve, and of one that has a job for two hours around noon of the first day and is silent else.
fn noon() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (id, pod) in [("a", "serve-0"), ("b", "serve-1"), ("c", "train-0")] {
        let labels = labels(&[("host_name", "h1"), ("gpu_id", id), ("k8s_pod", pod)]);
        for minute in (0..7 * 1_440).step_by(5) {
            let is_noon = (12..14).contains(&(minute / 60 % 24));
            let at_job = pod == "train-0" && minute < 14 * 60 && is_noon;
            let duty = match pod {
                "train-0" if at_job => 0.9,
                "train-0" => continue,
                _ if is_noon => 0.9,
                _ => 0.1,
            };
            let time_us = MONDAY_US + minute * MINUTE_US;
            let at = |role, value| Sample { time_us, role, value, labels: labels.clone(), simulated: false };
            samples.extend([at("gpu.utilization", duty + (minute % 7) as f64 / 1_000.0), at("gpu.power", 500.0)]);
        }
    }
    samples
}

fn week(files: bool) -> OffPeakRequest {
    let window = Window::new(MONDAY_US, MONDAY_US + 7 * DAY_US).unwrap();
    let rules = OffPeakRules::default();
    OffPeakRequest { window, zone: UTC, prices: None, rules, files, holidays: vec![], now_us: window.end_us }
}

/// A series that is there on the first day.
fn first_day(
    pairs: &[(&'static str, &str)],
    attributes: &[(&'static str, &'static str)],
    metric: [&'static str; 3],
) -> SeriesRow {
    SeriesRow {
        last_us: MONDAY_US + 13 * HOUR_US,
        labels: labels(pairs),
        attributes: attributes.to_vec(),
        metric,
        ..SeriesRow::default()
    }
}

#[tokio::test]
async fn a_job_at_noon_is_found_in_the_telemetry_and_on_its_page_and_its_time_counts_as_free() {
    let mut samples = noon();
    let job = first_day(&[("k8s_pod", "train-0")], &[("k8s.job.name", "nightly")], [""; 3]);
    let report = examine(&session(&samples, &[job]), None, &week(false)).await.unwrap();
    let fleet = &report.fleets[0];
    assert_eq!((report.fleets.len(), fleet.gpu_count, fleet.job_count), (1, 3, 1));
    // A third of the cards is silent but for two hours: too little to call hours free.
    assert!(fleet.coverage < 0.7 && fleet.plan.source == WindowSource::RuleOfThumb, "{}", fleet.coverage);
    assert!(report.to_text().contains("Too little was measured"), "{}", report.to_text());
    assert_eq!(fleet.jobs[0].job.name, "nightly");
    // The same where kube-state-metrics tells the owner only.
    let owner = first_day(&[("k8s_pod", "train-0")], &[("owner_kind", "Job"), ("owner_name", "nightly")], [""; 3]);
    let owned = examine(&session(&samples, &[owner]), None, &week(false)).await.unwrap();
    assert_eq!(owned.fleets[0].jobs[0].job.name, "nightly");
    assert!((fleet.jobs[0].peak_gpu_hours - 2.0).abs() < 0.1, "{:?}", fleet.jobs[0]);
    let html = report.to_html();
    for words in ["the rule of thumb holds", "1 of 1 jobs ran at peak", "nightly", "unknown"] {
        assert!(html.contains(words), "{words}\n{html}");
    }
    crate::page::look(&html, "offpeak-jobs");
    // With the two serving cards alone the hours are known: at noon 2 x 0.9 of demand leave nothing of 2 x 0.9.
    samples.retain(|sample| !sample.labels.contains(&("k8s_pod", "train-0".into())));
    let report = examine(&session(&samples, &[]), None, &week(false)).await.unwrap();
    let fleet = &report.fleets[0];
    assert_eq!((fleet.plan.source, fleet.job_count), (WindowSource::Measured, 0));
    assert!(!fleet.plan.hours[12].is_off_peak && fleet.plan.hours[11].is_off_peak, "{:?}", &fleet.plan.hours[10..14]);
    assert_eq!(spans(&fleet.plan)[0].1, 22, "from 14:00 to 12:00 of the next day");
    let html = report.to_html();
    for words in ["Free GPUs by hour of the week", "0 14 * * *", "Mon 14:00", "No job named itself"] {
        assert!(html.contains(words), "{words}\n{html}");
    }
    assert!(!html.contains(">-0"), "nothing has no sign");
    crate::page::look(&html, "offpeak");
    let text = report.to_text();
    assert!(text.contains("CRON_TZ=UTC\n0 14 * * *") && text.contains("No job named itself"), "{text}");
    let batch = report.to_batch().unwrap();
    assert_eq!(batch.num_rows(), HOUR_OF_WEEK_COUNT);
}

#[tokio::test]
async fn a_cron_job_at_peak_gets_another_schedule_and_the_windows_lines_for_cron() {
    let names = [("k8s.job.name", "nightly"), ("k8s.cronjob.name", "train")];
    let job = first_day(&[("k8s_pod", "train-0"), ("k8s_namespace", "ml")], &names, [""; 3]);
    let info = ["kube_cronjob_info", "gauge", ""];
    let schedule = first_day(&[("k8s_namespace", "ml")], &[("cronjob", "train"), ("schedule", "0 12 * * *")], info);
    let report = examine(&session(&noon(), &[job.clone(), schedule]), None, &week(true)).await.unwrap();
    let made = report.fleets[0].manifests.as_ref().unwrap();
    let names: Vec<&str> = made.folders.iter().map(|folder| folder.name.as_str()).collect();
    assert_eq!((names.as_slice(), made.notes.len()), (&["crontab", "schedule1"][..], 0), "{:?}", made.notes);
    let [to, from] = [0, 1].map(|at| made.folders[1].change.files[at].text.as_str());
    // From the first to the last point, and its minute: 1 h 56 min.
    assert!(to.contains("nightly ran at peak for 1.9 GPU-hours; it takes 1.9 hours on 1.0 GPUs"), "{to}");
    assert!(to.ends_with("spec:\n  schedule: \"0 18 * * *\"\n  timeZone: \"UTC\"\n"), "{to}");
    assert!(from.ends_with("  schedule: \"0 12 * * *\"\n  timeZone: null\n"), "{from}");
    assert!(made.folders[1].readme.contains("kubectl -n ml patch cronjob train"), "{}", made.folders[1].readme);
    // Without its present schedule nothing could put it back.
    let report = examine(&session(&noon(), &[job]), None, &week(true)).await.unwrap();
    let made = report.fleets[0].manifests.as_ref().unwrap();
    assert!(made.folders.len() == 1 && made.notes[0].contains("kube_cronjob_info"), "{:?}", made.notes);
}

#[tokio::test]
async fn a_job_that_comes_back_leaves_the_days_between_to_serving() {
    let mut samples = Vec::new();
    for id in ["a", "b", "c"] {
        for minute in (0..7 * 1_440_i64).step_by(5) {
            let at_job = id == "c" && matches!(minute / 1_440, 0 | 6) && minute / 60 % 24 == 3;
            let pod = if at_job { "train" } else { "serve" };
            let duty = if (12..14).contains(&(minute / 60 % 24)) { 0.9 } else { 0.1 };
            samples.push(Sample {
                time_us: MONDAY_US + minute * MINUTE_US,
                role: "gpu.utilization",
                value: duty + (minute % 7) as f64 / 1_000.0,
                labels: labels(&[("host_name", "h1"), ("gpu_id", id), ("k8s_pod", pod)]),
                simulated: false,
            });
        }
    }
    let job = SeriesRow {
        last_us: MONDAY_US + 4 * HOUR_US,
        labels: labels(&[("k8s_pod", "train")]),
        attributes: vec![("k8s.job.name", "nightly")],
        ..SeriesRow::default()
    };
    let report = examine(&session(&samples, &[job]), None, &week(false)).await.unwrap();
    // At noon all three cards work: 3 less 3 x 0.9.
    let noon = &report.fleets[0].plan.hours[12];
    assert!(noon.free_gpus.is_some_and(|free| free < 0.5), "{noon:?}");
}

#[tokio::test]
async fn a_holiday_makes_no_hour_of_the_week() {
    // Two quiet weeks but for the second Monday, on which everything is busy all day.
    let samples: Vec<Sample> = (0..14 * 1_440_i64)
        .step_by(5)
        .map(|minute| Sample {
            time_us: MONDAY_US + minute * MINUTE_US,
            role: "gpu.utilization",
            value: if minute / 1_440 == 7 { 0.9 } else { 0.1 } + (minute % 7) as f64 / 1_000.0,
            labels: labels(&[("host_name", "h1"), ("gpu_id", "a"), ("k8s_pod", "serve")]),
            simulated: false,
        })
        .collect();
    let ctx = session(&samples, &[]);
    let window = Window::new(MONDAY_US, MONDAY_US + 14 * DAY_US).unwrap();
    let rules = OffPeakRules { gpus_needed: 0.5, ..OffPeakRules::default() };
    let usual = OffPeakRequest { window, rules, ..week(false) };
    let day = chrono::DateTime::from_timestamp_micros(MONDAY_US + 7 * DAY_US).unwrap().date_naive();
    let marked = OffPeakRequest { holidays: vec![day], ..usual.clone() };
    for (request, is_off_peak) in [(usual, false), (marked, true)] {
        let report = examine(&ctx, None, &request).await.unwrap();
        let plan = &report.fleets[0].plan;
        assert_eq!(
            (plan.source, plan.hours[3].is_off_peak),
            (WindowSource::Measured, is_off_peak),
            "{:?}",
            plan.hours[3]
        );
        assert!(plan.hours[27].is_off_peak, "Tuesday is as before");
        let said = format!("Holidays, which stand for no usual week: {day}.");
        assert_eq!(report.to_text().contains(&said), is_off_peak, "{}", report.to_text());
    }
}
