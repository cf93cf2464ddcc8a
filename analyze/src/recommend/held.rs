//! A service with the GPUs that it held, and the verdict on it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use super::{
    Autoscaler, RecommendRequest, ServiceVerdict, Surroundings,
    evidence::Told,
    id_of,
    manifests::Made,
    workload::{self, PodName},
};
use crate::{
    PriceBook,
    demand::Demand,
    gpu_minutes::{Gpu, GpuMinutes, Holder},
    gpu_state::{GpuSample, GpuState, GpuUse, StateRules, Workload, classify, hours},
    manifest::WorkloadKind,
    recommendation::{Examination, GpuPrice, SecondSignals, Verdict, VerdictRules, examine},
    sizing::ServiceShape,
    veto::Evidence,
    window::{DAY_US, MINUTE_US, Window},
};

/// The service that most of the minutes `of_gpu` are of.
pub(super) fn main_service<'a>(of_gpu: &[u16], holders: &'a [Holder]) -> Option<&'a str> {
    let mut minutes: HashMap<&str, usize> = HashMap::new();
    for holder in of_gpu {
        if let Some(service) = holders.get(usize::from(*holder)).and_then(|holder| holder.service.as_deref()) {
            *minutes.entry(service).or_default() += 1;
        }
    }
    minutes.into_iter().max_by_key(|(service, count)| (*count, std::cmp::Reverse(*service))).map(|(service, _)| service)
}

/// A service with its GPUs.
pub(super) struct Held<'a> {
    pub(super) service: &'a str,
    pub(super) simulated: bool,
    pub(super) gpus: Vec<&'a Gpu>,
    pub(super) minutes: &'a GpuMinutes,
    /// The whole minutes that are asked for.
    pub(super) window: Window,
    /// Which of the minutes those are.
    pub(super) inside: Range<usize>,
}

impl Held<'_> {
    pub(super) fn verdict(&self, around: &Surroundings, request: &RecommendRequest) -> ServiceVerdict {
        let told = &around.told;
        let (demand, by_state) = self.demand();
        let shape = self.shape(told);
        let pods: BTreeSet<PodName> = self.pods().into_keys().collect();
        let workload = around.workloads.of(self.service, self.simulated, &pods);
        let calendar = request.calendar();
        let autoscaler = self.autoscaler(around, &workload);
        let examination = Examination {
            shape: &shape,
            demand: &demand,
            evidence: Evidence {
                hpa_owns: autoscaler.is_some(),
                oom_count: pods.iter().map(|pod| around.oom.of_pod(self.simulated, pod)).sum(),
                stateful: workload.target.as_ref().is_ok_and(|target| target.kind() == WorkloadKind::StatefulSet),
                ..self.evidence(told)
            },
            signals: self.signals(told),
            zone: request.zone,
            calendar: &calendar,
            price: self.price(request.prices.as_ref()),
            now_us: request.now_us,
        };
        let verdict = examine(&examination, &VerdictRules::default());
        let made = Made {
            shape: &shape,
            demand: &demand,
            verdict: &verdict,
            workload,
            placement: request.manifests.as_ref().map(|_| around.places.of(self)),
            autoscaler,
            calendar: &calendar,
            request,
        };
        let bounds = autoscaler.filter(|_| around.replays).map(|autoscaler| made.bounds(autoscaler));
        let manifests = request.manifests.as_ref().map(|wanted| made.manifests(wanted, bounds.as_ref()));
        let id = match &verdict {
            Verdict::Shrink(found) => Some(id_of(self.service, self.simulated, found, request)),
            _ => None,
        };
        ServiceVerdict {
            id,
            service: self.service.to_owned(),
            simulated: self.simulated,
            gpu_count: self.gpus.len(),
            replica_count: shape.replica_count,
            gpus_per_replica: shape.gpus_per_replica,
            mean: demand.mean_share(),
            coverage: demand.coverage(),
            hours: by_state,
            verdict,
            autoscaler: autoscaler.cloned(),
            bounds,
            manifests,
        }
    }

    /// Its demand, and the GPU-hours of each state.
    fn demand(&self) -> (Demand, BTreeMap<GpuState, f64>) {
        let window = self.window;
        let mut demand = Demand::new(window.start_us, window.end_us);
        let mut by_state: BTreeMap<GpuState, f64> = BTreeMap::new();
        for gpu in &self.gpus {
            let of = GpuUse {
                service: Some(self.service.to_owned()),
                workload: Workload::Serving,
                shared: gpu.shared_by > 1,
            };
            let intervals = classify(&self.samples(gpu), &of, window.start_us, window.end_us, &StateRules::default());
            for (state, _, hours) in hours(&intervals) {
                *by_state.entry(state).or_default() += hours;
            }
            demand.add_gpu(&intervals);
        }
        (demand, by_state)
    }

    /// The autoscaler of its workload, or else of its name.
    fn autoscaler<'a>(&self, around: &'a Surroundings, workload: &workload::Workload) -> Option<&'a Autoscaler> {
        let target = workload.target.as_ref().ok();
        let names: Vec<&str> = target.map(|target| target.name()).into_iter().chain([self.service]).collect();
        around.autoscalers.of(self.simulated, workload.namespace.as_deref(), &names)
    }

    /// What `gpu` did in the minutes in which the service held it.
    fn samples(&self, gpu: &Gpu) -> Vec<GpuSample> {
        gpu.samples(self.minutes.window, |minute| self.inside.contains(&minute) && self.is_mine(gpu, minute)).collect()
    }

    fn holder(&self, gpu: &Gpu, minute: usize) -> Option<&Holder> {
        self.minutes.holders.get(usize::from(gpu.holder[minute]))
    }

    fn is_mine(&self, gpu: &Gpu, minute: usize) -> bool {
        self.holder(gpu, minute).is_some_and(|holder| holder.service.as_deref() == Some(self.service))
    }

    /// Its pods on the last day, with the number of cards of each.
    fn pods(&self) -> BTreeMap<PodName, usize> {
        let last_day = Window { start_us: self.window.start_us.max(self.window.end_us - DAY_US), ..self.window };
        let of_cards: Vec<BTreeSet<PodName>> = self
            .gpus
            .iter()
            .map(|gpu| {
                let mine = self.minutes.inside(last_day).filter(|minute| self.is_mine(gpu, *minute));
                mine.filter_map(|minute| PodName::of(self.holder(gpu, minute)?)).collect()
            })
            .collect();
        let all: BTreeSet<PodName> = of_cards.iter().flatten().cloned().collect();
        let mut pods: BTreeMap<PodName, usize> = BTreeMap::new();
        for here in of_cards {
            let here: BTreeSet<PodName> = here.into_iter().map(|pod| pod.among(&all)).collect();
            for pod in here {
                *pods.entry(pod).or_default() += 1;
            }
        }
        pods
    }

    fn shape(&self, told: &Told) -> ServiceShape {
        let pods = self.pods();
        let gpu_count = self.gpus.len();
        // Several cards in one pod are one replica; without pods each card is one.
        let replica_count = if pods.is_empty() { gpu_count } else { pods.len().min(gpu_count) };
        // The cards of the window are more than those of a moment where a pod moved: the middle pod has not.
        let mut cards: Vec<usize> = pods.values().copied().collect();
        cards.sort_unstable();
        let gpus_per_replica = cards.get(cards.len() / 2).copied().unwrap_or(1);
        let memory = self.gpus.iter().flat_map(|gpu| &gpu.memory[self.inside.clone()]);
        let most_memory = memory.copied().filter(|bytes| !bytes.is_nan());
        let totals = self.gpus.iter().filter_map(|gpu| told.memory_total(gpu));
        ServiceShape {
            service: self.service.to_owned(),
            replica_count: replica_count as u32,
            gpus_per_replica: gpus_per_replica as u32,
            gpu_model: self.gpus.iter().find_map(|gpu| gpu.model.clone()),
            gpu_memory_bytes: totals.reduce(f64::min),
            memory_bytes_per_gpu: most_memory.reduce(f32::max).map(f64::from),
        }
    }

    fn evidence(&self, told: &Told) -> Evidence {
        Evidence {
            criticality: told.criticality(self.service),
            xid_count: self.gpus.iter().filter(|gpu| told.has_new_xid(gpu)).count() as u32,
            version_age_days: self.version_age_days(),
            device_copy: self.gpus.iter().any(|gpu| gpu.shared_by > 1),
            ..Evidence::default()
        }
    }

    /// Age of the youngest version that came in the window; none if all were there on its first day.
    fn version_age_days(&self) -> Option<f64> {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for gpu in &self.gpus {
            for minute in self.inside.clone().filter(|minute| self.is_mine(gpu, *minute)) {
                let Some(version) = self.holder(gpu, minute).and_then(|holder| holder.model_version.as_deref()) else {
                    continue;
                };
                let seen = first.entry(version).or_insert(minute);
                *seen = minute.min(*seen);
            }
        }
        let youngest_us = self.minutes.window.start_us + first.into_values().max()? as i64 * MINUTE_US;
        let is_new = youngest_us - self.window.start_us > DAY_US;
        is_new.then(|| (self.window.end_us - youngest_us) as f64 / DAY_US as f64)
    }

    fn signals(&self, told: &Told) -> SecondSignals {
        let known = |values: &[f32]| {
            let values = &values[self.inside.clone()];
            let known: Vec<f64> =
                values.iter().filter(|value| !value.is_nan()).map(|value| f64::from(*value)).collect();
            (!known.is_empty()).then(|| {
                (known.iter().sum::<f64>() / known.len() as f64, known.iter().copied().fold(f64::INFINITY, f64::min))
            })
        };
        let mean = |shares: Vec<f64>| (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64);
        let memory = self.gpus.iter().filter_map(|gpu| Some(known(&gpu.memory)?.0 / told.memory_total(gpu)?));
        // What a card draws at rest is the least it drew.
        let power = self.gpus.iter().filter_map(|gpu| {
            let ((mean, rest), limit) = (known(&gpu.power)?, told.power_limit(gpu)?);
            (limit > rest).then(|| (mean - rest) / (limit - rest))
        });
        let window = self.window;
        SecondSignals {
            requests_per_second: told
                .requests(self.service, self.simulated)
                .map(|count| count / (window.hours() * 3600.0)),
            queue_p95: told.queue_p95(self.service, self.simulated),
            memory_share: mean(memory.collect()),
            power_share: mean(power.collect()),
        }
    }

    /// The price of its cards, if all have the same.
    fn price(&self, prices: Option<&PriceBook>) -> GpuPrice {
        let mut of_cards = self.gpus.iter().map(|gpu| prices?.gpu(gpu.model.as_deref()?));
        let first = of_cards.next().flatten();
        let list = first.filter(|_| of_cards.all(|price| price == first));
        GpuPrice { list, effective: list }
    }
}
