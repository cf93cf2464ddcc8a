use chrono::DateTime;

use super::*;
use crate::{
    autoscaler::{Behavior, Metric, Resource},
    gpu_state::{Cause, GpuState, Interval},
    window::MINUTE_US,
};

const DAY_MINUTES: usize = 1_440;

/// Days from Monday 2026-11-02 00:00 UTC, `gpu_count` GPUs held, `load(day, minute of day)` GPU-equivalents.
fn demand(gpu_count: usize, days: usize, load: impl Fn(usize, usize) -> f64) -> Demand {
    let start_us = DateTime::parse_from_rfc3339("2026-11-02T00:00:00Z").unwrap().timestamp_micros();
    let minutes = days * DAY_MINUTES;
    let mut demand = Demand::new(start_us, start_us + minutes as i64 * MINUTE_US);
    for _ in 0..gpu_count {
        let of = |minute: usize| Interval {
            start_us: start_us + minute as i64 * MINUTE_US,
            end_us: start_us + (minute as i64 + 1) * MINUTE_US,
            state: GpuState::Busy,
            cause: Cause::Working,
            duty: Some(load(minute / DAY_MINUTES % 7, minute % DAY_MINUTES) / gpu_count as f64),
        };
        demand.add_gpu(&(0..minutes).map(of).collect::<Vec<_>>());
    }
    demand
}

/// 1 GPU at night and on weekends; on working days up to 8 from 8:00 to 9:30, down again from 17:00 to 18:30.
fn office(day: usize, minute: usize) -> f64 {
    let ramp = |from: usize| ((minute as f64 - from as f64) / 90.0).clamp(0.0, 1.0);
    if day >= 5 { 1.0 } else { 1.0 + 7.0 * (ramp(480) - ramp(1_020)) }
}

fn shape(replica_count: u32) -> ServiceShape {
    ServiceShape {
        service: "chat".into(),
        replica_count,
        gpus_per_replica: 1,
        gpu_model: None,
        gpu_memory_bytes: None,
        memory_bytes_per_gpu: None,
    }
}

fn measured(metric: &str, mean: f64) -> Option<Measured> {
    Some(Measured { metric: metric.into(), mean })
}

struct Case {
    shape: ServiceShape,
    demand: Demand,
    signals: ServiceSignals,
    requests: Requests,
    existing: Option<HpaSpec>,
    serves_llm: bool,
}

impl Case {
    fn office(signals: ServiceSignals) -> Self {
        Self {
            shape: shape(12),
            demand: demand(12, 7, office),
            signals,
            requests: Requests::default(),
            existing: None,
            serves_llm: true,
        }
    }

    fn advise(&self) -> Advice {
        let examined = Examined {
            shape: &self.shape,
            demand: &self.demand,
            zone: chrono_tz::UTC,
            calendar: &Calendar::default(),
            requests: self.requests,
            signals: self.signals.clone(),
            existing: self.existing.as_ref(),
            serves_llm: self.serves_llm,
        };
        advise(&examined, &AdviceRules::default()).unwrap()
    }
}

fn queue_and_cache() -> ServiceSignals {
    // The cache is at 90 % of its size when all is busy.
    let share = demand(12, 7, office).mean_share().unwrap();
    ServiceSignals {
        queue: measured("vllm:num_requests_waiting", 0.1),
        kv_cache: measured("vllm:kv_cache_usage_perc", 0.9 * share),
        ..ServiceSignals::default()
    }
}

fn change(advice: Advice) -> HpaProposal {
    match advice {
        Advice::Change(proposal) => *proposal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn queue_and_cache_with_a_seasonal_minimum_free_what_the_night_does_not_need() {
    let proposal = change(Case::office(queue_and_cache()).advise());
    let best = proposal.seasonal.as_ref().or(proposal.flat.as_ref()).unwrap();
    let names: Vec<_> = best.spec.metrics.iter().map(Metric::name).collect();
    assert_eq!(names, ["vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]);
    // 1.0 / 0.8 is 2 at night. The largest is 8.0: max(10, 9) = 10, plus the burst of the ramp; half as many again.
    assert!(best.spec.min_replicas == 2 && best.spec.max_replicas >= 15, "{:?}", best.spec);
    let rules = AdviceRules::default().replay;
    let now = proposal.replay_current.unwrap();
    assert!(best.replay.within(&rules) && now.within(&rules));
    assert!((now.replica_mean - 12.0).abs() < 1e-9);
    // Even a clairvoyant needs 10 replicas for 45 of 168 hours and 2 otherwise: 4.1 on average.
    assert!(best.replay.replica_mean > 4.1 && best.replay.replica_mean < 7.0, "{:?}", best.replay);
    let freed = (12.0 - best.replay.replica_mean) * 168.0;
    assert!((proposal.gpu_hours.unwrap() - freed).abs() < 1e-6);
    assert!(proposal.warnings.iter().all(|it| *it == Warning::WindowsMerged), "{:?}", proposal.warnings);
    assert!(proposal.explanation.contains("chat") && proposal.explanation.contains("12.0 replicas"));
}

#[test]
fn what_already_fits_is_kept() {
    let mut flat = Case::office(queue_and_cache());
    flat.shape = shape(3);
    flat.demand = demand(3, 7, |_, _| 2.0);
    let Advice::Keep { reason, .. } = flat.advise() else { panic!("{:?}", flat.advise()) };
    assert!(reason.contains("3.0 replicas"), "{reason}");
}

#[test]
fn a_cpu_percentage_without_requests_is_refused() {
    let cpu = ServiceSignals { cpu_cores_mean: Some(1.0), ..ServiceSignals::default() };
    let case = Case::office(cpu.clone());
    assert_eq!(case.advise(), Advice::Refused(vec![Warning::PreferQueueOrCache, Warning::CpuWithoutRequests]));
    let unmeasured = Case {
        requests: Requests { cpu_cores: Some(4.0), memory_bytes: None },
        ..Case::office(ServiceSignals::default())
    };
    assert_eq!(unmeasured.advise(), Advice::Refused(vec![Warning::PreferQueueOrCache, Warning::CpuUnmeasured]));
}

#[test]
fn the_fallback_is_cpu_70_and_memory_80_with_warnings() {
    let with = |memory_bytes_mean: f64| {
        let signals = ServiceSignals {
            cpu_cores_mean: Some(1.2),
            memory_bytes_mean: Some(memory_bytes_mean),
            ..ServiceSignals::default()
        };
        let requests = Requests { cpu_cores: Some(4.0), memory_bytes: Some(64e9) };
        change(Case { requests, ..Case::office(signals) }.advise())
    };
    let proposal = with(32e9);
    let best = proposal.flat.as_ref().or(proposal.seasonal.as_ref()).unwrap();
    assert!(matches!(best.spec.metrics[0], Metric::Utilization { resource: Resource::Cpu, percent } if percent <= 70));
    assert!(
        matches!(best.spec.metrics[1], Metric::Utilization { resource: Resource::Memory, percent } if percent <= 80)
    );
    for expected in [Warning::PreferQueueOrCache, Warning::CpuForGpuWork, Warning::MemoryRarelyScalesDown] {
        assert!(proposal.warnings.contains(&expected), "{:?}", proposal.warnings);
    }
    // 60 of 64 GB is 94 %: ceil(94 / 80 x n) > n at every sync, up to the maximum.
    let full = with(60e9);
    assert!(full.warnings.contains(&Warning::MemoryOverTarget(94)), "{:?}", full.warnings);
    let metrics = &full.flat.as_ref().or(full.seasonal.as_ref()).unwrap().spec.metrics;
    assert_eq!(metrics.iter().map(Metric::name).collect::<Vec<_>>(), ["cpu"]);
}

#[test]
fn duty_alone_saturates_and_a_queue_alone_lets_go() {
    let duty = ServiceSignals { gpu_duty: measured("DCGM_FI_DEV_GPU_UTIL", 30.0), ..ServiceSignals::default() };
    let proposal = change(Case { serves_llm: false, ..Case::office(duty) }.advise());
    assert!(proposal.warnings.contains(&Warning::DutySaturates), "{:?}", proposal.warnings);
    let queue = ServiceSignals { queue: measured("queue_length", 0.1), ..ServiceSignals::default() };
    let proposal = change(Case::office(queue).advise());
    assert!(proposal.warnings.contains(&Warning::QueueAlone), "{:?}", proposal.warnings);
    // An empty queue asks for the minimum, so only a minimum near the peak keeps up.
    assert!(proposal.flat.unwrap().spec.min_replicas >= 10);
}

#[test]
fn the_present_autoscaler_is_replayed_or_said_to_be_unknown() {
    let existing = |metric: Metric| HpaSpec {
        min_replicas: 12,
        max_replicas: 20,
        metrics: vec![metric],
        behavior: Some(Behavior::default()),
    };
    let cache = Metric::Pods { name: "vllm:kv_cache_usage_perc".into(), per_pod_milli: 700 };
    let known = change(Case { existing: Some(existing(cache)), ..Case::office(queue_and_cache()) }.advise());
    assert!(known.replay_current.unwrap().replica_mean >= 12.0 && known.gpu_hours.unwrap() > 500.0);
    let other = Metric::Pods { name: "http_requests".into(), per_pod_milli: 10_000 };
    let unknown = change(Case { existing: Some(existing(other)), ..Case::office(queue_and_cache()) }.advise());
    assert_eq!((unknown.replay_current, unknown.gpu_hours), (None, None));
    assert!(unknown.warnings.contains(&Warning::ExistingUnknown("http_requests".into())));
    assert!(unknown.explanation.contains("now: unknown"), "{}", unknown.explanation);
    let memory = Metric::Utilization { resource: Resource::Memory, percent: 80 };
    let warned = change(Case { existing: Some(existing(memory)), ..Case::office(queue_and_cache()) }.advise());
    assert!(warned.warnings.contains(&Warning::MemoryRarelyScalesDown), "{:?}", warned.warnings);
}

#[test]
fn little_data_keeps_default_bounds_and_gaps_give_none() {
    let short = Case { demand: demand(12, 3, office), ..Case::office(queue_and_cache()) };
    let proposal = change(short.advise());
    assert!(proposal.warnings.iter().any(|it| matches!(it, Warning::LittleData(days) if *days < 3.1)));
    assert!(proposal.warnings.contains(&Warning::UnknownHours(96)), "{:?}", proposal.warnings);
    assert!(proposal.seasonal.is_none() && proposal.flat.unwrap().spec.max_replicas >= 10);
    let nothing = Demand::new(0, 14 * DAY_MINUTES as i64 * MINUTE_US);
    let Advice::Unknown(reason) = (Case { demand: nothing, ..Case::office(queue_and_cache()) }).advise() else {
        panic!("no telemetry, no advice")
    };
    assert!(reason.contains("0 %"), "{reason}");
}

#[test]
fn a_rise_that_outruns_every_start_is_not_papered_over() {
    // Every two hours 30 GPUs are wanted for three minutes: less than 5 % of an hour, so no hour's minimum knows of it.
    let spikes = Case {
        demand: demand(12, 7, |_, minute| if minute % 120 < 3 { 30.0 } else { 1.0 }),
        ..Case::office(queue_and_cache())
    };
    let Advice::Keep { reason, .. } = spikes.advise() else { panic!("{:?}", spikes.advise()) };
    assert!(reason.contains("rises faster"), "{reason}");
}

#[test]
fn a_step_at_nine_takes_a_schedule() {
    // 7 GPUs more within a minute, averaged over 5: 1.4 a minute, so 2.1 in a cold start. (1 + 2.1) / 0.8 is 4, (8 + 2.1) / 0.8 is 13.
    let step = |day: usize, minute: usize| if day < 5 && (540..1_080).contains(&minute) { 8.0 } else { 1.0 };
    let case = Case { shape: shape(16), demand: demand(16, 7, step), ..Case::office(queue_and_cache()) };
    let proposal = change(case.advise());
    let seasonal = proposal.seasonal.unwrap();
    let working = FloorWindow { days: vec![0, 1, 2, 3, 4], from_hour: 9, to_hour: 18, replicas: 13 };
    assert!(seasonal.windows.contains(&working), "{:?}", seasonal.windows);
    assert_eq!((seasonal.spec.min_replicas, proposal.lead_minutes), (4, 2));
    // 13 for 45 of 168 hours and 4 otherwise is 6.4; the scale-down takes a while.
    assert!((6.4..7.5).contains(&seasonal.replay.replica_mean), "{:?}", seasonal.replay);
    let flat = proposal.flat.map_or(f64::INFINITY, |flat| flat.replay.replica_mean);
    assert!(seasonal.replay.replica_mean < 0.95 * flat, "{flat}");
}

#[test]
fn every_warning_is_a_sentence() {
    let all = [
        Warning::CpuWithoutRequests,
        Warning::CpuUnmeasured,
        Warning::CpuForGpuWork,
        Warning::MemoryRarelyScalesDown,
        Warning::MemoryOverTarget(94),
        Warning::PreferQueueOrCache,
        Warning::DutySaturates,
        Warning::QueueAlone,
        Warning::ExistingUnknown("x".into()),
        Warning::LittleData(2.0),
        Warning::UnknownHours(3),
        Warning::WindowsMerged,
    ];
    assert!(all.iter().all(|warning| warning.text().len() > 40));
}
