//! From an accepted socket to a connection that may ask: encryption, who it is, what it sets.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use pgwire::{
    messages::{
        PgWireBackendMessage,
        response::{GssEncResponse, SslResponse},
        startup::{Authentication, NegotiateProtocolVersion},
    },
    tokio::tokio_rustls::TlsAcceptor,
};
use tokio::net::TcpStream;

use super::{
    Server,
    connection::Connection,
    failure::{Ended, Failure},
    message::{FirstMessage, Message, text},
    scram::{Exchange, Verifier},
    settings::Settings,
    wire::{STALL_MAX, UNKNOWN_SIZE_BYTES_MAX, Wire, WireError},
};
use crate::tls::Stream;

/// Version 3.0 of the protocol, as it is named to a client that asks for a later one.
const PROTOCOL_VERSION: i32 = 3 << 16;

/// What the client says first about itself.
struct Hello {
    user: String,
    parameters: Vec<(String, String)>,
}

/// Lets the client of `stream` in; `None` if it wants nothing more.
///
/// # Errors
/// Whatever keeps it out, which it has been told.
pub(crate) async fn connect(
    server: &Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    is_full: bool,
) -> Result<Option<Connection>, WireError> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(Stream::Left(stream), STALL_MAX);
    let hello = match greet(server, &mut wire, is_full).await {
        Ok(Some(Greeted::Encrypt(acceptor))) => {
            wire = encrypt(wire, &acceptor).await?;
            greet(server, &mut wire, is_full).await
        }
        other => other,
    };
    let entered = match hello {
        Ok(None) => return Ok(None),
        Ok(Some(Greeted::Encrypt(_))) => return Err(WireError::Malformed),
        Ok(Some(Greeted::Hello(hello))) => enter(server, &mut wire, hello).await,
        Err(ended) => Err(ended),
    };
    match entered {
        Ok((user, settings)) => {
            let connection = Connection::new(server, wire, user, settings, peer);
            Ok(Some(connection.welcome().await?))
        }
        Err(Ended::Failed(failure)) => {
            wire.write(&failure.response(true)).await?;
            wire.close().await;
            Ok(None)
        }
        Err(Ended::Broken(error)) => Err(error),
    }
}

enum Greeted {
    Encrypt(TlsAcceptor),
    Hello(Hello),
}

async fn encrypt(wire: Wire, acceptor: &TlsAcceptor) -> Result<Wire, WireError> {
    let Stream::Left(stream) = wire.into_stream()? else { return Err(WireError::Malformed) };
    let encrypted = acceptor.accept(stream).await?;
    Ok(Wire::new(Stream::Right(Box::new(encrypted)), STALL_MAX))
}

/// Reads first messages until one says what the client wants.
async fn greet(server: &Server, wire: &mut Wire, is_full: bool) -> Result<Option<Greeted>, Ended> {
    loop {
        let Some(body) = wire.first().await? else { return Ok(None) };
        match FirstMessage::read(body).map_err(|_malformed| WireError::Malformed)? {
            FirstMessage::Ssl => match &server.options.tls {
                Some(tls) => {
                    wire.write(&PgWireBackendMessage::SslResponse(SslResponse::Accept)).await?;
                    wire.flush().await?;
                    return Ok(Some(Greeted::Encrypt(tls.clone())));
                }
                None => wire.write(&PgWireBackendMessage::SslResponse(SslResponse::Refuse)).await?,
            },
            FirstMessage::GssEncryption => {
                wire.write(&PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse)).await?;
            }
            FirstMessage::Cancel { pid, secret } => {
                server.keys.cancel(pid, secret);
                return Ok(None);
            }
            FirstMessage::UnknownVersion(major) => {
                let message = format!("unsupported frontend protocol {major}.0: server supports 3.0");
                return Err(Failure::new("0A000", message).into());
            }
            FirstMessage::Startup { .. } if is_full => {
                let message = format!(
                    "sorry, too many clients already: {} connections are open (query.connections_max)",
                    server.options.connections_max
                );
                return Err(Failure::new("53300", message).into());
            }
            FirstMessage::Startup { minor, parameters } => {
                negotiate(wire, minor, &parameters).await?;
                let user = parameters.iter().find(|(name, _)| name == "user").map(|(_, user)| user.clone());
                let user = user.filter(|user| !user.is_empty());
                let user =
                    user.ok_or_else(|| Failure::new("28000", "no PostgreSQL user name specified in startup packet"))?;
                return Ok(Some(Greeted::Hello(Hello { user, parameters })));
            }
        }
        wire.flush().await?;
    }
}

/// Tells a client that asks for more than version 3.0 what it gets.
async fn negotiate(wire: &mut Wire, minor: u16, parameters: &[(String, String)]) -> Result<(), WireError> {
    let options = parameters.iter().map(|(name, _)| name).filter(|name| name.starts_with("_pq_.")).cloned();
    let options: Vec<String> = options.collect();
    if minor > 0 || !options.is_empty() {
        let version = NegotiateProtocolVersion::new(PROTOCOL_VERSION, options);
        wire.write(&PgWireBackendMessage::NegotiateProtocolVersion(version)).await?;
    }
    Ok(())
}

/// Asks for the password, and takes the settings that came with the greeting.
async fn enter(server: &Server, wire: &mut Wire, hello: Hello) -> Result<(String, Settings), Ended> {
    let Hello { user, parameters } = hello;
    if !server.options.users.is_empty() {
        authenticate(server, wire, &user).await?;
    }
    let settings = Settings::default();
    for (name, value) in &parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => set_options(&settings, value)?,
            name if name.starts_with("_pq_.") => {}
            name => drop(settings.set(name, value)?),
        }
    }
    settings.start();
    Ok((user, settings))
}

/// `-c name=value` and `--name=value`, where a backslash keeps a space.
fn set_options(settings: &Settings, text: &str) -> Result<(), Failure> {
    let spaced = text.replace("\\ ", "\u{1}");
    let mut words = spaced.split_whitespace();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(pair) => pair,
            None => return Err(Failure::new("42601", format!("invalid command-line argument: {word}"))),
        };
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        settings.set(&name.replace('-', "_"), &value.replace('\u{1}', " "))?;
    }
    Ok(())
}

async fn authenticate(server: &Server, wire: &mut Wire, user: &str) -> Result<(), Ended> {
    let refused = || Failure::new("28P01", format!("password authentication failed for user \"{user}\""));
    let authentication = |what| PgWireBackendMessage::Authentication(what);
    wire.write(&authentication(Authentication::SASL(vec![Exchange::METHOD.to_owned()]))).await?;
    wire.flush().await?;
    let known = server.options.users.get(user).cloned();
    let verifier = known.clone().unwrap_or_else(|| Verifier::of_nobody(user, &server.secret));
    let mut first = password(wire).await?;
    let method = text(&mut first).map_err(|_malformed| WireError::Malformed)?;
    if method != Exchange::METHOD || first.len() < 4 {
        return Err(Failure::new("28000", format!("only {} is offered for passwords", Exchange::METHOD)).into());
    }
    // The length before it says no more than that of the message.
    let exchange = Exchange::begin(verifier, &first[4..]).ok_or_else(refused)?;
    wire.write(&authentication(Authentication::SASLContinue(exchange.server_first().to_owned().into()))).await?;
    wire.flush().await?;
    let last = password(wire).await?;
    let answer = exchange.end(&last).filter(|_| known.is_some()).ok_or_else(refused)?;
    wire.write(&authentication(Authentication::SASLFinal(answer.into()))).await?;
    Ok(())
}

async fn password(wire: &mut Wire) -> Result<Bytes, Ended> {
    let Some((kind, body)) = wire.message_within(UNKNOWN_SIZE_BYTES_MAX).await? else {
        return Err(WireError::Left.into());
    };
    match Message::read(kind, body) {
        Ok(Message::Password(bytes)) => Ok(bytes),
        _ => Err(Failure::new("08P01", "expected an answer to the request for a password").into()),
    }
}
