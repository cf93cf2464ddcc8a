//! CPU seconds from `/proc/stat`, which `sysinfo` does not pass on, and what the collector's own processes cost.
//!
//! Source: `man proc_stat`, `man proc_pid_stat`, `man proc_pid_status`.

use std::fs;

use opentelemetry::KeyValue;

use crate::reading::Sample;

/// Ticks per second of the values in `/proc/stat`: the kernel's user-space ABI fixes it at 100 on every architecture
/// this builds for, whatever the kernel's own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"];

/// Seconds of all CPUs together by mode, or `None` if the text is not a `/proc/stat`.
pub(crate) fn cpu_seconds(text: &str) -> Option<[(&'static str, f64); 8]> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut ticks = line.split_ascii_whitespace().map(str::parse::<u64>);
    let mut seconds = MODES.map(|mode| (mode, 0.0));
    for (_, value) in &mut seconds {
        *value = ticks.next()?.ok()? as f64 / TICKS_PER_SECOND;
    }
    Some(seconds)
}

/// What one process has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    cpu_seconds: f64,
    memory_bytes: f64,
}

impl Cost {
    /// Adds the cost to `sample` as that of `part` of the collector.
    pub(crate) fn push(self, part: &'static str, sample: &mut Sample) {
        let attributes = [KeyValue::new("driftwatt.collector.process", part)];
        sample.push("driftwatt.collector.process.cpu.time", self.cpu_seconds, &attributes);
        sample.push("driftwatt.collector.process.memory.usage", self.memory_bytes, &attributes);
    }
}

/// What a process of the collector has used, where the kernel shows it.
pub(crate) fn process_cost(pid: u32) -> Option<Cost> {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    cost(&read("stat")?, &read("status")?)
}

fn cost(stat: &str, status: &str) -> Option<Cost> {
    // The name of the program, in parentheses, may hold anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut ticks = after_name.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let cpu = ticks.next()?.ok()? + ticks.next()?.ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes = resident.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?;
    Some(Cost { cpu_seconds: cpu as f64 / TICKS_PER_SECOND, memory_bytes: (kibibytes * 1024) as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_line_is_read_in_seconds() {
        let text = "cpu  100 20 300 4000 50 6 7 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        let seconds = cpu_seconds(text).unwrap();
        assert_eq!(seconds[0], ("user", 1.0));
        assert_eq!(seconds[3], ("idle", 40.0));
        assert_eq!(seconds[7], ("steal", 0.8));
    }

    #[test]
    fn a_short_or_foreign_text_gives_nothing() {
        assert_eq!(cpu_seconds("cpu  1 2 3\n"), None);
        assert_eq!(cpu_seconds("cpu  1 2 x 4 5 6 7 8\n"), None);
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "4242 (a) S (b)) S 1 2 3 4 5 6 7 8 9 10 1500 250 30 40 20 0 8 0 12345 1 2 3\n";
        let status = "Name:\ta\nVmHWM:\t   9000 kB\nVmRSS:\t   8192 kB\nThreads:\t8\n";
        assert_eq!(cost(stat, status), Some(Cost { cpu_seconds: 17.5, memory_bytes: 8_388_608.0 }));
        assert_eq!(cost(stat, "Name:\tkernel thread\n"), None);
        assert_eq!(cost("4242 (a) S 1 2\n", status), None);
    }
}
