//! Operations and busy time of block devices, which `sysinfo` does not pass on.
//!
//! Source: `Documentation/admin-guide/iostats.rst` of the Linux kernel.

use std::{collections::BTreeSet, fs, path::Path};

use opentelemetry::KeyValue;

use crate::reading::Sample;

/// Reads `diskstats` below `proc_dir` for `devices`, such as `/dev/nvme0n1p1`.
pub(super) fn read(proc_dir: &Path, devices: &BTreeSet<String>, sample: &mut Sample) {
    let Ok(text) = fs::read_to_string(proc_dir.join("diskstats")) else {
        return sample.fail("system.disk.operations", "unavailable");
    };
    for line in text.lines() {
        let Some(line) = Line::parse(line) else {
            sample.fail("system.disk.operations", "invalid");
            continue;
        };
        let device = format!("/dev/{}", line.name);
        if !devices.contains(&device) {
            continue;
        }
        for (direction, operations) in [("read", line.reads), ("write", line.writes)] {
            let attributes =
                [KeyValue::new("system.device", device.clone()), KeyValue::new("disk.io.direction", direction)];
            sample.push("system.disk.operations", operations as f64, &attributes);
        }
        let attributes = [KeyValue::new("system.device", device)];
        sample.push("system.disk.io_time", line.busy_ms as f64 / 1000.0, &attributes);
    }
}

#[derive(Debug, PartialEq)]
struct Line<'a> {
    name: &'a str,
    reads: u64,
    writes: u64,
    busy_ms: u64,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse().ok();
        Some(Self { name: fields.get(2)?, reads: number(3)?, writes: number(7)?, busy_ms: number(12)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_asked_for_have_operations_and_busy_seconds() {
        let dir = tempfile::tempdir().unwrap();
        let text = " 259 0 nvme0n1 1500 10 90000 700 2500 20 80000 900 0 1250 1600 0 0 0 0 5 1\n \
                    259 1 nvme0n1p1 7 0 8 9 11 0 12 13 0 14 15\n   7 0 loop0 1 2 3\n";
        fs::write(dir.path().join("diskstats"), text).unwrap();
        let mut sample = Sample::default();
        read(dir.path(), &BTreeSet::from(["/dev/nvme0n1".to_owned()]), &mut sample);
        let read: Vec<_> = sample.readings.iter().map(|reading| (reading.metric, reading.value)).collect();
        let expected =
            [("system.disk.operations", 1500.0), ("system.disk.operations", 2500.0), ("system.disk.io_time", 1.25)];
        assert_eq!(read, expected);
        assert_eq!(sample.failures.iter().map(|f| f.error_type).collect::<Vec<_>>(), ["invalid"], "the short line");
    }
}
