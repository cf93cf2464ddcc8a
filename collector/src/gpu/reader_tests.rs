//! The reader against shell scripts in the place of the reading process.

use std::process::Command;

use super::*;

const TIMEOUT: Duration = Duration::from_millis(300);

fn reader(script: &str, age_max: Duration) -> GpuReader {
    let command = GpuProcess { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    GpuReader::new(command, TIMEOUT, age_max)
}

/// Without what the process itself costs.
fn values(sample: &Sample) -> Vec<(&'static str, f64)> {
    let read = sample.readings.iter().filter(|reading| !reading.metric.starts_with("driftwatt.collector.process."));
    read.map(|reading| (reading.metric, reading.value)).collect()
}

const POWER: &str = r#"'{"readings":[{"metric":"hw.power","value":"250","attributes":[]}],"failures":[]}'"#;
const STUCK: &str = "driftwatt.collector.gpu.stuck";

#[test]
fn a_process_that_stops_answering_is_killed_and_its_values_end_at_their_age() {
    // Answers once, then hangs.
    let mut reader = reader(&format!("read a; echo {POWER}; read b; exec sleep 60"), Duration::from_millis(500));
    let first = reader.sample();
    assert_eq!(values(&first), [("hw.power", 250.0), (STUCK, 0.0)]);
    let memory = first.readings.iter().find(|r| r.metric == "driftwatt.collector.process.memory.usage");
    assert!(cfg!(not(target_os = "linux")) || memory.is_some_and(|reading| reading.value > 0.0), "its cost is known");

    let asked_at = Instant::now();
    let held = reader.sample();
    assert!(asked_at.elapsed() < TIMEOUT * 2, "took {:?}", asked_at.elapsed());
    assert_eq!(values(&held), [("hw.power", 250.0), (STUCK, 1.0)]);
    assert!(held.held >= TIMEOUT);
    assert_eq!(held.failures.iter().map(|f| f.error_type).collect::<Vec<_>>(), ["timeout"]);
    assert!(reader.process.is_none(), "it is replaced, after a pause");

    thread::sleep(Duration::from_millis(300));
    let ended = reader.sample();
    assert_eq!(values(&ended), [(STUCK, 1.0)], "no value rather than an old or a false one");
    assert!(ended.held >= Duration::from_millis(600));
    assert!(reader.leaving.is_empty(), "the killed process was reaped");
}

#[test]
fn a_process_that_dies_writes_nonsense_or_cannot_start_is_no_value() {
    for (script, reason) in [("exit 3", "exited"), ("read a; echo 'driver says hello'; read b", "invalid_answer")] {
        let mut reader = reader(script, Duration::from_secs(60));
        let sample = reader.sample();
        assert_eq!(values(&sample), [(STUCK, 1.0)]);
        assert_eq!(sample.failures.iter().map(|f| f.error_type).collect::<Vec<_>>(), [reason]);
    }
    let command = GpuProcess { program: "/nonexistent/program".into(), arguments: vec![] };
    let sample = GpuReader::new(command, TIMEOUT, Duration::from_secs(60)).sample();
    assert_eq!(sample.failures.iter().map(|f| f.error_type).collect::<Vec<_>>(), ["not_started"]);
}

#[test]
fn a_slow_first_answer_is_waited_for_over_several_samples() {
    let slow = format!("read a; sleep 0.5; echo {POWER}; while read b; do echo {POWER}; done");
    let mut reader = reader(&slow, Duration::from_secs(60));
    let first = reader.sample();
    assert_eq!(values(&first), [], "not stuck yet, and no value");
    assert_eq!(values(&reader.sample()), [("hw.power", 250.0), (STUCK, 0.0)]);
}

#[test]
fn pauses_between_starts_grow_up_to_a_minute() {
    let mut reader = reader("exit 3", Duration::from_secs(60));
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        let before = Instant::now();
        reader.lost(Loss::Exited);
        let waited = reader.start_after - before;
        assert_eq!(waited.as_secs(), pause);
        assert!(!reader.may_start());
    }
}

#[test]
fn processes_that_do_not_end_bound_how_many_are_started() {
    let mut reader = reader(&format!("read a; echo {POWER}"), Duration::from_secs(60));
    // Alive, as a process in an uninterruptible call is after its kill.
    let alive = || Command::new("sleep").arg("60").spawn().unwrap();
    reader.leaving = (0..LEAVING_MAX).map(|_| alive()).collect();
    assert!(!reader.may_start());
    assert_eq!(values(&reader.sample()), []);

    reader.leaving[0].kill().unwrap();
    reader.leaving[0].wait().unwrap();
    assert!(reader.may_start());
    for child in &mut reader.leaving {
        child.kill().unwrap();
    }
}
