use std::collections::BTreeMap;

use super::*;
use crate::sample::Sample;

fn sample(time: i64, bits: u64) -> Sample {
    Sample::new(time, 0, bits, 0)
}

fn stored(points: &Points<Sample>) -> Vec<(i64, u64)> {
    points.chunks().flatten().map(|point| (point.time, point.bits)).collect()
}

/// Bytes that the lists have reserved.
fn reserved(points: &Points<Sample>) -> usize {
    let chunks = points.full.iter().map(|chunk| chunk.capacity() * size_of::<Sample>() + CHUNK_SIZE_BYTES);
    chunks.sum::<usize>() + points.open.capacity() * size_of::<Sample>()
}

/// Inserts `times` in this order beside scans that hold on to what they saw, and compares with a map after each.
fn check(times: impl Iterator<Item = i64>) {
    let (mut points, mut model) = (Points::default(), BTreeMap::new());
    let (mut size_bytes, mut shared) = (0, Vec::new());
    for (n, time) in times.enumerate() {
        let replaced = points.insert(sample(time, n as u64), &mut size_bytes);
        assert_eq!(replaced, model.insert(time, n as u64).is_some(), "point {n}");
        assert_eq!(size_bytes, reserved(&points), "point {n}");
        if n % 97 == 0 {
            shared.push((points.clone(), model.clone()));
            points = points.clone();
        }
        assert!(points.chunks().all(|chunk| (1..2 * Sample::CHUNK_COUNT).contains(&chunk.len())));
        let ends = model.first_key_value().zip(model.last_key_value());
        assert_eq!(points.times(), ends.map(|(first, last)| (*first.0, *last.0)));
    }
    shared.push((points, model));
    for (points, model) in shared {
        assert_eq!(stored(&points), model.into_iter().collect::<Vec<_>>(), "what a scan shares does not change");
    }
}

#[test]
fn points_arrive_in_any_order_and_the_last_write_of_an_identity_stays() {
    check([5i64, 7, 6, 5, 1, 9, 7, 7, 2].into_iter());
    check(0..1000);
    check((0..1000).rev());
    // Two clocks, and one that is set back again and again.
    check((0..1000).map(|n| n / 2 + n % 2 * 5000));
    check((0..1000).map(|n| n % 300));
    let mut random = 1u64;
    check((0..3000).map(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as i64 % 2000
    }));
}

#[test]
fn days_are_utc_and_split_before_the_epoch_too() {
    let points = [sample(-1, 0), sample(0, 0), sample(DAY_US - 1, 0), sample(DAY_US, 0), sample(2 * DAY_US, 0)];
    let times = |day| on_day(&points, day).iter().map(|point| point.time).collect::<Vec<_>>();
    assert_eq!(times(-1), [-1]);
    assert_eq!(times(0), [0, DAY_US - 1]);
    assert_eq!(times(1), [DAY_US]);
    assert!(times(3).is_empty() && on_day::<Sample>(&[], 0).is_empty());
    assert_eq!(on_day(&points[1..3], 0).len(), 2);
}
