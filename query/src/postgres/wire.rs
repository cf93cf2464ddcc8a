//! The bytes of one connection: messages in, messages out, both bounded.

use std::{io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;

/// A message longer than this ends the connection.
pub(crate) const MESSAGE_SIZE_BYTES_MAX: usize = 16 << 20;
/// A start-up message longer than this ends the connection.
const FIRST_SIZE_BYTES_MAX: usize = 10_000;
/// What was written goes to the client once it is this much.
const WRITTEN_SIZE_BYTES: usize = 64 << 10;
/// While a query runs, this much of what the client sends is read ahead.
const AHEAD_SIZE_BYTES_MAX: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("a message of {size} bytes is longer than the {max} that are taken")]
    TooLong { size: usize, max: usize },
    #[error("invalid message")]
    Malformed,
    #[error("the client does not read")]
    Stalled,
    #[error("the client left")]
    Left,
}

/// A connection, encrypted or not.
pub(crate) struct Wire {
    stream: Stream,
    read: BytesMut,
    written: BytesMut,
    /// Time the client may take to read what was written.
    stall_max: Duration,
}

impl Wire {
    pub(crate) fn new(stream: Stream, stall_max: Duration) -> Self {
        Self { stream, read: BytesMut::new(), written: BytesMut::new(), stall_max }
    }

    /// The stream, to be wrapped; fails if bytes were read that belong to what comes after.
    pub(crate) fn into_stream(self) -> Result<Stream, WireError> {
        // What was sent before the encryption began must not be taken as if it had been protected.
        if self.read.is_empty() { Ok(self.stream) } else { Err(WireError::Malformed) }
    }

    /// The first message, without its length; `None` when the client left.
    ///
    /// # Cancel safety
    /// What was read stays.
    pub(crate) async fn first(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(size) = self.size_at(0, FIRST_SIZE_BYTES_MAX).await? else { return Ok(None) };
        if !self.fill(size).await? {
            return Ok(None);
        }
        self.read.advance(4);
        Ok(Some(self.read.split_to(size - 4).freeze()))
    }

    /// The type and body of the next message; `None` when the client left.
    ///
    /// # Cancel safety
    /// What was read stays.
    pub(crate) async fn message(&mut self) -> Result<Option<(u8, Bytes)>, WireError> {
        let Some(size) = self.size_at(1, MESSAGE_SIZE_BYTES_MAX).await? else { return Ok(None) };
        if !self.fill(1 + size).await? {
            return Ok(None);
        }
        let kind = self.read.get_u8();
        self.read.advance(4);
        let body = self.read.split_to(size - 4).freeze();
        if self.read.is_empty() {
            // A long message must not leave its buffer behind.
            self.read = BytesMut::new();
        }
        Ok(Some((kind, body)))
    }

    /// The length that is written at `offset`.
    async fn size_at(&mut self, offset: usize, max: usize) -> Result<Option<usize>, WireError> {
        if !self.fill(offset + 4).await? {
            return Ok(None);
        }
        let mut length = &self.read[offset..];
        let size = usize::try_from(length.get_i32()).map_err(|_negative| WireError::Malformed)?;
        match size {
            0..4 => Err(WireError::Malformed),
            _ if size > max => Err(WireError::TooLong { size, max }),
            _ => Ok(Some(size)),
        }
    }

    /// Reads until there are `size` bytes; false when the client left.
    async fn fill(&mut self, size: usize) -> Result<bool, WireError> {
        while self.read.len() < size {
            // Grows with what really comes, not with what a length promises.
            self.read.reserve(8 << 10);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Resolves when the client leaves while a query runs.
    ///
    /// # Cancel safety
    /// What was read stays.
    pub(crate) async fn left(&mut self) {
        loop {
            if self.read.len() >= AHEAD_SIZE_BYTES_MAX {
                return std::future::pending().await;
            }
            self.read.reserve(8 << 10);
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Writes a message, and sends what was written when it is much.
    pub(crate) async fn write(&mut self, message: &PgWireBackendMessage) -> Result<(), WireError> {
        message.encode(&mut self.written).map_err(io::Error::from)?;
        self.flush_much().await
    }

    /// Where rows are written that are encoded by whoever has them, before [`Self::flush_much`].
    pub(crate) fn written(&mut self) -> &mut BytesMut {
        &mut self.written
    }

    /// Sends what was written when it is much.
    pub(crate) async fn flush_much(&mut self) -> Result<(), WireError> {
        if self.written.len() >= WRITTEN_SIZE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what was written.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        let Self { stream, written, stall_max, .. } = self;
        while !written.is_empty() {
            let sent = tokio::time::timeout(*stall_max, stream.write(written)).await;
            match sent.map_err(|_elapsed| WireError::Stalled)?? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                count => written.advance(count),
            }
        }
        stream.flush().await?;
        Ok(())
    }

    /// Ends the connection in order.
    pub(crate) async fn close(mut self) {
        let _broken_already = self.flush().await;
        let _broken_already = self.stream.shutdown().await;
    }
}
