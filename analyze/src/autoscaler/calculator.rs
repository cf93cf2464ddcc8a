//! From one metric to the replicas it asks for.

use super::{ControllerSettings, Metric, MetricError, Phase, Pod, Reading, Resource, Sample};

/// Everything but the metric.
pub(super) struct Calculation<'a> {
    /// Now.
    pub(super) time_s: f64,
    /// Replicas the target is set to.
    pub(super) current: u32,
    /// Pods of the target.
    pub(super) pods: &'a [Pod],
    /// Down, up.
    pub(super) tolerances: (f64, f64),
    /// Flags.
    pub(super) settings: &'a ControllerSettings,
}

/// Pods by what their samples are worth, by index.
#[derive(Default)]
struct Groups {
    /// They count, with their values.
    counted: Vec<(usize, i64)>,
    /// They start: no demand may be read from them.
    unready: Vec<usize>,
    /// They run without a sample.
    missing: Vec<usize>,
}

/// How the values of pods relate to the target.
enum Scale<'a> {
    /// Percent of the requests of each pod.
    Utilization { requests: &'a [i64], percent: i64 },
    /// A value per pod.
    Average { per_pod_milli: i64 },
}

impl Calculation<'_> {
    /// Replicas that `metric` asks for.
    pub(super) fn replicas(&self, metric: &Metric, reading: Option<&Reading>) -> Result<u32, MetricError> {
        let reading = match reading {
            None => return Err(MetricError::Unavailable("no reading of it was given".into())),
            Some(Reading::Failed(reason)) => return Err(MetricError::Unavailable(reason.clone())),
            Some(reading) => reading,
        };
        match (metric, reading) {
            (Metric::Utilization { resource, percent }, Reading::PerPod(samples)) => {
                let groups = self.groups(samples, Some(*resource))?;
                let requests = self.requests(*resource)?;
                let scale = Scale::Utilization { requests: &requests, percent: i64::from(*percent) };
                if scale.requested(&groups.counted) == 0 {
                    return Err(MetricError::NoSamples);
                }
                Ok(self.by_pods(groups, &scale))
            }
            (Metric::ResourceAverage { resource, per_pod_milli }, Reading::PerPod(samples)) => {
                let scale = Scale::Average { per_pod_milli: *per_pod_milli };
                Ok(self.by_pods(self.groups(samples, Some(*resource))?, &scale))
            }
            (Metric::Pods { per_pod_milli, .. }, Reading::PerPod(samples)) => {
                let scale = Scale::Average { per_pod_milli: *per_pod_milli };
                Ok(self.by_pods(self.groups(samples, None)?, &scale))
            }
            (Metric::ExternalAverage { per_pod_milli, .. }, Reading::Total(total)) => {
                Ok(self.by_shared_total(*total, *per_pod_milli))
            }
            (Metric::ExternalValue { value_milli, .. }, Reading::Total(total)) => {
                self.by_value(*total as f64 / *value_milli as f64)
            }
            _ => Err(MetricError::WrongReading),
        }
    }

    fn is_within_tolerance(&self, ratio: f64) -> bool {
        let (down, up) = self.tolerances;
        1.0 - down <= ratio && ratio <= 1.0 + up
    }

    fn by_pods(&self, groups: Groups, scale: &Scale<'_>) -> u32 {
        let Groups { mut counted, unready, missing } = groups;
        let ratio = scale.ratio(&counted);
        let grows_while_starting = !unready.is_empty() && ratio > 1.0;
        if missing.is_empty() && !grows_while_starting {
            return if self.is_within_tolerance(ratio) { self.current } else { round_up(ratio * counted.len() as f64) };
        }
        // Pods that are not seen must not move the decision: they are taken to hold the target down, and to be idle up.
        if ratio < 1.0 {
            counted.extend(missing.iter().map(|&pod| (pod, scale.missing_when_shrinking(pod))));
        } else if ratio > 1.0 {
            counted.extend(missing.iter().map(|&pod| (pod, 0)));
        }
        if grows_while_starting {
            counted.extend(unready.iter().map(|&pod| (pod, 0)));
        }
        let adjusted = scale.ratio(&counted);
        let turned = (ratio < 1.0 && adjusted > 1.0) || (ratio > 1.0 && adjusted < 1.0);
        if turned || self.is_within_tolerance(adjusted) {
            return self.current;
        }
        let replicas = round_up(adjusted * counted.len() as f64);
        let turned = (adjusted < 1.0 && replicas > self.current) || (adjusted > 1.0 && replicas < self.current);
        if turned { self.current } else { replicas }
    }

    fn by_shared_total(&self, total: i64, per_pod: i64) -> u32 {
        let counted = self.pods.iter().filter(|pod| !pod.is_ignored()).count();
        let ratio = total as f64 / (per_pod as f64 * counted as f64);
        // The tolerance compares with the pods there are, and within it their number is kept, not the one that is set.
        if self.is_within_tolerance(ratio) { counted as u32 } else { round_up(total as f64 / per_pod as f64) }
    }

    fn by_value(&self, ratio: f64) -> Result<u32, MetricError> {
        if self.is_within_tolerance(ratio) {
            return Ok(self.current);
        }
        if self.pods.is_empty() {
            return Err(MetricError::NoPods);
        }
        let is_ready = |pod: &&Pod| pod.phase == Phase::Running && pod.readiness.is_some_and(|it| it.ready);
        Ok(round_up(ratio * self.pods.iter().filter(is_ready).count() as f64))
    }

    fn groups(&self, samples: &[Option<Sample>], resource: Option<Resource>) -> Result<Groups, MetricError> {
        if self.pods.is_empty() {
            return Err(MetricError::NoPods);
        }
        let mut groups = Groups::default();
        for (index, pod) in self.pods.iter().enumerate() {
            if pod.is_ignored() {
                continue;
            }
            match samples.get(index).copied().flatten() {
                _ if pod.phase == Phase::Pending => groups.unready.push(index),
                None => groups.missing.push(index),
                Some(sample) if resource == Some(Resource::Cpu) && self.starts(pod, &sample) => {
                    groups.unready.push(index);
                }
                Some(sample) => groups.counted.push((index, sample.milli)),
            }
        }
        if groups.counted.is_empty() { Err(MetricError::NoSamples) } else { Ok(groups) }
    }

    /// Whether the CPU of `pod` is that of its start.
    fn starts(&self, pod: &Pod, sample: &Sample) -> bool {
        let (Some(readiness), Some(start_s)) = (pod.readiness, pod.start_s) else { return true };
        if start_s + self.settings.cpu_initialization_s > self.time_s {
            // One whole window of the metric has to lie after the pod became ready.
            return !readiness.ready || sample.time_s < readiness.since_s + sample.window_s;
        }
        // Unready since its start, so it never was ready; one that failed later counts.
        !readiness.ready && start_s + self.settings.initial_readiness_delay_s > readiness.since_s
    }

    /// Requests by pod; every pod needs one, the ignored too.
    fn requests(&self, resource: Resource) -> Result<Vec<i64>, MetricError> {
        let of = |pod: &Pod| match resource {
            Resource::Cpu => pod.cpu_request_milli,
            Resource::Memory => pod.memory_request_milli,
        };
        let requests = self.pods.iter().map(of).collect::<Option<Vec<i64>>>();
        requests.ok_or(MetricError::MissingRequest { resource: resource.as_str() })
    }
}

impl Scale<'_> {
    fn requested(&self, counted: &[(usize, i64)]) -> i128 {
        match self {
            Self::Utilization { requests, .. } => counted.iter().map(|(pod, _)| i128::from(requests[*pod])).sum(),
            Self::Average { .. } => 0,
        }
    }

    /// Usage over target, by the controller's integer division: whole percent, or whole thousandths.
    fn ratio(&self, counted: &[(usize, i64)]) -> f64 {
        let total: i128 = counted.iter().map(|(_, milli)| i128::from(*milli)).sum();
        match self {
            Self::Utilization { percent, .. } => {
                (total * 100 / self.requested(counted).max(1)) as f64 / *percent as f64
            }
            Self::Average { per_pod_milli } => (total / counted.len().max(1) as i128) as f64 / *per_pod_milli as f64,
        }
    }

    fn missing_when_shrinking(&self, pod: usize) -> i64 {
        match self {
            Self::Utilization { requests, percent } => requests[pod] * (*percent).max(100) / 100,
            Self::Average { per_pod_milli } => *per_pod_milli,
        }
    }
}

impl Pod {
    fn is_ignored(&self) -> bool {
        self.deleting || self.phase == Phase::Failed
    }
}

fn round_up(replicas: f64) -> u32 {
    // `as` saturates, as the controller does at the largest 32-bit integer.
    replicas.ceil().clamp(0.0, f64::from(i32::MAX)) as u32
}
