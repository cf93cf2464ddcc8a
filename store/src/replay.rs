//! Log records on their way back into memory when the store opens.

use std::sync::{Arc, RwLock};

use crate::{
    active_series::ActiveSeries,
    error::{Error, Result},
    state::{State, WalTable},
    store::{read_state, write_state},
    wal::{Found, SeriesBook, decode},
};

/// Puts what the log holds into the memtables and the register of series.
pub(crate) struct Replayer {
    state: Arc<RwLock<State>>,
    active_series: Arc<ActiveSeries>,
    /// Records up to here have reached some tables; they are kept in a memtable of their own, because each table takes a
    /// memtable whole or not at all.
    partial_through: u64,
    now_us: i64,
    book: SeriesBook,
}

impl Replayer {
    /// Learns the series of the last day from the tables first, so that the log's are not taken for new ones.
    pub(crate) fn new(
        state: Arc<RwLock<State>>,
        active_series: Arc<ActiveSeries>,
        partial_through: u64,
        now_us: i64,
    ) -> Self {
        let snapshot = read_state(&state).snapshot(WalTable::Series.name());
        if let Some(Err(error)) = snapshot.map(|snapshot| active_series.seed_from_files(&snapshot, now_us)) {
            tracing::warn!(%error, "series of the last day are not all known; known ones may count as new");
        }
        Self { state, active_series, partial_through, now_us, book: SeriesBook::default() }
    }

    /// Takes the next thing that the log holds.
    ///
    /// # Errors
    /// [`Error::Record`] for an intact record that this build does not understand.
    pub(crate) fn take(&mut self, found: Found<'_>) -> Result<()> {
        match found {
            Found::Segment => {
                self.book.clear();
                Ok(())
            }
            Found::Known(payload) => self.book.learn(payload).map_err(Error::record(0)),
            Found::Record { sequence, payload } => self.insert(sequence, payload),
        }
    }

    fn insert(&mut self, sequence: u64, payload: &[u8]) -> Result<()> {
        let record = decode(payload, &mut self.book).map_err(Error::record(sequence))?;
        if record.lost_point_count > 0 {
            let points = record.lost_point_count;
            tracing::warn!(sequence, points, "points of series that only damaged records defined are lost");
        }
        for series in &record.batch.series {
            self.active_series.seed(series.id, series.fingerprint, &series.definition.metric, self.now_us);
        }
        let mut state = write_state(&self.state);
        if sequence > self.partial_through {
            state.seal_partial(self.partial_through);
        }
        state.insert(sequence, record.batch);
        Ok(())
    }
}
