//! The bytes of one connection: messages in, messages out, both bounded.

use std::{io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::tls::Stream;

/// A message longer than this ends the connection.
pub(crate) const MESSAGE_SIZE_BYTES_MAX: usize = 16 << 20;
/// Before the client has shown who it is, a message longer than this ends the connection.
pub(crate) const UNKNOWN_SIZE_BYTES_MAX: usize = 64 << 10;
/// A start-up message longer than this ends the connection.
const FIRST_SIZE_BYTES_MAX: usize = 10_000;
/// What was written goes to the client once it is this much.
const WRITTEN_SIZE_BYTES: usize = 64 << 10;
/// Time the client may take to read what was written; what it asked meanwhile has met its own limit by then.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(60);
/// Time for the end of a connection.
const CLOSE_MAX: Duration = Duration::from_secs(5);
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
pub(crate) struct Wire<S = Stream> {
    stream: S,
    read: BytesMut,
    written: BytesMut,
    /// Time the client may take to read what was written.
    stall_max: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, stall_max: Duration) -> Self {
        Self { stream, read: BytesMut::new(), written: BytesMut::new(), stall_max }
    }

    /// The stream, to be wrapped; fails if bytes were read that belong to what comes after.
    pub(crate) fn into_stream(self) -> Result<S, WireError> {
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
        self.message_within(MESSAGE_SIZE_BYTES_MAX).await
    }

    /// The same, of at most `size_max` bytes.
    ///
    /// # Cancel safety
    /// What was read stays.
    pub(crate) async fn message_within(&mut self, size_max: usize) -> Result<Option<(u8, Bytes)>, WireError> {
        let Some(size) = self.size_at(1, size_max).await? else { return Ok(None) };
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
        // What is encrypted waits in there until the client reads.
        let sent = tokio::time::timeout(*stall_max, stream.flush()).await;
        Ok(sent.map_err(|_elapsed| WireError::Stalled)??)
    }

    /// Ends the connection in order.
    pub(crate) async fn close(mut self) {
        let limit = CLOSE_MAX.min(self.stall_max);
        let end = async {
            let _broken_already = self.flush().await;
            let _broken_already = self.stream.shutdown().await;
        };
        let _client_does_not_read = tokio::time::timeout(limit, end).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::ReadBuf;

    use super::*;

    /// As an encrypted stream whose client does not read: it takes what is written, and never gets rid of it.
    struct Unread;

    impl AsyncRead for Unread {
        fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Unread {
        fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let mut wire = Wire::new(Unread, Duration::from_millis(10));
        wire.written().extend_from_slice(b"rows");
        let long = Duration::from_secs(10);
        let sent = tokio::time::timeout(long, wire.flush()).await.expect("it waits for ever");
        assert!(matches!(sent, Err(WireError::Stalled)), "{sent:?}");
        tokio::time::timeout(long, wire.close()).await.expect("its end waits for ever");
    }

    #[tokio::test]
    async fn a_message_beyond_its_limit_is_refused_before_it_is_read() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut wire = Wire::new(server, Duration::from_secs(1));
        client.write_all(b"p\0\x01\0\x01").await.unwrap();
        let read = wire.message_within(UNKNOWN_SIZE_BYTES_MAX).await;
        assert!(matches!(read, Err(WireError::TooLong { size: 65_537, max: 65_536 })), "{read:?}");
    }
}
