//! The body of a streamed answer.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use crate::{
    answer::Answer,
    batch_writer::BatchWriter,
    error::{Error, Result},
};

/// What breaks a body off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Writes `answer` in pieces. What cannot be finished ends in an error, which breaks the connection off: half an answer is
/// not taken for a whole one.
pub(crate) fn body(answer: Answer, writer: BatchWriter) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::unfold(Some((answer, writer)), async |state| {
        let (mut batches, mut writer) = state?;
        let of = |error: arrow::error::ArrowError| Error::of("", error.into());
        loop {
            return Some(match batches.next().await {
                Some(Ok(batch)) => match writer.write(&batch) {
                    // Nothing to send while a row group fills.
                    Ok(piece) if piece.is_empty() => continue,
                    Ok(piece) => (Ok(piece), Some((batches, writer))),
                    Err(error) => (Err(of(error)), None),
                },
                Some(Err(error)) => (Err(error), None),
                None => (writer.finish().map_err(of), None),
            });
        }
    })
}
