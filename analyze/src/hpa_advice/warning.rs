//! What a reader of the advice has to know.

use serde::Serialize;

/// A warning about a setting, present or proposed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warning {
    /// A CPU percentage has nothing to be a percentage of.
    CpuWithoutRequests,
    /// Requests are known, the usage is not.
    CpuUnmeasured,
    /// CPU of a server whose work is on the GPU.
    CpuForGpuWork,
    /// Memory of a server holds its model whatever the load.
    MemoryRarelyScalesDown,
    /// Memory is over the target at any load, in percent of the request: the autoscaler would go to its maximum and stay.
    MemoryOverTarget(u32),
    /// Neither queue nor KV cache is measured.
    PreferQueueOrCache,
    /// Duty stops at 100 %.
    DutySaturates,
    /// A queue alone is empty until it is too late to keep what serves.
    QueueAlone,
    /// The present autoscaler uses metrics that are not known, so it was not replayed.
    ExistingUnknown(String),
    /// Days of data.
    LittleData(f64),
    /// Hours of the week without data.
    UnknownHours(usize),
    /// The plan holds more cron windows than it may, so hours were merged.
    WindowsMerged,
}

impl Warning {
    /// As a sentence.
    pub fn text(&self) -> String {
        match self {
            Self::CpuWithoutRequests => {
                "a target of CPU % is a share of requests and there are none: set resources.requests.cpu first".into()
            }
            Self::CpuUnmeasured => "the CPU of its containers is not measured, so a CPU target cannot be proven".into(),
            Self::CpuForGpuWork => {
                "its work is on the GPU: CPU follows it only loosely; send the queue length or the KV cache".into()
            }
            Self::MemoryRarelyScalesDown => {
                "memory targets rarely scale down: weights and caches stay in memory whatever the load".into()
            }
            Self::MemoryOverTarget(percent) => format!(
                "memory is at {percent} % of its request at any load: a target near or below that would never let replicas go, so it is left out"
            ),
            Self::PreferQueueOrCache => {
                "for LLM serving, scale on requests that wait or on the KV cache in use; neither is measured".into()
            }
            Self::DutySaturates => {
                "GPU duty stops at 100 %, however long the queue: growth is limited to 100 / target per sync".into()
            }
            Self::QueueAlone => {
                "an empty queue asks for the minimum: without a second signal replicas are taken from a service that just keeps up".into()
            }
            Self::ExistingUnknown(metric) => {
                format!("the present autoscaler follows {metric}, which is not measured here, so it was not replayed")
            }
            Self::LittleData(days) => format!("{days:.1} days of data, 7 are needed: low confidence, default bounds kept"),
            Self::UnknownHours(count) => {
                format!("{count} hours of the week have no data: they keep the size of the busiest hour")
            }
            Self::WindowsMerged => "hours of the week were merged to keep the schedule short".into(),
        }
    }
}
