//! The body of a streamed answer.

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use crate::{answer::Answer, output::BatchWriter};

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Writes `first` and the rest of `answer`, a piece for each batch. What cannot be finished ends in an error, which
/// breaks the connection off: half an answer is not taken for a whole one.
pub(crate) fn body(
    first: Option<RecordBatch>,
    answer: Answer,
    writer: BatchWriter,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    let batches = stream::iter(first.map(Ok)).chain(answer);
    stream::unfold(Some((batches, writer)), async |state| {
        let (mut batches, mut writer) = state?;
        Some(match batches.next().await {
            Some(Ok(batch)) => match writer.write(&batch) {
                Ok(piece) => (Ok(piece), Some((batches, writer))),
                Err(error) => (Err(error.into()), None),
            },
            Some(Err(error)) => (Err(error.into()), None),
            None => (writer.finish().map_err(Into::into), None),
        })
    })
}
