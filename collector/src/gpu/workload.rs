//! Whose work a GPU does: utilisation and memory of its processes, with the container and the pod they belong to.
//!
//! The driver tells process ids as the host counts them, so the collector must see the host's processes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
};

use nvml_wrapper::{Device, enums::device::UsedGpuMemory, error::NvmlError, struct_wrappers::device::ProcessInfo};
use opentelemetry::KeyValue;

use super::value::{error_type, known_long, ok, share};
use crate::{cgroup, reading::Sample};

const MEMORY: &str = "driftwatt.gpu.process.memory.usage";
const UTILIZATION: &str = "driftwatt.gpu.process.utilization";

/// Processes told of one GPU or slice, those with most memory.
const PROCESSES_MAX: usize = 64;

/// The processes on the GPUs.
pub(super) struct Workloads<'a> {
    proc_dir: &'a Path,
    /// Time of the newest utilisation sample of a GPU, in the driver's microseconds: only newer ones are asked for.
    newest: HashMap<String, u64>,
    seen: HashSet<String>,
}

/// A process, and its memory where the driver knows it.
type Process = (u32, Option<u64>);

impl<'a> Workloads<'a> {
    pub(super) fn new(proc_dir: &'a Path) -> Self {
        Self { proc_dir, newest: HashMap::new(), seen: HashSet::new() }
    }

    /// Reads the processes of a GPU that is not divided; `duty` is its duty cycle.
    pub(super) fn read(
        &mut self,
        device: &Device<'_>,
        id: &str,
        attributes: &[KeyValue],
        duty: Option<f64>,
        sample: &mut Sample,
    ) {
        let processes = self.read_memory(device, attributes, sample);
        self.seen.insert(id.to_owned());
        if processes.is_empty() {
            return;
        }
        let since = self.newest.get(id).copied();
        let found = match device.process_utilization_stats(since) {
            Ok(found) if !found.is_empty() => found,
            // No samples: right for an idle GPU, but of a busy one the driver has none to give.
            Ok(_) | Err(NvmlError::NotFound) if duty == Some(0.0) => Vec::new(),
            Ok(_) => return sample.fail(UTILIZATION, "no_data"),
            Err(error) => return sample.fail(UTILIZATION, error_type(&error)),
        };
        let mut of_process = BTreeMap::new();
        for one in &found {
            let newest = of_process.entry(one.pid).or_insert(one);
            if one.timestamp > newest.timestamp {
                *newest = one;
            }
        }
        if let Some(newest) = found.iter().map(|one| one.timestamp).max() {
            self.newest.insert(id.to_owned(), newest);
        }
        for (pid, attributes) in processes {
            // The driver names those that used the GPU at all: the others ran nothing.
            let percent = of_process.get(&pid).map_or(0, |one| one.sm_util);
            if let Some(value) = share(sample, UTILIZATION, percent) {
                sample.push(UTILIZATION, value, &attributes);
            }
        }
    }

    /// Reads the memory of the processes of a GPU or slice; returns them with their attributes.
    pub(super) fn read_memory(
        &self,
        device: &Device<'_>,
        attributes: &[KeyValue],
        sample: &mut Sample,
    ) -> Vec<(u32, Vec<KeyValue>)> {
        let mut processes: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for listed in [device.running_compute_processes(), device.running_graphics_processes()] {
            for process in ok(sample, MEMORY, listed).unwrap_or_default() {
                // A process that computes and draws is listed twice, with the same memory.
                let known = processes.entry(process.pid).or_default();
                *known = (*known).max(bytes(&process));
            }
        }
        let mut largest: Vec<Process> = processes.into_iter().collect();
        largest.sort_by_key(|(_, memory)| std::cmp::Reverse(*memory));
        if largest.len() > PROCESSES_MAX {
            sample.fail(MEMORY, "limit");
            largest.truncate(PROCESSES_MAX);
        }
        let mut told = Vec::with_capacity(largest.len());
        for (pid, memory) in largest {
            let mut attributes = attributes.to_vec();
            self.describe(pid, &mut attributes);
            match memory.map(|bytes| known_long(sample, MEMORY, bytes)) {
                Some(Some(bytes)) => sample.push(MEMORY, bytes, &attributes),
                Some(None) => {}
                None => sample.fail(MEMORY, "blank"),
            }
            told.push((pid, attributes));
        }
        told
    }

    /// Forgets GPUs that are gone.
    pub(super) fn end_look(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.newest.retain(|id, _| seen.contains(id));
    }

    fn describe(&self, pid: u32, attributes: &mut Vec<KeyValue>) {
        attributes.push(KeyValue::new("process.pid", i64::from(pid)));
        let dir = self.proc_dir.join(pid.to_string());
        if let Ok(name) = fs::read_to_string(dir.join("comm")) {
            attributes.push(KeyValue::new("process.executable.name", name.trim_end().to_owned()));
        }
        let Ok(cgroups) = fs::read_to_string(dir.join("cgroup")) else { return };
        let owner = cgroup::owner(&cgroups);
        if let Some(id) = owner.container_id {
            attributes.push(KeyValue::new("container.id", id));
        }
        if let Some(uid) = owner.pod_uid {
            attributes.push(KeyValue::new("k8s.pod.uid", uid));
        }
    }
}

fn bytes(process: &ProcessInfo) -> Option<u64> {
    match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    }
}
