//! Connections of clients, with or without TLS, as many as the settings let in.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream as Items, stream};
use pgwire::tokio::tokio_rustls::TlsAcceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Sleep,
};
use tonic::transport::server::Connected;

use crate::tls::{Stream, Tls};

/// Time for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes at once; further clients wait in the queue of the operating system.
const HANDSHAKES_MAX: usize = 512;
/// Connections beyond the limit that are being told so; further ones are closed at once.
const REFUSALS_MAX: usize = 64;
/// Time to be told so.
const REFUSAL_MAX: Duration = Duration::from_secs(5);
/// Pause after the operating system gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client's connection.
pub(super) struct Connection {
    stream: Stream,
    /// Held as long as the connection lives.
    _place: OwnedSemaphorePermit,
    /// When one beyond the limit is closed.
    refused: Option<Pin<Box<Sleep>>>,
}

/// What requests know of their connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    /// There are too many connections already.
    pub(super) is_full: bool,
}

/// The connections of `listener`, without end. A client that is slow with its handshake holds up nobody else.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<Tls>,
    connections_max: usize,
) -> impl Items<Item = Result<Connection, io::Error>> + Send {
    let acceptor = tls.map(|tls| tls.acceptor(b"h2"));
    let (places, refusals) = (Arc::new(Semaphore::new(connections_max)), Arc::new(Semaphore::new(REFUSALS_MAX)));
    let incoming = Incoming { listener, acceptor, places, refusals, handshakes: JoinSet::new() };
    stream::unfold(incoming, async |mut incoming| Some((Ok(incoming.next().await), incoming)))
}

struct Incoming {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    /// Of connections that may ask.
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    handshakes: JoinSet<Option<Connection>>,
}

impl Incoming {
    async fn next(&mut self) -> Connection {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES_MAX => accepted,
                Some(shaken) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = shaken {
                        return connection;
                    }
                    continue;
                }
            };
            let stream = match accepted {
                Ok((stream, _peer)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no Flight SQL connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a Flight SQL client left at once");
            }
            // Too many even to be told.
            let Some((place, is_full)) = self.place() else { continue };
            let Some(acceptor) = self.acceptor.clone() else {
                return Connection::new(Stream::Left(stream), place, is_full);
            };
            self.handshakes.spawn(shake(acceptor, stream, place, is_full));
        }
    }

    /// A place for a connection, and whether it is only to be refused.
    fn place(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        let of = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        of(&self.places).map(|place| (place, false)).or_else(|| of(&self.refusals).map(|place| (place, true)))
    }
}

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    is_full: bool,
) -> Option<Connection> {
    let shaken = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await.ok()?;
    let shaken = shaken.inspect_err(|error| tracing::debug!(%error, "TLS handshake of a Flight SQL client failed"));
    shaken.ok().map(|stream| Connection::new(Stream::Right(Box::new(stream)), place, is_full))
}

impl Connection {
    fn new(stream: Stream, place: OwnedSemaphorePermit, is_full: bool) -> Self {
        let refused = is_full.then(|| Box::pin(tokio::time::sleep(REFUSAL_MAX)));
        Self { stream, _place: place, refused }
    }
}

impl Connected for Connection {
    type ConnectInfo = Admission;

    fn connect_info(&self) -> Self::ConnectInfo {
        Admission { is_full: self.refused.is_some() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), io::Error>> {
        if let Some(refused) = &mut self.refused
            && refused.as_mut().poll(cx).is_ready()
        {
            // As if the client had closed it.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
