//! Limits and use of containers, from control groups of version 2.
//!
//! What is read: every control group whose name is a container's, and the one at the top where that has limits, which is
//! so inside a container. `max` is no limit, and no value.
//!
//! Source: `Documentation/admin-guide/cgroup-v2.rst` of the Linux kernel.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use opentelemetry::KeyValue;

use crate::{cgroup, reading::Sample};

/// Containers told of one machine.
const CONTAINERS_MAX: usize = 256;

/// Control groups looked at, and how deep, to find them.
const GROUPS_MAX: usize = 4096;
const DEPTH_MAX: usize = 10;

/// Reads the control groups below `dir`.
pub(super) fn read(dir: &Path, sample: &mut Sample) {
    // In a hybrid setup, and with version 1, the values are elsewhere.
    if !dir.join("cgroup.controllers").exists() {
        return sample.fail("container", "not_supported");
    }
    if dir.join("memory.max").exists() {
        read_group(dir, &[], sample);
    }
    for group in containers(dir, sample) {
        let owner = cgroup::owner_of_path(&group.strip_prefix(dir).unwrap_or(&group).to_string_lossy());
        let id = owner.container_id.map(|id| KeyValue::new("container.id", id));
        let uid = owner.pod_uid.map(|uid| KeyValue::new("k8s.pod.uid", uid));
        let attributes: Vec<_> = id.into_iter().chain(uid).collect();
        read_group(&group, &attributes, sample);
    }
}

/// The control groups of containers; what is inside of them is not looked at.
fn containers(dir: &Path, sample: &mut Sample) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut to_visit = vec![(dir.to_owned(), 0)];
    let mut visited = 0;
    while let Some((group, depth)) = to_visit.pop() {
        visited += 1;
        if visited > GROUPS_MAX {
            sample.fail("container", "limit");
            return found;
        }
        // A group may be gone by now.
        let Ok(entries) = fs::read_dir(&group) else { continue };
        for entry in entries.filter_map(io::Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let is_container = cgroup::owner_of_path(&entry.file_name().to_string_lossy()).container_id.is_some();
            if is_container && found.len() == CONTAINERS_MAX {
                sample.fail("container", "limit");
                return found;
            }
            if is_container {
                found.push(entry.path());
            } else if depth < DEPTH_MAX {
                to_visit.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

fn read_group(dir: &Path, attributes: &[KeyValue], sample: &mut Sample) {
    let text = |file: &str| fs::read_to_string(dir.join(file)).ok();
    let Some(statistics) = text("cpu.stat") else {
        return sample.fail("container", "no_data");
    };
    for (metric, key) in
        [("container.cpu.time", "usage_usec "), ("driftwatt.container.cpu.throttled.time", "throttled_usec ")]
    {
        // Throttling is told only of groups with the controller.
        let value = statistics.lines().find_map(|line| line.strip_prefix(key));
        if let Some(microseconds) = value.and_then(number) {
            sample.push(metric, microseconds / 1e6, attributes);
        }
    }
    if let Some(cpus) = text("cpu.max").as_deref().and_then(cpu_limit) {
        sample.push("driftwatt.container.cpu.limit", cpus, attributes);
    }
    for (metric, file) in
        [("container.memory.usage", "memory.current"), ("driftwatt.container.memory.limit", "memory.max")]
    {
        if let Some(bytes) = text(file).as_deref().and_then(number) {
            sample.push(metric, bytes, attributes);
        }
    }
}

/// Reads `200000 100000`, quota and period, as two CPUs; `max 100000` is no limit.
fn cpu_limit(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (number(quota)?, number(period)?);
    (period > 0.0).then(|| quota / period)
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<u64>().ok().map(|number| number as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(dir: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    fn values(sample: &Sample, id: Option<&str>) -> Vec<(&'static str, f64)> {
        let is_of = |attributes: &[KeyValue]| attributes.first().map(|a| a.value.to_string()) == id.map(str::to_owned);
        sample.readings.iter().filter(|r| is_of(&r.attributes)).map(|r| (r.metric, r.value)).collect()
    }

    #[test]
    fn containers_have_use_and_limits_and_no_limit_is_no_value() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = ("a1".repeat(32), "b2".repeat(32));
        group(root.path(), &[("cgroup.controllers", "cpu memory\n")]);
        let pod = "kubepods.slice/kubepods-pod5e1c9f1a_37d2_4b0e_9c55_0a1b2c3d4e5f.slice";
        group(
            &root.path().join(pod).join(format!("cri-containerd-{first}.scope")),
            &[
                ("cpu.stat", "usage_usec 12500000\nuser_usec 1\nnr_throttled 3\nthrottled_usec 250000\n"),
                ("cpu.max", "150000 100000\n"),
                ("memory.current", "1048576\n"),
                ("memory.max", "2097152\n"),
            ],
        );
        group(
            &root.path().join(format!("system.slice/docker-{second}.scope")),
            &[("cpu.stat", "usage_usec 1\n"), ("cpu.max", "max 100000\n"), ("memory.max", "max\n")],
        );
        group(&root.path().join("system.slice/sshd.service"), &[("cpu.stat", "usage_usec 9\n")]);
        let mut sample = Sample::default();
        read(root.path(), &mut sample);
        let expected = [
            ("container.cpu.time", 12.5),
            ("driftwatt.container.cpu.throttled.time", 0.25),
            ("driftwatt.container.cpu.limit", 1.5),
            ("container.memory.usage", 1_048_576.0),
            ("driftwatt.container.memory.limit", 2_097_152.0),
        ];
        assert_eq!(values(&sample, Some(&first)), expected);
        let told = sample.readings.iter().find(|reading| reading.attributes[0].value.to_string() == first).unwrap();
        assert_eq!(told.attributes[1], KeyValue::new("k8s.pod.uid", "5e1c9f1a-37d2-4b0e-9c55-0a1b2c3d4e5f"));
        assert_eq!(values(&sample, Some(&second)), [("container.cpu.time", 1e-6)]);
        assert_eq!(sample.readings.len(), 6, "services are no containers");
        assert!(sample.failures.is_empty(), "{:?}", sample.failures);
    }

    #[test]
    fn inside_a_container_the_top_is_its_own_and_version_1_says_that_it_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let mut sample = Sample::default();
        read(root.path(), &mut sample);
        assert_eq!(sample.failures.iter().map(|f| f.error_type).collect::<Vec<_>>(), ["not_supported"]);
        let files = [("cgroup.controllers", ""), ("cpu.stat", "usage_usec 5000000\n"), ("memory.max", "4096\n")];
        group(root.path(), &files);
        let mut sample = Sample::default();
        read(root.path(), &mut sample);
        assert_eq!(values(&sample, None), [("container.cpu.time", 5.0), ("driftwatt.container.memory.limit", 4096.0)]);
    }

    #[test]
    fn very_many_containers_are_cut_off() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), &[("cgroup.controllers", "")]);
        for number in 0..300 {
            group(&root.path().join(format!("docker/{number:064x}")), &[("cpu.stat", "usage_usec 1\n")]);
        }
        group(&root.path().join("system.slice"), &[]);
        let mut sample = Sample::default();
        read(root.path(), &mut sample);
        assert_eq!(sample.readings.len(), CONTAINERS_MAX);
        assert_eq!(sample.failures.iter().map(|f| f.error_type).collect::<Vec<_>>(), ["limit"]);
    }
}
