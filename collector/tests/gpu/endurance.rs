//! What the collector costs, and a server that is away for long.
//!
//! `DRIFTWATT_COLLECTOR_SECONDS` says for how long each of the two runs: with 60 or more at the default interval of 15 s,
//! otherwise a few seconds at the shortest interval. The figures are printed, so that
//! `DRIFTWATT_COLLECTOR_SECONDS=600 cargo test --release --workspace --test gpu endurance -- --nocapture --test-threads 1`
//! tells them.

use std::{fs, thread, time::Duration};

use crate::{
    card,
    receiver::{Collector, Export},
    stand_in::StandIn,
};

/// CPU time allowed for a collection: 1 % of a core at 15 s.
const CPU_PER_COLLECTION: Duration = Duration::from_millis(150);

/// Memory allowed to both processes together. What they share, above all the program, is in both; without optimisation the
/// program is several times as large.
const RESIDENT_BYTES_MAX: u64 = if cfg!(debug_assertions) { 64 << 20 } else { 40 << 20 };

struct Run {
    whole: Duration,
    interval: Duration,
}

impl Run {
    fn from_environment() -> Self {
        let seconds = std::env::var("DRIFTWATT_COLLECTOR_SECONDS").ok();
        let seconds = seconds.map_or(8, |text| text.parse().expect("DRIFTWATT_COLLECTOR_SECONDS is a number"));
        let interval = Duration::from_secs(if seconds < 60 { 1 } else { 15 });
        Self { whole: Duration::from_secs(seconds), interval }
    }

    fn settings(&self, stand_in: &StandIn, more: &str) -> String {
        let library = stand_in.library().display().to_string();
        format!("interval = \"{}s\"\nnvml_library = {library:?}\n{more}", self.interval.as_secs())
    }
}

/// Eight busy cards with eight processes each.
fn node() -> StandIn {
    let mut script = String::new();
    for gpu in 0..8 {
        let lines = card(250_000) + "0.gpm_support 1\n0.gpm.1 90\n0.gpm.2 80\n0.gpm.3 40\n0.gpm.5 30\n0.gpm.10 60\n";
        let lines = lines.replace("\n0.", &format!("\n{gpu}.")).replace("GPU-a", &format!("GPU-{gpu}"));
        let processes: String = (0..8).map(|process| format!(" {}:1048576", 4000 + gpu * 8 + process)).collect();
        script += &(lines.replace("count 1\n", "") + &format!("{gpu}.processes{processes}\n"));
    }
    StandIn::build(&(script.replace("0.uuid GPU-a", "0.uuid GPU-0") + "count 8\n"))
}

/// A process of the collector: ticks of CPU time (100 a second), and resident bytes now and at most.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    ticks: u64,
    resident: u64,
    peak: u64,
}

fn cost(pid: u32) -> Cost {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a stat line");
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    Cost { ticks, resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
}

/// The one process that any of the threads of `parent` has started.
fn child_of(parent: u32) -> u32 {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).expect("threads").flatten();
    let of_threads = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: String = of_threads.collect();
    children.trim().parse().expect("the process that reads GPUs, and no other")
}

#[test]
fn collecting_costs_less_than_a_hundredth_of_a_core_and_forty_mebibytes() {
    let (run, stand_in) = (Run::from_environment(), node());
    let collector = Collector::start_in(stand_in.folder(), &run.settings(&stand_in, ""));
    let exports = collector.until("all GPUs", |export| !export.of_gpu("GPU-7").is_empty());
    let series = exports.last().expect("it is there").0.len();
    let pids = [collector.id(), child_of(collector.id())];
    let before = pids.map(cost);
    thread::sleep(run.whole);
    let after = pids.map(cost);
    let collections = collector.arrived().len();
    assert!(collections as u64 + 1 >= run.whole.as_secs() / run.interval.as_secs(), "{collections} collections");

    let ticks = |costs: &[Cost; 2]| costs.iter().map(|cost| cost.ticks).sum::<u64>();
    let cpu = Duration::from_millis((ticks(&after) - ticks(&before)) * 10);
    let resident: u64 = after.iter().map(|cost| cost.resident).sum();
    println!(
        "{} s at {} s, 8 GPUs, {series} points: CPU {:.3} % of a core, {} ms a collection; resident {} MiB \
         (collector {}, GPU process {}; at most {})",
        run.whole.as_secs(),
        run.interval.as_secs(),
        cpu.as_secs_f64() / run.whole.as_secs_f64() * 100.0,
        cpu.as_millis() / collections as u128,
        resident >> 20,
        after[0].resident >> 20,
        after[1].resident >> 20,
        after.iter().map(|cost| cost.peak).sum::<u64>() >> 20,
    );
    assert!(cpu < CPU_PER_COLLECTION * collections as u32, "{cpu:?} for {collections} collections");
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes");
}

#[test]
fn nothing_is_lost_while_the_server_is_away() {
    let (run, stand_in) = (Run::from_environment(), node());
    let buffer = stand_in.folder().join("buffer").display().to_string();
    let settings = run.settings(&stand_in, &format!("buffer_dir = {buffer:?}\n"));
    let collector = Collector::start_in(stand_in.folder(), &settings);
    let mut exports = collector.until("all GPUs", |export| !export.of_gpu("GPU-7").is_empty());
    let away = run.whole / 2;
    collector.take_server_away(true);
    thread::sleep(away);
    exports.extend(collector.arrived());
    let missed = (away.as_secs() / run.interval.as_secs()) as usize;
    assert!(exports.len() < missed, "the server was not away: {} exports arrived", exports.len());
    collector.take_server_away(false);
    let buffered = "driftwatt.collector.buffer.usage";
    exports.extend(collector.until("what waited", |export| export.value(buffered, &[]) > Some(0.0)));
    exports.extend(collector.until("the end of what waited", |export| export.value(buffered, &[]) == Some(0.0)));

    let time = |export: &Export| export.point("hw.energy", &GPU_0).map(|point| point.time_unix_nano);
    let times: Vec<_> = exports.iter().skip_while(|export| time(export).is_none()).map(time).collect();
    assert!(times.len() > missed, "{} of at least {missed} collections", times.len());
    let interval = run.interval.as_nanos() as u64;
    for pair in times.windows(2) {
        let (Some(earlier), Some(later)) = (pair[0], pair[1]) else { panic!("a collection without GPUs: {times:?}") };
        assert!(earlier < later && later - earlier < interval * 3 / 2, "in order and without a gap: {times:?}");
    }
    for reason in ["full", "refused", "damaged"] {
        let dropped =
            exports.last().and_then(|e| e.value("driftwatt.collector.buffer.dropped", &[("error.type", reason)]));
        assert_eq!(dropped, Some(0.0), "{reason}");
    }
    println!(
        "{} s without a server at {} s: {} collections, none lost",
        away.as_secs(),
        interval / 1_000_000_000,
        times.len()
    );
}

const GPU_0: [(&str, &str); 1] = [("hw.id", "GPU-0")];
