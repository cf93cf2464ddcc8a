//! Host and own-process values, from `sysinfo`, `/proc` and control groups.

mod containers;
mod disk_statistics;
mod pressure;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    thread,
};

use opentelemetry::KeyValue;
use sysinfo::{Disk, Disks, MINIMUM_CPU_UPDATE_INTERVAL, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::{proc_stat, reading::Sample};

/// File systems, and likewise interfaces, reported; a node with thousands of container mounts is cut off here.
const DEVICES_MAX: usize = 256;

/// Logical CPUs reported one by one.
const CPUS_MAX: usize = 1024;

/// File systems that hold no data of their own, or an image of what is elsewhere.
const PSEUDO: [&str; 8] = ["autofs", "devtmpfs", "efivarfs", "fuse.lxcfs", "iso9660", "ramfs", "squashfs", "tmpfs"];

/// Ends of the pairs that lead into containers: what goes through them also goes through an interface of the host.
const INTO_CONTAINERS: [&str; 4] = ["cali", "lxc", "tap", "veth"];

/// The machine this process runs on.
pub(crate) struct Host {
    system: Option<System>,
    disks: Option<Disks>,
    networks: Option<Networks>,
    pid: Option<Pid>,
    proc_dir: PathBuf,
    cgroup_dir: PathBuf,
}

impl Host {
    /// Takes the first half of what utilisation is the difference of, and waits until a second half makes sense.
    pub(crate) fn new(proc_dir: PathBuf, cgroup_dir: PathBuf) -> Self {
        let mut host = Self {
            system: System::new().ok(),
            disks: Disks::new().ok(),
            networks: Networks::new().ok(),
            pid: sysinfo::get_current_pid().ok(),
            proc_dir,
            cgroup_dir,
        };
        host.refresh();
        thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
        host
    }

    fn refresh(&mut self) {
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            if let Some(pid) = self.pid {
                let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
                system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
            }
        }
        if let Some(disks) = &mut self.disks {
            disks.refresh(true);
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
        }
    }
}

impl Host {
    pub(crate) fn sample(&mut self) -> Sample {
        self.refresh();
        let mut sample = Sample::default();
        match &self.system {
            Some(system) => {
                cpu(system, &mut sample);
                cpus(system, &mut sample);
                memory(system, &mut sample);
                process(system, self.pid, &mut sample);
            }
            None => sample.fail("system", "unavailable"),
        }
        if cfg!(target_os = "linux") {
            self.kernel(&mut sample);
        }
        match &self.disks {
            Some(disks) => {
                file_systems(disks, &mut sample);
                let devices = disk_io(disks, &mut sample);
                if cfg!(target_os = "linux") {
                    disk_statistics::read(&self.proc_dir, &devices, &mut sample);
                }
            }
            None => sample.fail("disks", "unavailable"),
        }
        match &self.networks {
            Some(networks) => network(networks, &mut sample),
            None => sample.fail("networks", "unavailable"),
        }
        sample
    }

    fn kernel(&self, sample: &mut Sample) {
        let statistics = fs::read_to_string(self.proc_dir.join("stat")).ok();
        match statistics.and_then(|text| proc_stat::cpu_seconds(&text)) {
            Some(modes) => {
                for (mode, seconds) in modes {
                    sample.push("system.cpu.time", seconds, &[KeyValue::new("cpu.mode", mode)]);
                }
            }
            None => sample.fail("system.cpu.time", "unavailable"),
        }
        pressure::read(&self.proc_dir, sample);
        containers::read(&self.cgroup_dir, sample);
    }
}

fn cpu(system: &System, sample: &mut Sample) {
    let count = system.cpus().len();
    if count > 0 {
        // One series, without modes: an average over it is the utilisation. Modes are in `system.cpu.time`.
        let utilization = f64::from(system.global_cpu_usage()) / 100.0;
        sample.push("system.cpu.utilization", utilization.clamp(0.0, 1.0), &[]);
        sample.push("system.cpu.logical.count", count as f64, &[]);
    } else {
        sample.fail("system.cpu.utilization", "unavailable");
    }
}

/// Each logical CPU, under a name of its own: an average over `system.cpu.utilization` is the machine's.
fn cpus(system: &System, sample: &mut Sample) {
    let metric = "driftwatt.cpu.core.utilization";
    for (number, cpu) in (0_i64..).zip(system.cpus().iter().take(CPUS_MAX)) {
        let utilization = (f64::from(cpu.usage()) / 100.0).clamp(0.0, 1.0);
        sample.push(metric, utilization, &[KeyValue::new("cpu.logical_number", number)]);
    }
    if system.cpus().len() > CPUS_MAX {
        sample.fail(metric, "limit");
    }
}

fn memory(system: &System, sample: &mut Sample) {
    let total = system.total_memory();
    if total == 0 {
        sample.fail("system.memory.usage", "unavailable");
        return;
    }
    let (used, free) = (system.used_memory(), system.free_memory());
    // What is neither used nor free can be taken back at any time: page cache and buffers.
    let cached = total.saturating_sub(used).saturating_sub(free);
    for (state, bytes) in [("used", used), ("free", free), ("cached", cached)] {
        sample.push("system.memory.usage", bytes as f64, &[KeyValue::new("system.memory.state", state)]);
    }
    let state = [KeyValue::new("system.memory.state", "used")];
    sample.push("system.memory.utilization", used as f64 / total as f64, &state);
    sample.push("system.memory.limit", total as f64, &[]);
    if system.total_swap() > 0 {
        for (state, bytes) in [("used", system.used_swap()), ("free", system.free_swap())] {
            sample.push("system.paging.usage", bytes as f64, &[KeyValue::new("system.paging.state", state)]);
        }
    }
}

fn process(system: &System, pid: Option<Pid>, sample: &mut Sample) {
    let Some((pid, process)) = pid.and_then(|pid| Some((pid, system.process(pid)?))) else {
        sample.fail("process", "unavailable");
        return;
    };
    let attributes = [KeyValue::new("process.pid", i64::from(pid.as_u32()))];
    let cpus = system.cpus().len().max(1) as f64;
    sample.push("process.cpu.utilization", f64::from(process.cpu_usage()) / 100.0 / cpus, &attributes);
    sample.push("process.cpu.time", process.accumulated_cpu_time() as f64 / 1000.0, &attributes);
    sample.push("process.memory.usage", process.memory() as f64, &attributes);
    sample.push("process.memory.virtual", process.virtual_memory() as f64, &attributes);
    if let Some(cost) = proc_stat::process_cost(pid.as_u32()) {
        cost.push("collector", sample);
    }
}

/// An image in a file, or no storage at all.
fn is_pseudo(disk: &Disk) -> bool {
    let is_image = ["/dev/loop", "/dev/ram"].iter().any(|begin| disk.name().to_string_lossy().starts_with(begin));
    is_image || PSEUDO.iter().any(|kind| disk.file_system() == *kind)
}

fn file_systems(disks: &Disks, sample: &mut Sample) {
    let mut seen = BTreeSet::new();
    for disk in disks.iter() {
        let (total, available) = (disk.total_space(), disk.available_space());
        let device = disk.name().to_string_lossy().into_owned();
        // Bind mounts and container layers show one file system many times; its space counts once.
        if is_pseudo(disk) || total == 0 || !seen.insert((device.clone(), total)) {
            continue;
        }
        if seen.len() > DEVICES_MAX {
            sample.fail("system.filesystem.usage", "limit");
            return;
        }
        let mut attributes = vec![
            KeyValue::new("system.device", device),
            KeyValue::new("system.filesystem.mountpoint", disk.mount_point().to_string_lossy().into_owned()),
            KeyValue::new("system.filesystem.type", disk.file_system().to_string_lossy().into_owned()),
        ];
        let used = total.saturating_sub(available);
        sample.push("system.filesystem.limit", total as f64, &attributes);
        sample.push("system.filesystem.utilization", used as f64 / total as f64, &attributes);
        for (state, bytes) in [("used", used), ("free", available)] {
            attributes.push(KeyValue::new("system.filesystem.state", state));
            sample.push("system.filesystem.usage", bytes as f64, &attributes);
            attributes.pop();
        }
    }
}

/// Bytes read and written; returns the devices.
fn disk_io(disks: &Disks, sample: &mut Sample) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for disk in disks.iter() {
        let usage = disk.usage();
        let device = disk.name().to_string_lossy().into_owned();
        // Both zero is how an unknown device is told (an overlay, a network share).
        let is_unknown = usage.total_read_bytes == 0 && usage.total_written_bytes == 0;
        if is_pseudo(disk) || is_unknown || seen.contains(&device) {
            continue;
        }
        if seen.len() == DEVICES_MAX {
            sample.fail("system.disk.io", "limit");
            break;
        }
        for (direction, bytes) in [("read", usage.total_read_bytes), ("write", usage.total_written_bytes)] {
            let attributes =
                [KeyValue::new("system.device", device.clone()), KeyValue::new("disk.io.direction", direction)];
            sample.push("system.disk.io", bytes as f64, &attributes);
        }
        seen.insert(device);
    }
    seen
}

fn network(networks: &Networks, sample: &mut Sample) {
    // In order of their names, so that the same ones are left out each time.
    let interfaces: BTreeMap<_, _> = networks.iter().map(|(name, data)| (name.to_string_lossy(), data)).collect();
    let of_host = interfaces.iter().filter(|(name, _)| !INTO_CONTAINERS.iter().any(|begin| name.starts_with(begin)));
    for (index, (name, data)) in of_host.enumerate() {
        if index >= DEVICES_MAX {
            sample.fail("system.network.io", "limit");
            return;
        }
        let received = [data.total_received(), data.total_packets_received(), data.total_errors_on_received()];
        let sent = [data.total_transmitted(), data.total_packets_transmitted(), data.total_errors_on_transmitted()];
        for (direction, [bytes, packets, errors]) in [("receive", received), ("transmit", sent)] {
            let attributes = [
                KeyValue::new("network.interface.name", name.to_string()),
                KeyValue::new("network.io.direction", direction),
            ];
            sample.push("system.network.io", bytes as f64, &attributes);
            sample.push("system.network.packet.count", packets as f64, &attributes);
            sample.push("system.network.errors", errors as f64, &attributes);
            if cfg!(target_os = "linux")
                && let Some(dropped) = dropped(name, direction)
            {
                sample.push("system.network.packet.dropped", dropped, &attributes);
            }
        }
    }
}

/// Packets that the kernel dropped for want of room, which `sysinfo` does not pass on.
fn dropped(interface: &str, direction: &str) -> Option<f64> {
    let file = if direction == "receive" { "rx_dropped" } else { "tx_dropped" };
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/statistics/{file}")).ok()?;
    text.trim().parse::<u64>().ok().map(|count| count as f64)
}
