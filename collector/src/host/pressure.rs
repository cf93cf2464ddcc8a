//! Pressure stall information: how long work waited for CPU, memory or I/O.
//!
//! Source: `Documentation/accounting/psi.rst` of the Linux kernel.

use std::{fs, path::Path};

use opentelemetry::KeyValue;

use crate::reading::Sample;

const METRIC: &str = "driftwatt.pressure.stall.time";

/// Reads `pressure/*` below `proc_dir`.
pub(super) fn read(proc_dir: &Path, sample: &mut Sample) {
    for resource in ["cpu", "memory", "io"] {
        // Not in older kernels, nor where it was switched off.
        let Ok(text) = fs::read_to_string(proc_dir.join("pressure").join(resource)) else {
            sample.fail(METRIC, "not_supported");
            continue;
        };
        for line in text.lines() {
            let Some((who, seconds)) = stall(line) else {
                sample.fail(METRIC, "invalid");
                continue;
            };
            // That all wait for a CPU is not defined for a machine: the kernel writes 0.
            if (resource, who) == ("cpu", "full") {
                continue;
            }
            let attributes = [
                KeyValue::new("driftwatt.pressure.resource", resource),
                KeyValue::new("driftwatt.pressure.share", who),
            ];
            sample.push(METRIC, seconds, &attributes);
        }
    }
}

/// Reads `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`, where the total is in microseconds.
fn stall(line: &str) -> Option<(&'static str, f64)> {
    let mut words = line.split_ascii_whitespace();
    let who = match words.next()? {
        "some" => "some",
        "full" => "full",
        _ => return None,
    };
    let total = words.find_map(|word| word.strip_prefix("total="))?.parse::<u64>().ok()?;
    Some((who, total as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_in_seconds_and_what_is_undefined_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let write = |resource: &str, text: &str| {
            fs::create_dir_all(dir.path().join("pressure")).unwrap();
            fs::write(dir.path().join("pressure").join(resource), text).unwrap();
        };
        write("cpu", "some avg10=1.00 avg60=2.00 avg300=3.00 total=1500000\nfull avg10=0.00 total=0\n");
        write("memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull total=x\n");
        let mut sample = Sample::default();
        read(dir.path(), &mut sample);
        let read: Vec<_> = sample.readings.iter().map(|r| (r.attributes[0].value.to_string(), r.value)).collect();
        assert_eq!(read, [("cpu".to_owned(), 1.5), ("memory".to_owned(), 0.25)]);
        let failed: Vec<_> = sample.failures.iter().map(|failure| failure.error_type).collect();
        assert_eq!(failed, ["invalid", "not_supported"]);
    }
}
