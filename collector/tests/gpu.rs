//! GPUs without a GPU: the real binary, its reading process and the real NVML wrapper, against a library built from C
//! whose answers, errors and hangs are scripted.
#![cfg(target_os = "linux")]

#[path = "gpu/endurance.rs"]
mod endurance;
#[path = "gpu/faults.rs"]
mod faults;
#[cfg(feature = "gpu")]
#[path = "gpu/real_card.rs"]
mod real_card;
#[path = "gpu/receiver.rs"]
mod receiver;
#[path = "gpu/stand_in.rs"]
mod stand_in;
#[path = "gpu/workloads.rs"]
mod workloads;

use std::collections::BTreeMap;

use receiver::{Collector, Export};
use stand_in::StandIn;

const GPU: [(&str, &str); 1] = [("hw.id", "GPU-a")];

/// A GPU that has everything, at 250 W, and the others with their values.
fn card(power_milliwatts: u32) -> String {
    format!(
        "count 1\n0.uuid GPU-a\n0.name NVIDIA H100 80GB HBM3\n0.utilization 37 12\n\
         0.memory 85520809984 503316480 42508246016 42509247488\n0.power {power_milliwatts}\n0.limit 700000\n\
         0.energy 123456789\n0.temperature 61\n0.clock.graphics 1980\n0.clock.sm 1980\n0.clock.memory 2619\n\
         0.clock.video 1545\n0.throttle 4\n"
    )
}

fn errors(export: &Export, reading: &str, error_type: &str) -> Option<f64> {
    let attributes = [("driftwatt.collector.reading", reading), ("error.type", error_type)];
    export.value("driftwatt.collector.scrape.errors", &attributes)
}

#[test]
fn values_are_in_their_units_and_what_is_blank_or_unsupported_is_left_out() {
    let other = "count 2\n1.uuid GPU-b\n1.name Tesla M40\n1.utilization 4294967295 3\n\
                 1.memory 18446744073709551615 0 0 1024\n1.power 2147483632\n1.limit error 3\n\
                 1.energy 9223372036854775794\n1.temperature error 15\n1.clock.sm 0\n";
    let stand_in = StandIn::build(&(card(250_123) + other));
    let exports = Collector::start(&stand_in).until("both GPUs", |export| !export.of_gpu("GPU-b").is_empty());
    let export = exports.last().unwrap();

    let mut expected: BTreeMap<String, f64> = [
        ("hw.gpu.utilization general", 0.37),
        ("driftwatt.gpu.memory.io.utilization", 0.12),
        ("hw.gpu.memory.limit", 85_520_809_984.0),
        ("hw.gpu.memory.usage", 42_509_247_488.0),
        ("hw.gpu.memory.utilization", 42_509_247_488.0 / 85_520_809_984.0),
        ("driftwatt.gpu.memory.reserved", 503_316_480.0),
        ("hw.power", 250.123),
        ("driftwatt.gpu.power.limit", 700.0),
        ("hw.energy", 0.0),
        ("hw.temperature", 61.0),
        ("driftwatt.gpu.clock.frequency graphics", 1.98e9),
        ("driftwatt.gpu.clock.frequency sm", 1.98e9),
        ("driftwatt.gpu.clock.frequency memory", 2.619e9),
        ("driftwatt.gpu.clock.frequency video", 1.545e9),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for reason in [
        "gpu_idle",
        "applications_clocks_setting",
        "sw_power_cap",
        "hw_slowdown",
        "sync_boost",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
        "display_clock_setting",
    ] {
        expected.insert(format!("driftwatt.gpu.throttle {reason}"), f64::from(u8::from(reason == "sw_power_cap")));
    }
    assert_eq!(export.of_gpu("GPU-a"), expected);
    let model = export.point("hw.power", &GPU).unwrap().attributes["hw.model"].clone();
    assert_eq!(model, "NVIDIA H100 80GB HBM3");

    let expected: BTreeMap<String, f64> = [
        ("driftwatt.gpu.memory.io.utilization", 0.03),
        ("hw.gpu.memory.usage", 1024.0),
        ("driftwatt.gpu.memory.reserved", 0.0),
        ("driftwatt.gpu.clock.frequency sm", 0.0),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    assert_eq!(export.of_gpu("GPU-b"), expected, "no sentinel, and no share of an unknown whole");
    for (reading, error_type) in [
        ("hw.gpu.utilization", "blank"),
        ("hw.gpu.memory.limit", "blank"),
        ("hw.power", "blank"),
        ("hw.energy", "blank"),
        ("driftwatt.gpu.power.limit", "not_supported"),
        ("driftwatt.gpu.throttle", "not_supported"),
        ("hw.temperature", "gpu_lost"),
    ] {
        assert!(errors(export, reading, error_type).is_some(), "{reading} {error_type} is counted");
    }
    assert_eq!(export.stuck(), Some(0.0));
    assert_eq!(export.value("driftwatt.collector.gpu.library_available", &[]), Some(1.0));
    assert_eq!(export.value("driftwatt.collector.gpu.device.count", &[]), Some(2.0));
}

#[test]
fn a_hung_call_leaves_no_false_value_while_the_host_goes_on_and_ends_when_the_driver_answers() {
    let stand_in = StandIn::build(&card(250_000));
    let collector = Collector::start(&stand_in);
    collector.until("a reading", |export| export.value("hw.power", &GPU) == Some(250.0));

    stand_in.play(&(card(250_000) + "0.power hang 30000\n"));
    let hung = collector.until("the end of the last good values", |export| {
        export.stuck() == Some(1.0) && export.of_gpu("GPU-a").is_empty()
    });
    for export in &hung {
        assert!(export.value("system.memory.limit", &[]).is_some_and(|bytes| bytes > 0.0), "the host goes on");
        let gpu = export.of_gpu("GPU-a");
        if !gpu.is_empty() {
            assert_eq!(
                (gpu["hw.power"], gpu["hw.gpu.utilization general"]),
                (250.0, 0.37),
                "the last good values or none"
            );
        }
    }
    assert!(hung.iter().any(|export| export.stuck() == Some(1.0) && !export.of_gpu("GPU-a").is_empty()));
    let export = hung.last().unwrap();
    let source = [("driftwatt.collector.source", "gpu")];
    let age = export.value("driftwatt.collector.snapshot.age", &source).unwrap();
    assert!(age > 3.0, "values ended at an age of {age} s");
    assert!(errors(export, "snapshot", "timeout").is_some_and(|count| count >= 1.0));

    stand_in.play(&card(300_000));
    let recovered = collector.until("recovery", |export| export.stuck() == Some(0.0));
    assert_eq!(recovered.last().unwrap().value("hw.power", &GPU), Some(300.0));
    let before = &recovered[..recovered.len() - 1];
    assert!(before.iter().all(|export| export.of_gpu("GPU-a").is_empty()), "nothing is invented meanwhile");
}

#[test]
fn a_gpu_that_is_unplugged_ends_its_series_and_no_other() {
    let second = "count 2\n1.uuid GPU-b\n1.power 100000\n1.utilization 5 5\n";
    let stand_in = StandIn::build(&(card(250_000) + second));
    let collector = Collector::start(&stand_in);
    collector.until("both GPUs", |export| !export.of_gpu("GPU-b").is_empty());
    let gone = |export: &Export| export.of_gpu("GPU-b").is_empty();
    let check = |exports: &[Export]| {
        for export in exports {
            assert_eq!(export.value("hw.power", &GPU), Some(250.0), "the other goes on");
            assert!(export.value("hw.power", &[("hw.id", "GPU-b")]).is_none_or(|watts| watts == 100.0));
        }
    };

    // Lost first, as the driver says it at once, then no longer counted.
    stand_in.play(&(card(250_000) + second + "1.handle error 15\n"));
    let exports = collector.until("the end of the second", gone);
    check(&exports);
    let last = exports.last().unwrap();
    assert_eq!(last.value("driftwatt.collector.gpu.device.count", &[]), Some(2.0));
    assert!(errors(last, "device", "gpu_lost").is_some());

    stand_in.play(&card(250_000));
    let count = |export: &Export| export.value("driftwatt.collector.gpu.device.count", &[]) == Some(1.0);
    let exports = collector.until("one GPU", count);
    check(&exports);
    assert!(exports.iter().all(gone));
}

#[test]
fn energy_goes_on_over_a_driver_reload_with_nothing_lost_or_invented() {
    let at = |millijoules: u64| card(250_000).replace("0.energy 123456789", &format!("0.energy {millijoules}"));
    let stand_in = StandIn::build(&at(1_000_000));
    let collector = Collector::start(&stand_in);
    let mut exports = collector.until("a reading", |export| export.value("hw.energy", &GPU) == Some(0.0));
    let mut play = |script: &str, joules: f64| {
        stand_in.play(script);
        exports
            .extend(collector.until(&format!("{joules} J"), |export| export.value("hw.energy", &GPU) == Some(joules)));
    };
    play(&at(1_500_000), 500.0);

    // The driver is taken out: no value. Then it counts from zero again.
    stand_in.play("count error 9\ninit error 9\n");
    let away = collector.until("no driver", |export| export.of_gpu("GPU-a").is_empty());
    assert_eq!(away.last().unwrap().value("driftwatt.collector.gpu.library_available", &[]), Some(0.0));
    play(&at(20_000), 520.0);
    play(&at(50_000), 550.0);

    let points: Vec<_> = exports.iter().filter_map(|export| export.point("hw.energy", &GPU)).collect();
    assert!(points.windows(2).all(|pair| pair[0].value <= pair[1].value), "{points:?}");
    let start = points[0].start_time_unix_nano;
    assert!(start > 0 && points.iter().all(|point| point.start_time_unix_nano == start), "one count since one start");
}

#[test]
fn a_service_manager_that_signals_every_process_still_gets_a_last_sample() {
    let stand_in = StandIn::build(&card(250_000));
    let collector = Collector::start(&stand_in);
    collector.until("a reading", |export| export.stuck() == Some(0.0));
    let (status, exports) = collector.terminate();
    assert!(status.success(), "{status}");
    let last = exports.last().expect("the last export");
    assert_eq!((last.stuck(), last.value("hw.power", &GPU)), (Some(0.0), Some(250.0)));
}
