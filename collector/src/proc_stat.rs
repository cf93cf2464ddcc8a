//! CPU seconds by mode from `/proc/stat`, which `sysinfo` does not pass on.
//!
//! Source: `man proc_stat`.

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
}
