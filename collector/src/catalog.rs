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
}

const fn gauge(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, kind: Kind::Gauge, description }
}

const fn counter(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, kind: Kind::Counter, description }
}

const fn up_down(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, kind: Kind::UpDownCounter, description }
}

/// Metrics read by the sources. What the collector says about itself is registered apart.
pub const CATALOG: &[Metric] = &[
    gauge("system.cpu.utilization", "1", "Share of all logical CPUs that was not idle since the last collection."),
    counter("system.cpu.time", "s", "Seconds of all logical CPUs by mode."),
    up_down("system.cpu.logical.count", "{cpu}", "Logical CPUs."),
    up_down("system.memory.usage", "By", "Memory by state; the states add up to the limit."),
    gauge("system.memory.utilization", "1", "Share of memory in use."),
    up_down("system.memory.limit", "By", "Memory installed."),
    up_down("system.paging.usage", "By", "Swap space by state."),
    counter("system.disk.io", "By", "Bytes read from and written to a block device."),
    up_down("system.filesystem.usage", "By", "Space of a file system by state."),
    gauge("system.filesystem.utilization", "1", "Share of a file system's space in use."),
    up_down("system.filesystem.limit", "By", "Space of a file system."),
    counter("system.network.io", "By", "Bytes received and transmitted by an interface."),
    counter("system.network.packet.count", "{packet}", "Packets received and transmitted by an interface."),
    counter("system.network.errors", "{error}", "Errors seen by an interface."),
    gauge("process.cpu.utilization", "1", "Share of all logical CPUs used by the collecting process."),
    counter("process.cpu.time", "s", "CPU seconds used by the collecting process."),
    up_down("process.memory.usage", "By", "Resident memory of the collecting process."),
    up_down("process.memory.virtual", "By", "Virtual memory of the collecting process."),
    gauge("hw.gpu.utilization", "1", "Share of the sample period in which a kernel was running (duty cycle)."),
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
    gauge("driftwatt.collector.gpu.library_available", "1", "1 if the NVIDIA management library answers, else 0."),
    gauge(
        "driftwatt.collector.gpu.stuck",
        "1",
        "1 while the process that reads GPUs does not answer, 0 while it does.",
    ),
    gauge("driftwatt.collector.gpu.device.count", "{gpu}", "GPUs seen by the NVIDIA management library."),
];
