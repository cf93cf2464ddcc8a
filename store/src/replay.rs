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
    wal::{Found, SeriesBook, decode_points},
    write_batch::WriteBatch,
};
use gathered::Gathered;

/// Parts of the log decoded before they are asked for.
const PARTS_AHEAD: usize = 2;

/// Some records in a row of one segment, as the decoding thread hands them over.
struct Part {
    /// The last of the records.
    through: u64,
    /// They are the first of their segment to be replayed: places count from 0 again.
    starts_segment: bool,
    /// Series that the segment has defined since the part before.
    learned: Vec<Arc<Series>>,
    /// The series that `batch` refers to, by their place among those that the segment has defined.
    series: Vec<u32>,
    batch: WriteBatch,
}

/// Decodes what the log holds.
struct Decoder {
    book: SeriesBook,
    /// Series of the book that were handed over.
    told: usize,
    starts_segment: bool,
    /// A part ends here: records up to this one are kept apart from later ones.
    partial_through: u64,
    gathered: Gathered,
    /// The last record that was gathered, if one is to be handed over.
    gathered_through: Option<u64>,
    parts: SyncSender<Part>,
}

impl Decoder {
    /// Takes the next thing that the log holds.
    ///
    /// # Errors
    /// [`Error::Record`] for an intact record that this build does not understand.
    fn take(&mut self, found: Found<'_>) -> Result<()> {
        match found {
            Found::Segment => {
                self.hand_over()?;
                self.book.clear();
                self.told = 0;
                self.starts_segment = true;
                Ok(())
            }
            Found::Known(payload) => self.book.learn(payload).map_err(Error::record(0)),
            Found::Record { sequence, payload } => {
                if sequence > self.partial_through && self.gathered_through <= Some(self.partial_through) {
                    self.hand_over()?;
                }
                let points = decode_points(payload, &mut self.book).map_err(Error::record(sequence))?;
                if points.lost_point_count > 0 {
                    let points = points.lost_point_count;
                    tracing::warn!(sequence, points, "points of series that only damaged records defined are lost");
                }
                self.gathered.add(points.batch, &points.series);
                self.gathered_through = Some(sequence);
                if self.gathered.is_enough() { self.hand_over() } else { Ok(()) }
            }
        }
    }

    fn hand_over(&mut self) -> Result<()> {
        let Some(through) = self.gathered_through.take() else { return Ok(()) };
        let starts_segment = std::mem::take(&mut self.starts_segment);
        let learned = self.book.since(self.told);
        self.told += learned.len();
        let (batch, series) = self.gathered.take();
        let part = Part { through, starts_segment, learned, series, batch };
        self.parts.send(part).map_err(|_ended| Error::Task("the replay of the log ended early".into()))
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
}

impl Replayer {
    pub(crate) fn new(
        state: Arc<RwLock<State>>,
        active_series: Arc<ActiveSeries>,
        partial_through: u64,
        now_us: i64,
    ) -> Self {
        Self { state, active_series, partial_through, now_us, series: Vec::new(), places: Vec::new() }
    }

    /// Calls `read` with what takes each thing that the log holds, and returns when all of it is in memory.
    ///
    /// # Errors
    /// What `read` returns; [`Error::Record`] for an intact record that this build does not understand.
    pub(crate) fn run_beside<T>(
        self,
        read: impl FnOnce(&mut dyn FnMut(Found<'_>) -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let (parts, inbox) = sync_channel(PARTS_AHEAD);
        let partial_through = self.partial_through;
        thread::scope(|scope| {
            let inserting = thread::Builder::new()
                .name("driftwatt-replay".into())
                .spawn_scoped(scope, move || self.insert_all(inbox))
                .map_err(|error| Error::Task(format!("start the replay thread: {error}")))?;
            let mut decoder = Decoder {
                book: SeriesBook::default(),
                told: 0,
                starts_segment: true,
                partial_through,
                gathered: Gathered::default(),
                gathered_through: None,
                parts,
            };
            let outcome = read(&mut |found| decoder.take(found));
            let last = decoder.hand_over();
            // Ends the other thread once it has taken what is there.
            drop(decoder);
            inserting.join().map_err(|_panic| Error::Task("the replay thread panicked".into()))?;
            let outcome = outcome?;
            last.map(|()| outcome)
        })
    }

    fn insert_all(mut self, inbox: Receiver<Part>) {
        self.learn_from_tables();
        let mut whole = false;
        for part in inbox {
            if part.starts_segment {
                self.series.clear();
                self.places.clear();
            }
            self.places.resize(self.places.len() + part.learned.len(), None);
            self.series.extend(part.learned);
            if part.through > self.partial_through && !whole {
                whole = true;
                write_state(&self.state).seal_partial(self.partial_through);
                self.places.fill(None);
            }
            self.insert(part.through, part.batch, &part.series);
        }
    }

    /// Learns the series of the last day from the tables first, so that the log's are not taken for new ones.
    fn learn_from_tables(&self) {
        let snapshot = read_state(&self.state).snapshot(WalTable::Series.name());
        let seeded = snapshot.map(|snapshot| self.active_series.seed_from_files(&snapshot, self.now_us));
        if let Some(Err(error)) = seeded {
            tracing::warn!(%error, "series of the last day are not all known; known ones may count as new");
        }
    }

    fn insert(&mut self, through: u64, batch: WriteBatch, series: &[u32]) {
        let mut state = write_state(&self.state);
        let mut places: Vec<u32> = Vec::with_capacity(series.len());
        for known in series.iter().map(|place| *place as usize) {
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
        state.insert_at(through, batch, &places);
    }
}
