//! Connections of clients, with or without TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use pgwire::tokio::tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tonic::transport::server::Connected;

use crate::tls::Tls;

/// Time for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes at once; further clients wait in the queue of the operating system.
const HANDSHAKES_MAX: usize = 512;
/// Pause after the operating system gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client's connection.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The connections of `listener`, without end. A client that is slow with its handshake holds up nobody else.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<Tls>,
) -> impl Stream<Item = Result<Connection, io::Error>> + Send {
    let acceptor = tls.map(|tls| tls.acceptor(b"h2"));
    let incoming = Incoming { listener, acceptor, handshakes: JoinSet::new() };
    stream::unfold(incoming, async |mut incoming| Some((Ok(incoming.next().await), incoming)))
}

struct Incoming {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    handshakes: JoinSet<Option<TlsStream<TcpStream>>>,
}

impl Incoming {
    async fn next(&mut self) -> Connection {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES_MAX => accepted,
                Some(shaken) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = shaken {
                        return Connection::Tls(Box::new(stream));
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
            let Some(acceptor) = self.acceptor.clone() else { return Connection::Plain(stream) };
            self.handshakes.spawn(async move {
                let shaken = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await.ok()?;
                shaken.inspect_err(|error| tracing::debug!(%error, "TLS handshake of a Flight SQL client failed")).ok()
            });
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<(), io::Error>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, io::Error>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
