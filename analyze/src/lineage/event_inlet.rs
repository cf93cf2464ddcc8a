//! Where events of OpenLineage become rows of the tables `events` and `dataset_places`.

use driftwatt_store::Store;

use super::{
    open_lineage::{EventError, RunEvent, read_event},
    records::{DatasetPlace, EventRecord},
};
use crate::{error::Result, window::DAY_US};

/// How far the clock of a sender may be ahead.
const AHEAD_US_MAX: i64 = DAY_US;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenEvent {
    /// Data sets that it named.
    pub dataset_count: usize,
    /// Facets that were there and are not kept, as paths; sorted.
    pub facets_left_out: Vec<String>,
}

/// Reads the body of one event that came at `received_us`, and writes it.
///
/// An event that is sent twice is two rows that say the same.
///
/// # Errors
/// [`crate::Error::LineageEvent`] with the field in question; those of the store.
pub async fn take(store: &Store, body: &[u8], received_us: i64) -> Result<TakenEvent> {
    let event = read_event(body)?;
    check_time(&event, received_us)?;
    let places = DatasetPlace::of_event(&event);
    if !places.is_empty() {
        store.write_result(DatasetPlace::TABLE, DatasetPlace::to_batch(&places)?).await?;
    }
    // Last, so that an event that is there has its data sets.
    let row = EventRecord::of_run(&event, received_us);
    store.write_result(EventRecord::TABLE, EventRecord::to_batch(&[row])?).await?;
    Ok(TakenEvent { dataset_count: places.len(), facets_left_out: event.facets_left_out })
}

fn check_time(event: &RunEvent, received_us: i64) -> Result<(), EventError> {
    let expected = if event.time_us <= 0 {
        "a time after 1970"
    } else if event.time_us - received_us > AHEAD_US_MAX {
        "a time that is not more than a day ahead: set the clock of the sender by NTP"
    } else {
        return Ok(());
    };
    Err(EventError::Shape { field: "eventTime".to_owned(), expected })
}
