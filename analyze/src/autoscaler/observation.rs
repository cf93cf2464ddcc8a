//! What an autoscaler sees at a sync.

/// Pods and metrics at one time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// Pods of the target, those that start and stop included.
    pub pods: Vec<Pod>,
    /// One reading per metric of the specification, in its order.
    pub readings: Vec<Reading>,
}

/// What the metrics API answered for one metric. Values are thousandths of the unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// One entry per pod, in the order of the pods; none where the pod has no sample.
    PerPod(Vec<Option<Sample>>),
    /// A total.
    Total(i64),
    /// No answer, and what was said.
    Failed(String),
}

/// A sample of a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Value in thousandths.
    pub milli: i64,
    /// When it was taken, seconds.
    pub time_s: f64,
    /// Over how many seconds.
    pub window_s: f64,
}

/// A pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pod {
    /// Phase.
    pub phase: Phase,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When it was started, seconds.
    pub start_s: Option<f64>,
    /// Its `Ready` condition.
    pub readiness: Option<Readiness>,
    /// CPU requested, thousandths of a core; none when a container requests none.
    pub cpu_request_milli: Option<i64>,
    /// Memory requested, thousandths of a byte.
    pub memory_request_milli: Option<i64>,
}

/// `Ready` condition of a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Readiness {
    /// Whether it is ready.
    pub ready: bool,
    /// Since when, seconds.
    pub since_s: f64,
}

/// Phase of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not started yet.
    Pending,
    /// Runs.
    Running,
    /// Ended with an error.
    Failed,
}
