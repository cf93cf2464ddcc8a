//! How much memory there is: the machine's, or less if a control group says so; and how much of it the process takes.

use std::{fs, path::Path};

/// Bytes that this process could use at most; `None` where the system does not say (other than Linux).
pub(super) fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemTotal:"));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_limit(&text));
    [machine, group].into_iter().flatten().min()
}

/// Physical memory that this process takes, in bytes; `None` where the system does not say.
pub(super) fn resident_bytes() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// A line `NAME 123 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest limit of the control group of this process and of those around it.
fn group_limit(cgroup: &str) -> Option<u64> {
    let limits = cgroup.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // In a container the path may be that of the host, of which only the root is mounted.
        let groups =
            Path::new(path).ancestors().map(|group| Path::new(root).join(group.strip_prefix("/").unwrap_or(group)));
        groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok()).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(field("MemTotal:       24683568 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(24_683_568 * 1024));
        assert_eq!(field("MemFree: 1 kB\n", "MemTotal:"), None);
    }

    #[test]
    fn groups_that_are_not_there_limit_nothing() {
        assert_eq!(group_limit("0::/no/such/group-of-driftwatt\n").filter(|limit| *limit == 0), None);
        assert_eq!(group_limit("7:cpu:/\n"), None);
    }
}
