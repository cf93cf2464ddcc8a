//! What queries see: the version of each table and the points that are not in it yet, changed together under one lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    delta_log::TableSnapshot,
    memtable::Memtable,
    series::{Series, SeriesId},
    stored_times::StoredTimes,
    write_batch::WriteBatch,
};

/// A table fed by the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalTable {
    Series,
    Samples,
    Histograms,
    Rejections,
}

impl WalTable {
    /// In flush order.
    pub(crate) const ALL: [Self; 4] = [Self::Samples, Self::Histograms, Self::Rejections, Self::LAST];

    /// Committed at the end of every flush, so its log position is the position of the whole store.
    pub(crate) const LAST: Self = Self::Series;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Samples => "samples",
            Self::Histograms => "histograms",
            Self::Rejections => "rejections",
        }
    }

    /// Whether a row is a point, of which each identity is shown once.
    pub(crate) fn holds_points(self) -> bool {
        matches!(self, Self::Samples | Self::Histograms)
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// Table versions and unflushed points.
#[derive(Debug)]
pub(crate) struct State {
    tables: BTreeMap<String, Arc<TableSnapshot>>,
    /// Full memtables waiting for their flush, oldest first.
    sealed: Vec<Arc<Memtable>>,
    active: Memtable,
    /// Of what is in files; what sealed memtables hold comes on top.
    stored: StoredTimes,
}

impl State {
    /// Nothing unflushed; `stored` tells what files hold.
    pub(crate) fn new(stored: StoredTimes) -> Self {
        Self { tables: BTreeMap::new(), sealed: Vec::new(), active: Memtable::new(), stored }
    }

    pub(crate) fn snapshot(&self, name: &str) -> Option<Arc<TableSnapshot>> {
        self.tables.get(name).map(Arc::clone)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = (&String, &Arc<TableSnapshot>)> {
        self.tables.iter()
    }

    pub(crate) fn publish(&mut self, name: &str, snapshot: Arc<TableSnapshot>) {
        self.tables.insert(name.to_owned(), snapshot);
    }

    /// Every metric that has unflushed points.
    pub(crate) fn unflushed_metrics(&self) -> HashSet<Arc<str>> {
        let memtables = self.sealed.iter().map(Arc::as_ref).chain(std::iter::once(&self.active));
        memtables.flat_map(Memtable::metrics).map(Arc::clone).collect()
    }

    /// The rows of this moment that `snapshot` does not hold, of the metrics that are `wanted` at least, oldest memtable
    /// first: shared, not copied.
    pub(crate) fn unflushed(&self, snapshot: &TableSnapshot, wanted: impl Fn(&str) -> bool) -> Vec<Arc<Memtable>> {
        let position = snapshot.wal_position;
        let sealed = self.sealed.iter().filter(|memtable| memtable.last_sequence > position);
        let active = (!self.active.is_empty()).then(|| Arc::new(self.active.share(wanted)));
        sealed.map(Arc::clone).chain(active).collect()
    }

    /// Bytes of all unflushed points.
    pub(crate) fn size_bytes(&self) -> usize {
        self.sealed.iter().map(|memtable| memtable.size_bytes).sum::<usize>() + self.active.size_bytes
    }

    pub(crate) fn active(&self) -> &Memtable {
        &self.active
    }

    pub(crate) fn insert(&mut self, sequence: u64, batch: WriteBatch) -> u64 {
        let stored_through = stored_through(&self.sealed, &self.stored);
        self.active.insert(sequence, batch, Instant::now(), stored_through)
    }

    /// The place of `series` in the active memtable, until that is sealed; `before` is the place of the series before it.
    pub(crate) fn place(&mut self, series: &Arc<Series>, before: Option<u32>) -> u32 {
        self.active.place(series, before, &stored_through(&self.sealed, &self.stored))
    }

    /// As [`State::insert`]; points refer to a series by its index in `places`.
    pub(crate) fn insert_at(&mut self, sequence: u64, batch: WriteBatch, places: &[u32]) -> u64 {
        self.active.insert_at(sequence, batch, places, Instant::now())
    }

    /// Notes points of a sealed memtable as stored. Any part of them, any number of times, before it is dropped.
    pub(crate) fn extend_stored(&mut self, last_times: &[(SeriesId, i64)]) {
        for (id, time) in last_times {
            self.stored.extend(*id, *time);
        }
        self.stored.bound();
    }

    /// Closes the active memtable; its rows are those of the log up to its last sequence number.
    pub(crate) fn seal(&mut self) {
        if !self.active.is_empty() {
            self.sealed.push(Arc::new(std::mem::replace(&mut self.active, Memtable::new())));
        }
    }

    /// Closes the active memtable if it holds only records that a flush cut short has brought to some tables already.
    pub(crate) fn seal_partial(&mut self, partial_through: u64) {
        if self.active.last_sequence <= partial_through {
            self.seal();
        }
    }

    /// UTC days that the next flush writes to.
    pub(crate) fn unflushed_days(&self) -> BTreeSet<i32> {
        let memtables = self.sealed.iter().map(Arc::as_ref).chain(std::iter::once(&self.active));
        memtables.flat_map(|memtable| memtable.days.iter().copied()).collect()
    }

    pub(crate) fn oldest_sealed(&self) -> Option<Arc<Memtable>> {
        self.sealed.first().map(Arc::clone)
    }

    pub(crate) fn drop_through(&mut self, sequence: u64) {
        self.sealed.retain(|memtable| memtable.last_sequence > sequence);
    }
}

/// Up to which time points of a series may be stored outside the active memtable.
fn stored_through<'a>(sealed: &'a [Arc<Memtable>], stored: &'a StoredTimes) -> impl Fn(SeriesId) -> i64 + 'a {
    move |id| {
        let waiting = sealed.iter().filter_map(|memtable| memtable.last_time(id)).max();
        waiting.map_or(stored.through(id), |time| time.max(stored.through(id)))
    }
}
