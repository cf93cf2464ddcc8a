//! How many replicas a service needs, from its fleet demand, its memory and the failures it must survive.

pub mod mig;
pub mod requests;

use serde::Serialize;

use crate::demand::Envelope;

/// Limits of the sizing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SizingRules {
    /// Mean share of the held GPUs below which an examination opens. Default 0.30.
    pub mean_below: f64,
    /// 95th percentile of that share from which a service works in bursts. Default 0.60.
    pub p95_below: f64,
    /// Share of a GPU that demand may fill before requests queue too long. Default 0.80.
    pub usable_share: f64,
    /// Seconds until a new replica serves. Default 90, the slow end of what LLM servers usually take.
    pub cold_start_s: f64,
    /// Replicas that may fail without a shortage. Default 1 (N+1).
    pub spare_count: u32,
    /// Fewest replicas. Default 2.
    pub replicas_min: u32,
    /// Largest share of the replicas to take away in one step. Default 0.25.
    pub step_share_max: f64,
    /// Share of GPU memory that models may fill. Default 0.90.
    pub memory_share_max: f64,
}

/// A service as it runs today.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceShape {
    /// Service name.
    pub service: String,
    /// Replicas.
    pub replica_count: u32,
    /// GPUs of each replica.
    pub gpus_per_replica: u32,
    /// GPU model as sent.
    pub gpu_model: Option<String>,
    /// Memory of one GPU, bytes.
    pub gpu_memory_bytes: Option<f64>,
    /// Memory that one replica holds on each of its GPUs, bytes (its peak).
    pub memory_bytes_per_gpu: Option<f64>,
}

/// What the demand requires.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequiredSize {
    /// Largest 99.5th percentile over the hours of the week, GPU-equivalents.
    pub peak_gpus: f64,
    /// Hour of the week of it, 0 = Monday 00:00 local.
    pub peak_hour_of_week: usize,
    /// What demand can rise by during a cold start, GPU-equivalents.
    pub burst_gpus: f64,
    /// Replicas required, spare included.
    pub replica_count: u32,
    /// Replicas after the next step, between `replica_count` and today's; today's when nothing may be taken.
    pub next_replica_count: u32,
    /// Replicas that fit one GPU by memory; none when memory is unknown, 0 when not even one does.
    pub replicas_per_gpu: Option<u32>,
    /// Smallest MIG profile that holds a replica at peak; none when the card has no MIG, or no smaller profile fits.
    pub mig: Option<mig::Profile>,
}

impl Default for SizingRules {
    fn default() -> Self {
        Self {
            mean_below: 0.30,
            p95_below: 0.60,
            usable_share: 0.80,
            cold_start_s: 90.0,
            spare_count: 1,
            replicas_min: 2,
            step_share_max: 0.25,
            memory_share_max: 0.90,
        }
    }
}

/// The smallest size that covers the 99.5th percentile of every hour of the week plus the burst of a cold start; none when no hour
/// is known.
///
/// With `need = (peak + slope × cold start) / GPUs per replica`, `replicas = max(ceil(need / usable_share), ceil(need) + spare)`, at
/// least `replicas_min`. The step is `floor(replicas × step_share_max)`: one replica from four on, none below.
pub fn required(envelope: &Envelope, shape: &ServiceShape, rules: &SizingRules) -> Option<RequiredSize> {
    let (peak_hour_of_week, peak_gpus) = envelope.peak()?;
    let burst_gpus = envelope.slope_per_minute * rules.cold_start_s / 60.0;
    let gpus_per_replica = shape.gpus_per_replica.max(1);
    let usable = rules.usable_share * f64::from(gpus_per_replica);
    let need = peak_gpus + burst_gpus;
    let serving = (need / usable).ceil() as u32;
    // Headroom is for queues and the spare for failures: while one is missing, the others may run full.
    let surviving = (need / f64::from(gpus_per_replica)).ceil() as u32 + rules.spare_count;
    let replica_count = serving.max(surviving).max(rules.replicas_min);
    let step = (f64::from(shape.replica_count) * rules.step_share_max).floor() as u32;
    let next_replica_count = shape.replica_count.saturating_sub(step).max(replica_count).min(shape.replica_count);
    let replicas_per_gpu = shape
        .gpu_memory_bytes
        .zip(shape.memory_bytes_per_gpu)
        .and_then(|(card, held)| (held > 0.0).then(|| (rules.memory_share_max * card / held).floor() as u32));
    let per_replica = (peak_gpus + burst_gpus) / f64::from(shape.replica_count.max(1));
    let mig = match (&shape.gpu_model, shape.memory_bytes_per_gpu) {
        (Some(model), Some(held)) if gpus_per_replica == 1 => mig::smallest(
            model,
            shape.gpu_memory_bytes,
            held / rules.memory_share_max,
            per_replica / rules.usable_share,
        ),
        _ => None,
    };
    Some(RequiredSize {
        peak_gpus,
        peak_hour_of_week,
        burst_gpus,
        replica_count,
        next_replica_count,
        replicas_per_gpu,
        mig,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Bucket;

    const GIB: f64 = 1_073_741_824.0;

    fn envelope(peak: f64, slope_per_minute: f64) -> Envelope {
        let mut buckets = vec![Bucket { minute_count: 60, p99_5: Some(0.0), ..Bucket::default() }; 168];
        buckets[40].p99_5 = Some(peak);
        Envelope { buckets, slope_per_minute, holiday_minute_count: 0, deploy_minute_count: 0 }
    }

    fn shape(replica_count: u32) -> ServiceShape {
        ServiceShape {
            service: "chat".into(),
            replica_count,
            gpus_per_replica: 1,
            gpu_model: Some("NVIDIA H100 80GB HBM3".into()),
            gpu_memory_bytes: Some(80.0 * GIB),
            memory_bytes_per_gpu: Some(16.0 * GIB),
        }
    }

    fn next(replicas: u32, peak: f64, slope: f64) -> (u32, u32) {
        let required = required(&envelope(peak, slope), &shape(replicas), &SizingRules::default()).unwrap();
        (required.replica_count, required.next_replica_count)
    }

    #[test]
    fn size_follows_peak_burst_spare_floor_and_step() {
        // 4.0 + 1.5 min x 1.0 = 5.5: 5.5 / 0.8 is 7, and 6 with one spare is 7 too. Without a burst 5 serve, 4 and a spare survive.
        assert_eq!(next(20, 4.0, 1.0), (7, 15));
        assert_eq!(next(8, 4.0, 1.0), (7, 7), "the step stops at what is required");
        assert_eq!(next(8, 4.0, 0.0), (5, 6));
        assert_eq!(next(5, 4.0, 1.0), (7, 5), "never more than today");
        assert_eq!(next(4, 0.1, 0.0), (2, 3), "one of four");
        assert_eq!(next(3, 0.1, 0.0), (2, 3), "a quarter of three is none");
        assert_eq!(next(9, 0.0, 0.0), (2, 7), "floor of two");
    }

    #[test]
    fn memory_and_mig_are_offered_when_known() {
        let size = required(&envelope(1.0, 0.0), &shape(8), &SizingRules::default()).unwrap();
        // 72 / 16 GiB; 16 / 0.9 = 17.8 GiB = 19.1 GB and (1 / 8) / 0.8 = 0.16 of a card: 1g.20gb has 1/7, 2g.20gb has 2/7.
        assert_eq!((size.replicas_per_gpu, size.mig.map(|profile| profile.name)), (Some(4), Some("2g.20gb")));
        let unknown = ServiceShape { memory_bytes_per_gpu: None, ..shape(8) };
        let size = required(&envelope(1.0, 0.0), &unknown, &SizingRules::default()).unwrap();
        assert_eq!((size.replicas_per_gpu, size.mig), (None, None));
    }
}
