//! Every metric the collector can report: name, unit, kind.
//!
//! Instruments are registered from this table, and a test holds `docs/collector.md` to it.

/// How a metric's values add up, as in the OpenTelemetry metrics data model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The value at the time of collection.
    Gauge,
    /// A monotonic sum, cumulative since the collector started.
    Counter,
    /// A sum that may fall: adds up over its attributes.
    UpDownCounter,
}

/// One metric of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name of the instrument.
    pub name: &'static str,
    /// UCUM unit.
    pub unit: &'static str,
    /// How values add up.
    pub kind: Kind,
    /// One sentence for people.
    pub description: &'static str,
    /// Whether a counter is counted by the collector, from 0, and not by the kernel or a driver since it was loaded.
    pub own_count: bool,
}

const fn gauge(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, kind: Kind::Gauge, description, own_count: false }
}

const fn counter(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, kind: Kind::Counter, description, own_count: false }
}

const fn count(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, kind: Kind::Counter, description, own_count: true }
}

const fn up_down(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, kind: Kind::UpDownCounter, description, own_count: false }
}

/// Whether `name` is a metric that the collector itself counts.
pub(crate) fn is_own_count(name: &str) -> bool {
    CATALOG.iter().any(|metric| metric.own_count && metric.name == name)
}

/// Metrics read by the sources. What the collector says about itself is registered apart.
pub const CATALOG: &[Metric] = &[
    gauge("system.cpu.utilization", "1", "Share of all logical CPUs that was not idle since the last collection."),
    counter("system.cpu.time", "s", "Seconds of all logical CPUs by mode."),
    gauge("driftwatt.cpu.core.utilization", "1", "Share of a logical CPU that was not idle since the last collection."),
    counter("driftwatt.pressure.stall.time", "s", "Time in which some work, or all of it, waited for a resource."),
    counter("container.cpu.time", "s", "CPU seconds of a container."),
    counter("driftwatt.container.cpu.throttled.time", "s", "Time in which its CPU limit held a container back."),
    gauge("driftwatt.container.cpu.limit", "{cpu}", "CPUs that a container may use."),
    up_down("container.memory.usage", "By", "Memory of a container, page cache included."),
    gauge("driftwatt.container.memory.limit", "By", "Memory that a container may use."),
    up_down("system.cpu.logical.count", "{cpu}", "Logical CPUs."),
    up_down("system.memory.usage", "By", "Memory by state; the states add up to the limit."),
    gauge("system.memory.utilization", "1", "Share of memory in use."),
    up_down("system.memory.limit", "By", "Memory installed."),
    up_down("system.paging.usage", "By", "Swap space by state."),
    counter("system.disk.io", "By", "Bytes read from and written to a block device."),
    counter("system.disk.operations", "{operation}", "Reads and writes that a block device has completed."),
    counter("system.disk.io_time", "s", "Time in which a block device was busy."),
    up_down("system.filesystem.usage", "By", "Space of a file system by state."),
    gauge("system.filesystem.utilization", "1", "Share of a file system's space in use."),
    up_down("system.filesystem.limit", "By", "Space of a file system."),
    counter("system.network.io", "By", "Bytes received and transmitted by an interface."),
    counter("system.network.packet.count", "{packet}", "Packets received and transmitted by an interface."),
    counter("system.network.errors", "{error}", "Errors seen by an interface."),
    counter("system.network.packet.dropped", "{packet}", "Packets that an interface dropped."),
    gauge("process.cpu.utilization", "1", "Share of all logical CPUs used by the collecting process."),
    counter("process.cpu.time", "s", "CPU seconds used by the collecting process."),
    up_down("process.memory.usage", "By", "Resident memory of the collecting process."),
    up_down("process.memory.virtual", "By", "Virtual memory of the collecting process."),
    gauge("hw.gpu.utilization", "1", "Share of the sample period in which a task was running (duty cycle)."),
    up_down("hw.gpu.memory.usage", "By", "GPU memory allocated, without what the driver reserves."),
    gauge("hw.gpu.memory.utilization", "1", "GPU memory allocated over GPU memory installed."),
    up_down("hw.gpu.memory.limit", "By", "GPU memory installed."),
    gauge("hw.power", "W", "Power drawn by the GPU board."),
    counter("hw.energy", "J", "Energy used by the GPU board."),
    gauge("hw.temperature", "Cel", "Temperature of the GPU die."),
    gauge("driftwatt.gpu.clock.frequency", "Hz", "Current clock by domain."),
    gauge("driftwatt.gpu.throttle", "1", "1 while the reason holds the clocks down, 0 while it does not."),
    gauge("driftwatt.gpu.power.limit", "W", "Power limit in force."),
    gauge("driftwatt.gpu.memory.io.utilization", "1", "Share of the sample period in which memory was being accessed."),
    up_down("driftwatt.gpu.memory.reserved", "By", "GPU memory reserved by the driver."),
    counter("hw.errors", "{error}", "Memory errors of the GPU that ECC corrected, or could not correct."),
    gauge("driftwatt.gpu.rows_remapped", "{row}", "GPU memory rows replaced after errors."),
    gauge("driftwatt.gpu.rows_remapped.pending", "1", "1 while rows wait for a reset of the GPU to be replaced."),
    gauge("driftwatt.gpu.rows_remapped.failed", "1", "1 if a row could not be replaced."),
    count("driftwatt.gpu.xid.errors", "{error}", "XID errors reported by the driver, by code."),
    gauge("driftwatt.gpu.engine.active", "1", "Share of time in which the graphics or compute engine was active."),
    gauge("driftwatt.gpu.sm.active", "1", "Share of time in which a multiprocessor had a warp, mean of all of them."),
    gauge("driftwatt.gpu.sm.occupancy", "1", "Warps resident over warps possible."),
    gauge("driftwatt.gpu.tensor.active", "1", "Share of time in which the tensor pipes were active."),
    gauge("driftwatt.gpu.dram.active", "1", "GPU memory bandwidth used over that possible."),
    gauge("driftwatt.gpu.process.utilization", "1", "Share of the sample period in which kernels of a process ran."),
    up_down("driftwatt.gpu.process.memory.usage", "By", "GPU memory of a process."),
    gauge("driftwatt.gpu.pcie.throughput", "By/s", "Bytes per second over PCIe."),
    gauge("driftwatt.gpu.nvlink.throughput", "By/s", "Bytes per second over all NVLinks."),
    counter("driftwatt.gpu.pcie.replays", "1", "PCIe packets sent again."),
    counter("driftwatt.gpu.nvlink.errors", "{error}", "Errors of an NVLink."),
    count("driftwatt.collector.process.cpu.time", "s", "CPU seconds of the collector and of its process for GPUs."),
    up_down("driftwatt.collector.process.memory.usage", "By", "Resident memory of the collector's processes."),
    gauge("driftwatt.collector.gpu.library_available", "1", "1 if the NVIDIA management library answers, else 0."),
    gauge(
        "driftwatt.collector.gpu.stuck",
        "1",
        "1 while the process that reads GPUs does not answer, 0 while it does.",
    ),
    gauge("driftwatt.collector.gpu.device.count", "{gpu}", "GPUs seen by the NVIDIA management library."),
];
