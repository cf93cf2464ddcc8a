//! Points whose minutes are known.

use super::*;
use crate::{
    test_session::{Sample, labels, session},
    window::MINUTE_US,
};

const SHARE: [(&str, Option<f64>); 3] = [("whole", None), ("one", Some(1.0 / 7.0)), ("two", Some(2.0 / 7.0))];

fn sample(second: i64, role: &'static str, value: f64, slice: usize, pod: &str) -> Sample {
    let mut labels = labels(&[("host_name", "h1"), ("gpu_id", "g1"), ("gpu_model", "L4"), ("k8s_pod", pod)]);
    if let (name, Some(_)) = SHARE[slice] {
        labels.push(("mig_id", name.to_owned()));
    }
    Sample { time_us: second * 1_000_000, role, value, labels, simulated: false }
}

async fn read(samples: &[Sample]) -> GpuMinutes {
    let ctx = session(samples, &[]);
    GpuMinutes::read(&ctx, Window::new(0, 3 * MINUTE_US).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_minute_is_the_mean_of_its_points_and_a_gap_is_not_zero() {
    let minutes = read(&[
        sample(0, "gpu.utilization", 0.25, 0, "a"),
        sample(30, "gpu.utilization", 0.75, 0, "a"),
        sample(130, "gpu.utilization", 0.0, 0, "b"),
        sample(15, "gpu.memory.used", 5e9, 0, "a"),
        sample(45, "gpu.memory.used", 7e9, 0, "a"),
        sample(45, "gpu.power", 80.0, 0, "a"),
    ])
    .await;
    let [gpu] = minutes.gpus.as_slice() else { panic!("{:?}", minutes.gpus) };
    assert_eq!((gpu.host.as_str(), gpu.model.as_deref()), ("h1", Some("L4")));
    assert!(gpu.duty[0] == 0.5 && gpu.duty[1].is_nan() && gpu.duty[2] == 0.0, "{:?}", gpu.duty);
    assert!(gpu.memory[0] == 7e9 && gpu.memory[1].is_nan() && gpu.power[0] == 80.0);
    let pod =
        |minute: usize| minutes.holders.get(usize::from(gpu.holder[minute])).and_then(|holder| holder.pod.clone());
    assert_eq!([pod(0), pod(1), pod(2)], [Some("a".into()), None, Some("b".into())]);
    assert_eq!((gpu.mean_duty(), minutes.row_count), (Some(0.25), 6));
}

#[tokio::test]
async fn slices_add_up_to_their_card_by_their_share() {
    let minutes = read(&[
        sample(0, "gpu.utilization", 0.7, 1, "a"),
        sample(0, "gpu.utilization", 0.35, 2, "b"),
        sample(0, "gpu.memory.used", 1e9, 1, "a"),
        sample(0, "gpu.memory.used", 2e9, 2, "b"),
    ])
    .await;
    let gpu = &minutes.gpus[0];
    assert!((gpu.duty[0] - 0.2).abs() < 1e-6, "0.7 / 7 + 0.35 x 2 / 7: {:?}", gpu.duty);
    assert_eq!(gpu.memory[0], 3e9);
}

#[tokio::test]
async fn nothing_is_no_gpu_and_less_than_a_minute_is_no_window() {
    assert!(read(&[]).await.gpus.is_empty());
    let ctx = session(&[], &[]);
    assert!(GpuMinutes::read(&ctx, Window::new(1, MINUTE_US).unwrap()).await.is_err());
}
