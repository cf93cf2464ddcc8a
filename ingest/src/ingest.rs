//! The pipeline that every transport shares: admit, decode, append, count.

use std::sync::Arc;

use bytes::Bytes;
use driftwatt_store::{Rejection, Store};

use crate::{
    admission::{Admission, Gate},
    compression::{snappy, snappy_size},
    config::Config,
    decode::{Decoded, Decoder, WriteMessage},
    error::Result,
    json,
    metrics::{Metrics, by_reason},
    reason::Reason,
};

/// Larger bodies are decoded on the blocking pool, so that a task yields within half a millisecond or so.
const INLINE_SIZE_MAX: usize = 64 << 10;
/// Reasons named in an answer; the rest is counted as "more".
const ANSWER_REASONS_MAX: usize = 10;

/// Receives metrics into a store.
#[derive(Debug)]
pub struct Ingest {
    store: Arc<Store>,
    config: Config,
    decoder: Arc<Decoder>,
    gate: Gate,
    metrics: Metrics,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Points made durable, duplicates included.
    pub stored_count: u64,
    /// Of these, histogram and summary points.
    pub histogram_count: u64,
    /// Of the stored, points that replaced an unflushed point of the same identity.
    pub duplicate_count: u64,
    /// Points refused.
    pub rejected_count: u64,
    /// Of these, points that may be taken when they are sent again later.
    pub passing_count: u64,
    /// Why points were refused and what to do; empty if nothing was.
    pub message: String,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

impl Ingest {
    /// A pipeline into `store`. Create it after the global meter provider is set: its counters bind here.
    pub fn new(store: Arc<Store>, config: Config) -> Arc<Self> {
        let decoder = Arc::new(Decoder::with_register(&config, store.active_series()));
        let gate = Gate::new(&config);
        Arc::new(Self { store, config, decoder, gate, metrics: Metrics::new() })
    }

    /// Stores one `ExportMetricsServiceRequest` in protobuf. Returns once its good points are durable.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the append: the points may still become durable.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] if it is not protobuf, [`crate::Error::Overloaded`] at the limits, and what
    /// [`Store::append`] returns. Refused points are no error: see [`Outcome`].
    pub async fn export(&self, body: Bytes) -> Result<Outcome> {
        let admission = self.gate.enter()?;
        let outcome = self.export_admitted(admission, body, Format::Protobuf).await;
        self.metrics.request("internal", if outcome.is_ok() { 200 } else { 500 });
        outcome
    }

    pub(crate) async fn export_admitted(
        &self,
        mut admission: Admission,
        body: Bytes,
        format: Format,
    ) -> Result<Outcome> {
        admission.reserve(body.len())?;
        let stage_cpu = self.metrics.stage_cpu();
        let decoded = if body.len() <= INLINE_SIZE_MAX {
            stage_cpu.run("decode", || decode(&self.decoder, &body, format))?
        } else {
            let decoder = Arc::clone(&self.decoder);
            let work = move || stage_cpu.run("decode", || decode(&decoder, &body, format));
            tokio::task::spawn_blocking(work).await??
        };
        let outcome = self.append(decoded).await;
        drop(admission);
        outcome
    }

    /// Stores one remote-write request, a snappy block.
    pub(crate) async fn write_admitted(
        &self,
        mut admission: Admission,
        body: Bytes,
        message: WriteMessage,
    ) -> Result<Outcome> {
        let size_bytes = snappy_size(&body, self.config.decompressed_size_max)?;
        admission.reserve(body.len() + size_bytes)?;
        let (decoder, stage_cpu) = (Arc::clone(&self.decoder), self.metrics.stage_cpu());
        let work = move || -> Result<Decoded> {
            let body = stage_cpu.run("decompress", || snappy(&body))?;
            Ok(stage_cpu.run("decode", || decoder.decode_remote_write(&body, message))?)
        };
        let decoded = if size_bytes <= INLINE_SIZE_MAX { work()? } else { tokio::task::spawn_blocking(work).await?? };
        let outcome = self.append(decoded).await;
        drop(admission);
        outcome
    }

    async fn append(&self, decoded: Decoded) -> Result<Outcome> {
        let Decoded { batch, rejected_count, duplicate_key_count, exemplar_count } = decoded;
        let stored_count = batch.point_count() as u64;
        let histogram_count = batch.histograms.len() as u64;
        let message = answer(&batch.rejections);
        let reasons = by_reason(&batch.rejections);
        let duplicate_count = if batch.is_empty() { 0 } else { self.store.append(batch).await?.duplicate_count };
        // Counted only now: a request that the store refuses is sent again and must not be counted twice.
        self.metrics.stored(stored_count, duplicate_count);
        let mut passing_count = 0;
        for (reason, count) in reasons {
            self.metrics.rejected(reason, count);
            passing_count += if Reason::is_passing(reason) { count } else { 0 };
        }
        self.metrics.duplicate_attribute_keys(duplicate_key_count);
        self.metrics.exemplars_skipped(exemplar_count);
        Ok(Outcome { stored_count, histogram_count, duplicate_count, rejected_count, passing_count, message })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

fn decode(decoder: &Decoder, body: &[u8], format: Format) -> Result<Decoded> {
    match format {
        Format::Protobuf => Ok(decoder.decode(body)?),
        Format::Json => Ok(decoder.decode(&json::transcode(body)?)?),
    }
}

/// The sentence of a partial success: reasons with their counts and a metric to look at.
fn answer(rejections: &[Rejection]) -> String {
    let mut lines: Vec<(&str, u64, &str, &str)> = Vec::new();
    for row in rejections {
        match lines.iter_mut().find(|line| line.0 == row.reason) {
            Some(line) => line.1 += row.count,
            None => lines.push((&row.reason, row.count, &row.metric, &row.message)),
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.1));
    let more = lines.len().saturating_sub(ANSWER_REASONS_MAX);
    let mut text: Vec<String> = lines
        .into_iter()
        .take(ANSWER_REASONS_MAX)
        .map(|(reason, count, metric, message)| {
            format!("{reason}: {count} points (such as metric {metric:?}): {message}")
        })
        .collect();
    if more > 0 {
        text.push(format!("and {more} more reasons"));
    }
    text.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reason: &str, metric: &str, count: u64) -> Rejection {
        Rejection { time: 0, reason: reason.into(), metric: metric.into(), count, message: "do this".into() }
    }

    #[test]
    fn the_answer_adds_up_by_reason() {
        assert_eq!(answer(&[]), "");
        let text = answer(&[row("b", "m1", 1), row("a", "m1", 2), row("a", "m2", 3)]);
        assert_eq!(text, "a: 5 points (such as metric \"m1\"): do this; b: 1 points (such as metric \"m1\"): do this");
    }
}
