//! When points of some hours were last written: what was derived from them before is then known to be old.

use std::{ops::Range, sync::Arc};

use crate::{
    error::{Error, Result},
    live_file::LiveFile,
    memtable::{Memtable, SeriesPoints},
    points::within,
    store::{Inner, Store, WalTable},
};

impl Store {
    /// For each of `windows`, UTC microseconds: the log sequence up to which points of `metric` may have been written there;
    /// zero where there are none, `None` where a file does not say.
    ///
    /// What was read after it was asked for holds all points up to it. It never misses a write. It may rise without one, because
    /// a merge of files keeps the highest sequence of its inputs only: seldom, as a point is merged two or three times.
    ///
    /// # Errors
    /// [`Error::Task`] if the process is ending.
    pub async fn last_writes(&self, metric: &str, windows: Vec<Range<i64>>) -> Result<Vec<Option<u64>>> {
        let (inner, metric) = (Arc::clone(self.inner()), metric.to_owned());
        // A metric may have very many series in memory.
        let look = move || last_writes(&inner, &metric, &windows);
        tokio::task::spawn_blocking(look).await.map_err(|error| Error::Task(error.to_string()))
    }
}

fn last_writes(inner: &Inner, metric: &str, windows: &[Range<i64>]) -> Vec<Option<u64>> {
    let (snapshots, memtables) = {
        let state = inner.state();
        let of = |table: WalTable| state.snapshot(table.name());
        // The last table of a flush: a memtable that it does not hold yet may be in others, where it has the same sequence.
        let memtables = of(WalTable::LAST).map(|snapshot| state.unflushed(&snapshot, |other| other == metric));
        ([WalTable::Samples, WalTable::Histograms].map(of), memtables.unwrap_or_default())
    };
    let files: Vec<&Arc<LiveFile>> = snapshots
        .iter()
        .flatten()
        .flat_map(|snapshot| snapshot.files.iter())
        .filter(|file| file.keys.metric.as_ref().is_none_or(|(low, high)| (low.as_str()..=high).contains(&metric)))
        .collect();
    windows.iter().map(|window| last_write(metric, window, &files, &memtables)).collect()
}

fn last_write(metric: &str, window: &Range<i64>, files: &[&Arc<LiveFile>], memtables: &[Arc<Memtable>]) -> Option<u64> {
    let mut last = 0;
    for file in files {
        if file.keys.time.is_none_or(|(first, end)| first < window.end && end >= window.start) {
            // Sequences begin at one: a file without is not of our making.
            last = last.max(Some(file.sequence).filter(|sequence| *sequence > 0)?);
        }
    }
    let is_inside = |points: &Arc<SeriesPoints>| {
        points.samples.chunks().any(|chunk| !within(chunk, window).is_empty())
            || points.histograms.chunks().any(|chunk| !within(chunk, window).is_empty())
    };
    for memtable in memtables {
        if memtable.series_of(|other| other == metric).any(is_inside) {
            last = last.max(memtable.last_sequence);
        }
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use crate::{
        Compaction,
        store::tests::{START, batch, open},
    };

    const HOUR: i64 = 3_600_000_000;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_is_seen_in_its_hour_in_memory_in_files_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).await;
        let windows = || vec![START..START + HOUR, START + HOUR..START + 2 * HOUR, START + 2 * HOUR..START + 3 * HOUR];
        assert_eq!(store.last_writes("a", windows()).await.unwrap(), [Some(0); 3]);
        store.append(batch("a", "h1", START, 10)).await.unwrap();
        let second = store.append(batch("a", "h1", START + HOUR, 10)).await.unwrap().sequence;
        let third = store.append(batch("b", "h1", START + 2 * HOUR, 10)).await.unwrap().sequence;
        let seen = store.last_writes("a", windows()).await.unwrap();
        // Of a memtable the last record counts, whatever it was of.
        assert_eq!(seen, [Some(third), Some(third), Some(0)]);
        assert!(second > 0);
        store.flush().await.unwrap();
        store.append(batch("a", "h1", START + 2 * HOUR, 1)).await.unwrap();
        store.flush().await.unwrap();
        let before = store.last_writes("a", windows()).await.unwrap();
        assert!(before[0] == Some(third) && before[2] > before[1], "{before:?}");
        store.close().await.unwrap();
        drop(store);
        store = open(dir.path()).await;
        assert_eq!(store.last_writes("a", windows()).await.unwrap(), before);
        // Late, and of another metric: nothing of the first hour was written, and only a file of all three says otherwise.
        let late = store.append(batch("a", "h2", START + 60_000_000, 1)).await.unwrap().sequence;
        assert_eq!(store.last_writes("a", windows()).await.unwrap(), [Some(late), before[1], before[2]]);
        store.flush().await.unwrap();
        store.compact(Compaction::Full).await.unwrap();
        let merged = store.last_writes("a", windows()).await.unwrap();
        assert!(merged.iter().zip(&before).all(|(after, before)| after >= before), "{merged:?}");
        assert_eq!(merged[0], Some(late));
    }
}
