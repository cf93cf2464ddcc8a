//! Faults, profiling counters and links: what is counted, what is left out, and what survives the process that reads it.

use std::collections::BTreeMap;

use crate::{
    GPU, card, errors,
    receiver::{Collector, Export},
    stand_in::StandIn,
};

const XID: &str = "driftwatt.gpu.xid.errors";

/// The values of a GPU whose names begin so.
fn beginning(export: &Export, begin: &str) -> BTreeMap<String, f64> {
    let of = export.of_gpu("GPU-a").into_iter();
    of.filter_map(|(name, value)| Some((name.strip_prefix(begin)?.trim_start().to_owned(), value))).collect()
}

fn named<const N: usize>(values: [(&str, f64); N]) -> BTreeMap<String, f64> {
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn memory_faults_are_counted_since_the_start_and_unknown_ones_are_absent() {
    let at = |corrected: u32| {
        card(250_000)
            + &format!(
                "0.ecc.corrected {corrected}\n0.ecc.uncorrected 9223372036854775794\n0.field.142 2\n0.field.143 0\n\
                 0.field.144 1\n0.encoder 7\n0.decoder 101\n"
            )
    };
    let stand_in = StandIn::build(&at(40));
    let collector = Collector::start(&stand_in);
    let exports = collector.until("a reading", |export| !beginning(export, "hw.errors").is_empty());
    let export = exports.last().unwrap();
    assert_eq!(beginning(export, "hw.errors"), named([("corrected", 0.0)]), "a blank is no count");
    assert!(errors(export, "hw.errors", "blank").is_some());
    let rows = named([("corrected", 2.0), ("uncorrected", 0.0), (".pending", 1.0)]);
    assert_eq!(beginning(export, "driftwatt.gpu.rows_remapped"), rows);
    assert!(errors(export, "driftwatt.gpu.rows_remapped.failed", "not_supported").is_some());
    let tasks = named([("general", 0.37), ("encoder", 0.07)]);
    assert_eq!(beginning(export, "hw.gpu.utilization"), tasks, "more than the whole is no share");

    stand_in.play(&at(43));
    collector.until("the new errors", |export| beginning(export, "hw.errors") == named([("corrected", 3.0)]));
}

#[test]
fn xid_errors_count_from_the_start_and_outlive_the_gpu_and_the_process() {
    let with = |events: &str| card(250_000) + &format!("0.xid {events}\n");
    let stand_in = StandIn::build(&with("1:31"));
    let collector = Collector::start(&stand_in);
    collector.until("a reading", |export| export.value("hw.power", &GPU) == Some(250.0));

    // The one before the start is not ours; of two that come at once both count.
    stand_in.play(&with("1:31 2:13 3:13"));
    let counted = collector.until("two events", |export| !beginning(export, XID).is_empty());
    assert_eq!(beginning(counted.last().unwrap(), XID), named([("13", 2.0)]));

    // The card falls off the bus: the event of it stays, its values end.
    stand_in.play(&(with("1:31 2:13 3:13 4:79") + "0.handle error 15\n"));
    let lost = collector.until("XID 79", |export| beginning(export, XID) == named([("13", 2.0), ("79", 1.0)]));
    assert_eq!(lost.last().unwrap().of_gpu("GPU-a").len(), 2, "only the counts of events are left");

    // Then its driver hangs, and another process goes on counting.
    stand_in.play(&(with("1:31 2:13 3:13 4:79") + "count hang 30000\n"));
    collector.until("a stuck collector", |export| export.stuck() == Some(1.0));
    stand_in.play(&with("1:31 2:13 3:13 4:79"));
    let both = named([("13", 2.0), ("79", 1.0)]);
    let again = collector.until("the driver", |export| export.value("hw.power", &GPU) == Some(250.0));
    assert_eq!(beginning(again.last().unwrap(), XID), both);
    stand_in.play(&with("1:31 2:13 3:13 4:79 5:79"));
    let all = named([("13", 2.0), ("79", 2.0)]);
    let all = collector.until("the next", |export| beginning(export, XID) == all);
    let point = |export: &Export| export.point(XID, &[("driftwatt.gpu.xid", "79")]).unwrap().start_time_unix_nano;
    assert_eq!(point(all.last().unwrap()), point(again.last().unwrap()), "one count since one start");
}

#[test]
fn a_gpu_that_reports_no_events_goes_on_without() {
    let stand_in = StandIn::build(&(card(250_000) + "0.events error 4\n"));
    let exports = Collector::start(&stand_in).until("a reading", |export| !export.of_gpu("GPU-a").is_empty());
    let export = exports.last().unwrap();
    assert!(errors(export, XID, "no_permission").is_some());
    assert!(export.value(XID, &[]).is_none(), "no count, rather than none");
}

/// Shares of engine, multiprocessors, warps, tensor pipes and memory bandwidth, in percent.
fn profile(percent: [f64; 5]) -> String {
    let ids = [1, 2, 3, 5, 10];
    let lines = ids.iter().zip(percent).map(|(id, value)| format!("0.gpm.{id} {value}\n"));
    "0.gpm_support 1\n".to_owned() + &lines.collect::<String>()
}

fn profiled(export: &Export) -> BTreeMap<String, f64> {
    let names = ["engine.active", "sm.active", "sm.occupancy", "tensor.active", "dram.active"];
    let value = |name: &str| export.value(&format!("driftwatt.gpu.{name}"), &GPU);
    names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect()
}

#[test]
fn a_profile_is_the_mean_between_two_looks_and_a_lost_lock_is_no_idle_gpu() {
    let busy = card(250_000) + &profile([90.0, 87.5, 40.0, 25.0, 100.4]);
    let stand_in = StandIn::build(&busy);
    let collector = Collector::start(&stand_in);
    let exports = collector.until("a profile", |export| !profiled(export).is_empty());
    let values = named([
        ("engine.active", 0.9),
        ("sm.active", 0.875),
        ("sm.occupancy", 0.4),
        ("tensor.active", 0.25),
        ("dram.active", 1.0),
    ]);
    assert_eq!(profiled(exports.last().unwrap()), values);

    // Another profiler owns the counters: they stand still while the GPU is at 37 %.
    stand_in.play(&(card(250_000) + &profile([0.0; 5])));
    let lost = collector.until("the loss", |export| profiled(export).is_empty());
    assert!(errors(lost.last().unwrap(), "driftwatt.gpu.sm.active", "profiler_lost").is_some());
    assert!(lost.iter().all(|export| profiled(export).is_empty() || profiled(export) == values), "no false zero");
    assert_eq!(lost.last().unwrap().value("hw.gpu.utilization", &GPU), Some(0.37), "the rest goes on");

    // An error instead of zeros, and one metric that the card does not have.
    stand_in.play(&(busy.clone() + "0.gpm error 19\n"));
    let refusals = |export: &Export| errors(export, "driftwatt.gpu.sm.active", "other");
    let refused = collector.until("the refusal", |export| refusals(export).is_some());
    assert!(profiled(refused.last().unwrap()).is_empty());
    stand_in.play(&(busy + "0.gpm.5 error 3\n0.gpm.3 nan\n"));
    let back = collector.until("the counters again", |export| !profiled(export).is_empty());
    let left = named([("engine.active", 0.9), ("sm.active", 0.875), ("dram.active", 1.0)]);
    assert_eq!(profiled(back.last().unwrap()), left);
    let first = |pair: &&[Export]| refusals(&pair[0]) == refusals(&pair[1]);
    let first = back.windows(2).find(first).map(|pair| profiled(&pair[0]));
    assert_eq!(first, Some(BTreeMap::new()), "one sample makes no mean, and none goes back over the refusal");

    // Zeros of an idle GPU are values.
    stand_in.play(&(card(90_000).replace("0.utilization 37 12", "0.utilization 0 0") + &profile([0.0; 5])));
    let idle = collector.until("an idle GPU", |export| profiled(export).get("sm.active") == Some(&0.0));
    assert_eq!(profiled(idle.last().unwrap()).len(), 5);
}

#[test]
fn links_are_read_on_request_only_and_from_the_profile_where_there_is_one() {
    let links = "0.pcie.transmit 1500\n0.pcie.receive 4294967295\n0.pcie.replays 5\n0.nvlink0.active 1\n\
                 0.nvlink0.errors.0 11\n0.nvlink0.errors.3 4\n0.nvlink1.active 0\n";
    let gpm = "0.gpm.20 2\n0.gpm.21 4\n0.gpm.60 16\n0.gpm.61 error 3\n";
    let stand_in = StandIn::build(&(card(250_000) + links));
    let read = |export: &Export| export.value("hw.power", &GPU).is_some();
    let is_link = |name: &String| name.contains("pcie") || name.contains("nvlink");
    {
        let without = Collector::start(&stand_in).until("a reading", read);
        assert_eq!(without.last().unwrap().of_gpu("GPU-a").keys().filter(|name| is_link(name)).count(), 0);
    }
    let collector = Collector::start_with(&stand_in, "gpu_links = true\n");
    let of_links = |export: &Export| -> BTreeMap<String, f64> {
        export.of_gpu("GPU-a").into_iter().filter(|(name, _)| is_link(name)).collect()
    };
    let counters = [
        ("driftwatt.gpu.pcie.replays", 0.0),
        ("driftwatt.gpu.nvlink.errors 0 replay", 0.0),
        ("driftwatt.gpu.nvlink.errors 0 crc_data", 0.0),
    ];
    let mut expected = named(counters);
    expected.insert("driftwatt.gpu.pcie.throughput transmit".into(), 1_500_000.0);
    assert_eq!(of_links(collector.until("a reading", read).last().unwrap()), expected, "a blank is no traffic");

    stand_in.play(&(card(250_000) + links + &profile([50.0; 5]) + gpm));
    let profiled = collector.until("a profile", |export| export.value("driftwatt.gpu.sm.active", &GPU).is_some());
    let mut expected = named(counters);
    expected.insert("driftwatt.gpu.pcie.throughput transmit".into(), 2_097_152.0);
    expected.insert("driftwatt.gpu.pcie.throughput receive".into(), 4_194_304.0);
    expected.insert("driftwatt.gpu.nvlink.throughput receive".into(), 16_777_216.0);
    assert_eq!(of_links(profiled.last().unwrap()), expected);
}
