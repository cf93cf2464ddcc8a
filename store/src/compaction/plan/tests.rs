use super::*;
use crate::{file_name::FileName, live_file::KeyRange};

const DAY: i32 = 20_000;
const FAN_IN: usize = 32;
const NOON: i64 = DAY as i64 * DAY_US + DAY_US / 2;
const MINUTE: i64 = 60_000_000;

/// A file of `DAY` whose points end at `minute` of the day, flushed then.
fn file(level: u8, sequence: u64, minute: i64, size_bytes: u64) -> Arc<LiveFile> {
    let name = FileName { level, sequence, repeats: false };
    let last = i64::from(DAY) * DAY_US + minute * MINUTE;
    let keys = KeyRange { time: Some((last - MINUTE, last)), date: Some((DAY, DAY)), ..KeyRange::default() };
    Arc::new(LiveFile { size_bytes, added_ms: last / 1000, keys, ..LiveFile::new(name.to_text(), DAY, name) })
}

fn flushes(count: u64) -> Vec<Arc<LiveFile>> {
    (1..=count).map(|n| file(0, n, n as i64, 1 << 20)).collect()
}

/// Level and sequences of each merge.
fn planned(files: &[Arc<LiveFile>], now_us: i64, compaction: Compaction) -> Vec<(u8, Vec<u64>)> {
    let plans = plan(files, now_us, compaction, FAN_IN);
    plans.iter().map(|plan| (plan.level, plan.runs.iter().map(|run| run[0].sequence).collect())).collect()
}

#[test]
fn an_open_day_is_merged_by_windows_of_neighbours() {
    assert_eq!(planned(&flushes(15), NOON, Compaction::Due), []);
    assert_eq!(planned(&flushes(16), NOON, Compaction::Due), [(1, (1..=16).collect())]);
    // Two hours of few flushes are a window too.
    let slow: Vec<_> = (0..5).map(|n| file(0, n + 1, n as i64 * 30, 1 << 20)).collect();
    assert_eq!(planned(&slow[..4], NOON, Compaction::Due), []);
    assert_eq!(planned(&slow, NOON, Compaction::Due), [(1, (1..=5).collect())]);
    // A window between flushes separates them.
    let mut split = flushes(20);
    split[10] = file(1, 11, 11, 1 << 20);
    assert_eq!(planned(&split, NOON, Compaction::Due), []);
    assert_eq!(planned(&flushes(40), NOON, Compaction::Due), [(1, (1..=32).collect())]);
}

#[test]
fn small_windows_are_merged_again_and_large_ones_wait_for_the_end_of_the_day() {
    let windows = |size_bytes| (1..=16).map(|n| file(1, n, n as i64, size_bytes)).collect::<Vec<_>>();
    assert_eq!(planned(&windows(1 << 20), NOON, Compaction::Due), [(1, (1..=16).collect())]);
    assert_eq!(planned(&windows(LARGE_RUN_BYTES), NOON, Compaction::Due), []);
}

#[test]
fn a_day_that_is_over_and_quiet_becomes_one_run() {
    let end = (i64::from(DAY) + 1) * DAY_US;
    let files = [file(1, 5, 700, 1 << 20), file(0, 6, 1400, 1 << 20), file(0, 7, 1430, 1 << 20)];
    assert_eq!(planned(&files, end + 59 * MINUTE, Compaction::Due), []);
    assert_eq!(planned(&files, end + 60 * MINUTE, Compaction::Due), [(2, vec![5, 6, 7])]);
    // A backlog that still arrives is not merged at each of its flushes.
    let arriving = [Arc::clone(&files[0]), file(0, 8, 24 * 60 + 65, 1 << 20)];
    assert_eq!(planned(&arriving, end + 70 * MINUTE, Compaction::Due), []);
    assert_eq!(planned(&arriving, end + 75 * MINUTE, Compaction::Due), [(2, vec![5, 8])]);
    assert_eq!(planned(&files[..1], end + DAY_US, Compaction::Due), []);
}

#[test]
fn late_files_join_their_day_when_several_large_or_old() {
    let base = || file(2, 10, 1439, 1 << 30);
    let late = |n: u64, size_bytes| file(0, 10 + n, 24 * 60 + 60, size_bytes);
    let added = (i64::from(DAY) + 1) * DAY_US + 60 * MINUTE;
    let check = |late: Vec<Arc<LiveFile>>, after: i64, expected: bool| {
        let files: Vec<_> = std::iter::once(base()).chain(late).collect();
        let found = planned(&files, added + after * MINUTE, Compaction::Due);
        assert_eq!(!found.is_empty(), expected, "{found:?}");
        assert!(found.iter().all(|(level, sequences)| *level == 2 && sequences[0] == 10));
    };
    check(vec![late(1, 1 << 20)], 15, false);
    check(vec![late(1, 1 << 20)], 6 * 60, true);
    check(vec![late(1, 1 << 28)], 15, true);
    check((1..=7).map(|n| late(n, 1 << 20)).collect(), 15, false);
    check((1..=8).map(|n| late(n, 1 << 20)).collect(), 15, true);
}

#[test]
fn a_full_merge_reaches_one_run_with_a_bounded_fan_in() {
    assert_eq!(planned(&flushes(3), NOON, Compaction::Full), [(1, vec![1, 2, 3])]);
    let mut files = flushes(1000);
    let mut rounds = 0;
    loop {
        let plans = plan(&files, NOON, Compaction::Full, FAN_IN);
        if plans.is_empty() {
            break;
        }
        rounds += 1;
        for plan in plans {
            assert!((2..=FAN_IN).contains(&plan.runs.len()));
            let merged: Vec<_> = plan.files().map(|file| file.path.clone()).collect();
            files.retain(|file| !merged.contains(&file.path));
            files.push(file(plan.level, plan.sequence, 1, 1 << 20));
        }
    }
    assert_eq!((files.len(), files[0].sequence, rounds), (1, 1000, 2));
}

#[test]
fn parts_of_one_run_stay_together_in_key_order() {
    let part = |metric: (&str, &str), id| {
        let mut part = (*file(2, 9, 1439, 1 << 30)).clone();
        part.path = FileName { level: 2, sequence: 9, repeats: false }.to_text();
        part.keys.metric = Some((metric.0.into(), metric.1.into()));
        part.keys.series_id = Some((id, i64::MAX));
        Arc::new(part)
    };
    let parts = [part(("b", "c"), -9), part(("a", "b"), 5), part(("b", "b"), 7), part(("b", "b"), 3)];
    let files: Vec<_> = parts.into_iter().chain([file(0, 10, 5, 1)]).collect();
    let plans = plan(&files, NOON, Compaction::Full, FAN_IN);
    let keys = plans[0].runs[0].iter().map(|file| (file.keys.metric.clone().unwrap(), file.keys.series_id.unwrap().0));
    let keys: Vec<_> = keys.map(|((low, high), id)| format!("{low}{high}{id}")).collect();
    assert_eq!(keys, ["ab5", "bb3", "bb7", "bc-9"]);
    assert_eq!((plans.len(), plans[0].runs.len()), (1, 2));
}

#[test]
fn a_merge_without_the_oldest_run_may_still_repeat_it() {
    let suspect = |sequence, times| {
        let mut suspect = (*file(0, sequence, sequence as i64, 1 << 20)).clone();
        (suspect.repeats, suspect.repeated_times) = (true, times);
        Arc::new(suspect)
    };
    let mut files = flushes(34);
    files[0] = file(1, 1, 1, LARGE_RUN_BYTES);
    files[5] = suspect(6, Some((3, 4)));
    files[7] = suspect(8, Some((1, 2)));
    let plans = plan(&files, NOON, Compaction::Due, FAN_IN);
    assert_eq!((plans.len(), plans[0].repeats, plans[0].repeated_times), (1, true, Some((1, 4))));
    files[9] = suspect(10, None);
    assert_eq!(plan(&files, NOON, Compaction::Due, FAN_IN)[0].repeated_times, None);
    let whole = plan(&files[..20], NOON, Compaction::Full, FAN_IN);
    assert_eq!((whole[0].repeats, whole[0].repeated_times), (false, None));
}

#[test]
fn days_are_planned_apart() {
    let mut files = flushes(2);
    let mut next_day = (*file(0, 3, 24 * 60 + 5, 1)).clone();
    next_day.date = DAY + 1;
    files.push(Arc::new(next_day));
    assert_eq!(planned(&files, NOON, Compaction::Full), [(1, vec![1, 2])]);
}

#[test]
fn with_little_memory_windows_are_narrow_and_a_day_takes_more_rounds() {
    let merged = |compaction| {
        let plans = plan(&flushes(15), NOON, compaction, 4);
        plans.iter().map(|plan| plan.runs.len()).collect::<Vec<_>>()
    };
    assert_eq!(merged(Compaction::Due), [4, 4, 4]);
    assert_eq!(merged(Compaction::Full), [4, 4, 4, 3]);
}

#[test]
fn rows_without_an_identity_are_merged_by_whole_days_only() {
    let end = (i64::from(DAY) + 1) * DAY_US;
    let planned = |files: &[Arc<LiveFile>], now_us, compaction| {
        let plans = plan_rows(files, now_us, compaction);
        plans.iter().map(|plan| (plan.level, plan.files().count())).collect::<Vec<_>>()
    };
    // Results, which have no sequence, more of them than a merge of points takes.
    let results: Vec<_> = (0..100).map(|n| file(0, 0, n, 1 << 10)).collect();
    for files in [results, flushes(100)] {
        assert_eq!(planned(&files, NOON, Compaction::Due), []);
        assert_eq!(planned(&files, end, Compaction::Due), []);
        assert_eq!(planned(&files, end + 60 * MINUTE, Compaction::Due), [(2, 100)]);
        assert_eq!(planned(&files, NOON, Compaction::Full), [(1, 100)]);
    }
    let merged = [file(2, 0, 10, 1 << 20)];
    assert_eq!(planned(&merged, end + DAY_US, Compaction::Full), []);
    let late = [Arc::clone(&merged[0]), file(0, 0, 24 * 60 + 65, 1 << 10)];
    assert_eq!(planned(&late, end + 70 * MINUTE, Compaction::Due), []);
    assert_eq!(planned(&late, end + 75 * MINUTE, Compaction::Due), [(2, 2)]);
}
