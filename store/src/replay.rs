//! Log records on their way back into memory when the store opens: one thread reads, checks and decodes them, another
//! puts them into the memtable.

mod gathered;

use std::{
    sync::{
        Arc, RwLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use crate::{
    active_series::ActiveSeries,
    error::{Error, Result},
    series::Series,
    state::{State, WalTable},
    store::{read_state, write_state},
    wal::{Found, RecordPoints, SeriesBook, decode_points},
};
use gathered::Gathered;

/// Records decoded before they are asked for.
const RECORDS_AHEAD: usize = 16;

/// A record, as the decoding thread hands it over.
struct Decoded {
    sequence: u64,
    /// It is the first record of its segment to be replayed: places count from 0 again.
    starts_segment: bool,
    /// Series that the segment has defined since the record before.
    learned: Vec<Arc<Series>>,
    points: RecordPoints,
}

/// Decodes what the log holds.
struct Decoder {
    book: SeriesBook,
    /// Series of the book that were handed over.
    told: usize,
    starts_segment: bool,
    decoded: SyncSender<Decoded>,
}

impl Decoder {
    /// Takes the next thing that the log holds.
    ///
    /// # Errors
    /// [`Error::Record`] for an intact record that this build does not understand.
    fn take(&mut self, found: Found<'_>) -> Result<()> {
        match found {
            Found::Segment => {
                self.book.clear();
                self.told = 0;
                self.starts_segment = true;
                Ok(())
            }
            Found::Known(payload) => self.book.learn(payload).map_err(Error::record(0)),
            Found::Record { sequence, payload } => {
                let points = decode_points(payload, &mut self.book).map_err(Error::record(sequence))?;
                if points.lost_point_count > 0 {
                    let points = points.lost_point_count;
                    tracing::warn!(sequence, points, "points of series that only damaged records defined are lost");
                }
                let starts_segment = std::mem::take(&mut self.starts_segment);
                let learned = self.book.since(self.told);
                self.told += learned.len();
                let decoded = Decoded { sequence, starts_segment, learned, points };
                self.decoded.send(decoded).map_err(|_ended| Error::Task("the replay of the log ended early".into()))
            }
        }
    }
}

/// Puts what the log holds into the memtables and the register of series.
pub(crate) struct Replayer {
    state: Arc<RwLock<State>>,
    active_series: Arc<ActiveSeries>,
    /// Records up to here have reached some tables; they are kept in a memtable of their own, because each table takes a
    /// memtable whole or not at all.
    partial_through: u64,
    now_us: i64,
    /// The series that the segment has defined so far.
    series: Vec<Arc<Series>>,
    /// Of each, its place in the memtable, once it has a point.
    places: Vec<Option<u32>>,
    /// Points that are not in the memtable yet, and the last record they are of.
    gathered: Gathered,
    gathered_through: Option<u64>,
}

impl Replayer {
    pub(crate) fn new(
        state: Arc<RwLock<State>>,
        active_series: Arc<ActiveSeries>,
        partial_through: u64,
        now_us: i64,
    ) -> Self {
        Self {
            state,
            active_series,
            partial_through,
            now_us,
            series: Vec::new(),
            places: Vec::new(),
            gathered: Gathered::default(),
            gathered_through: None,
        }
    }

    /// Calls `read` with what takes each thing that the log holds, and returns when all of it is in memory.
    ///
    /// # Errors
    /// What `read` returns; [`Error::Record`] for an intact record that this build does not understand.
    pub(crate) fn run_beside<T>(
        self,
        read: impl FnOnce(&mut dyn FnMut(Found<'_>) -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let (decoded, inbox) = sync_channel(RECORDS_AHEAD);
        thread::scope(|scope| {
            let inserting = thread::Builder::new()
                .name("driftwatt-replay".into())
                .spawn_scoped(scope, move || self.insert_all(inbox))
                .map_err(|error| Error::Task(format!("start the replay thread: {error}")))?;
            let mut decoder = Decoder { book: SeriesBook::default(), told: 0, starts_segment: true, decoded };
            let outcome = read(&mut |found| decoder.take(found));
            // Ends the other thread once it has taken what is there.
            drop(decoder);
            inserting.join().map_err(|_panic| Error::Task("the replay thread panicked".into()))?;
            outcome
        })
    }

    fn insert_all(mut self, inbox: Receiver<Decoded>) {
        self.learn_from_tables();
        let mut whole = false;
        for Decoded { sequence, starts_segment, learned, points } in inbox {
            if starts_segment {
                self.series.clear();
                self.places.clear();
            }
            self.places.resize(self.places.len() + learned.len(), None);
            self.series.extend(learned);
            if sequence > self.partial_through && !whole {
                whole = true;
                self.insert_gathered();
                write_state(&self.state).seal_partial(self.partial_through);
                self.places.fill(None);
            }
            self.gather(sequence, points);
        }
        self.insert_gathered();
    }

    /// Learns the series of the last day from the tables first, so that the log's are not taken for new ones.
    fn learn_from_tables(&self) {
        let snapshot = read_state(&self.state).snapshot(WalTable::Series.name());
        let seeded = snapshot.map(|snapshot| self.active_series.seed_from_files(&snapshot, self.now_us));
        if let Some(Err(error)) = seeded {
            tracing::warn!(%error, "series of the last day are not all known; known ones may count as new");
        }
    }

    fn gather(&mut self, sequence: u64, points: RecordPoints) {
        let mut state = write_state(&self.state);
        let mut places: Vec<u32> = Vec::with_capacity(points.series.len());
        for known in points.series.iter().map(|place| *place as usize) {
            let place = match self.places[known] {
                Some(place) => place,
                None => {
                    let series = &self.series[known];
                    self.active_series.seed(series.id, series.fingerprint, &series.definition.metric, self.now_us);
                    let place = state.place(series, places.last().copied());
                    self.places[known] = Some(place);
                    place
                }
            };
            places.push(place);
        }
        drop(state);
        self.gathered.add(points.batch, &places);
        self.gathered_through = Some(sequence);
        if self.gathered.is_enough() {
            self.insert_gathered();
        }
    }

    fn insert_gathered(&mut self) {
        if let Some(sequence) = self.gathered_through.take() {
            let (batch, places) = self.gathered.take();
            write_state(&self.state).insert_at(sequence, batch, &places);
        }
    }
}
