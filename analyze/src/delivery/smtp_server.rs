//! An SMTP server (RFC 5321, 3207, 4954) of the tests, on a socket of this machine.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// Directory with the certificate of the tests, for `localhost`.
pub(super) const TLS_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tls");

pub(super) const USER: &str = "reports";
pub(super) const PASSWORD: &str = "correct horse";

/// Where the server speaks up against a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// This greeting, then the connection is closed.
    Greeting(&'static str),
    /// This answer to `RCPT TO` of the address.
    Recipient(&'static str, &'static str),
    /// This answer to the end of `DATA`.
    Data(&'static str),
    /// The connection is closed when `DATA` begins.
    Hangup,
}

/// How the server is set up.
#[derive(Debug, Clone, Default)]
pub(super) struct Setup {
    pub(super) starttls: bool,
    pub(super) tls: bool,
    /// `PLAIN` or `LOGIN`; with it nothing is taken without a login.
    pub(super) auth: Option<&'static str>,
}

/// A mail that was taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    /// With the dots of the transport taken out.
    pub(super) data: Vec<u8>,
    /// Lines that came with a dot doubled.
    pub(super) stuffed_count: usize,
    pub(super) encrypted: bool,
    pub(super) user: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<Vec<Taken>>,
    /// One per session, in order; then the last one for ever.
    faults: Mutex<VecDeque<Fault>>,
    sessions: Mutex<usize>,
}

#[derive(Debug)]
pub(super) struct SmtpServer {
    pub(super) port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SmtpServer {
    pub(super) async fn start(setup: Setup, faults: Vec<Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { faults: Mutex::new(faults.into()), ..Shared::default() });
        let of_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *of_task.sessions.lock().unwrap() += 1;
                let fault = {
                    let mut faults = of_task.faults.lock().unwrap();
                    if faults.len() > 1 { faults.pop_front() } else { faults.front().cloned() }
                };
                // A session ends as the client ends it; what it left is in `taken`.
                let _ended = session(stream, &setup, fault.unwrap_or(Fault::None), &of_task).await;
            }
        });
        Self { port, shared, task }
    }

    pub(super) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub(super) fn session_count(&self) -> usize {
        *self.shared.sessions.lock().unwrap()
    }
}

fn acceptor() -> TlsAcceptor {
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(format!("{TLS_DIR}/cert.pem")).unwrap().flatten().collect();
    let key = PrivateKeyDer::from_pem_file(format!("{TLS_DIR}/key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn session(stream: TcpStream, setup: &Setup, fault: Fault, shared: &Shared) -> std::io::Result<()> {
    if setup.tls {
        let stream = BufReader::new(acceptor().accept(stream).await?);
        return talk(stream, setup, &fault, shared, true, true).await.map(drop);
    }
    let stream = BufReader::new(stream);
    match talk(stream, setup, &fault, shared, false, true).await? {
        // RFC 3207: after the handshake the session begins anew, without a greeting.
        Some(stream) => {
            let stream = BufReader::new(acceptor().accept(stream.into_inner()).await?);
            talk(stream, setup, &fault, shared, true, false).await.map(drop)
        }
        None => Ok(()),
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut BufReader<S>, line: &str) -> std::io::Result<()>
where
    BufReader<S>: AsyncWrite,
{
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await
}

async fn hear<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn decoded(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// The user who logs in with `command`, if name and password are right.
async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    command: &str,
) -> std::io::Result<Option<String>> {
    let (user, password) = if let Some(initial) = command.strip_prefix("AUTH PLAIN ") {
        let text = decoded(initial);
        let mut parts = text.split('\0').skip(1);
        (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
    } else {
        say(stream, &format!("334 {}", STANDARD.encode("Username:"))).await?;
        let user = decoded(&hear(stream).await?);
        say(stream, &format!("334 {}", STANDARD.encode("Password:"))).await?;
        (user, decoded(&hear(stream).await?))
    };
    Ok((user == USER && password == PASSWORD).then_some(user))
}

async fn data<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, taken: &mut Taken) -> std::io::Result<()> {
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(());
        }
        if line.starts_with(b".") {
            taken.stuffed_count += 1;
            line.remove(0);
        }
        taken.data.extend(line);
    }
}

/// Speaks until the client quits; gives the stream back when it has to turn to TLS.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    setup: &Setup,
    fault: &Fault,
    shared: &Shared,
    encrypted: bool,
    greet: bool,
) -> std::io::Result<Option<BufReader<S>>> {
    if let Fault::Greeting(line) = fault {
        say(&mut stream, line).await?;
        return Ok(None);
    }
    if greet {
        say(&mut stream, "220 localhost ESMTP").await?;
    }
    let mut taken = Taken { encrypted, ..Taken::default() };
    loop {
        let command = hear(&mut stream).await?;
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => {
                let mut lines = vec!["localhost".to_owned(), "8BITMIME".into()];
                if setup.starttls && !encrypted {
                    lines.push("STARTTLS".into());
                } else if let Some(mechanism) = setup.auth {
                    lines.push(format!("AUTH {mechanism}"));
                }
                for line in &lines[..lines.len() - 1] {
                    say(&mut stream, &format!("250-{line}")).await?;
                }
                format!("250 {}", lines[lines.len() - 1])
            }
            "STARTTLS" => {
                say(&mut stream, "220 go ahead").await?;
                return Ok(Some(stream));
            }
            "AUTH" => {
                taken.user = login(&mut stream, &command).await?;
                if taken.user.is_some() { "235 welcome" } else { "535 5.7.8 wrong name or password" }.into()
            }
            "MAIL" if setup.auth.is_some() && taken.user.is_none() => "530 5.7.0 log in first".into(),
            "MAIL" => {
                taken.from = command;
                "250 ok".into()
            }
            "RCPT" => match fault {
                Fault::Recipient(address, answer) if command.contains(address) => (*answer).to_owned(),
                _ => {
                    taken.to.push(command);
                    "250 ok".into()
                }
            },
            "DATA" if *fault == Fault::Hangup => return Ok(None),
            "DATA" => {
                say(&mut stream, "354 end with a dot").await?;
                data(&mut stream, &mut taken).await?;
                if let Fault::Data(answer) = fault {
                    (*answer).to_owned()
                } else {
                    shared.taken.lock().unwrap().push(taken.clone());
                    "250 taken".into()
                }
            }
            "QUIT" => {
                say(&mut stream, "221 bye").await?;
                return Ok(None);
            }
            "RSET" | "NOOP" => "250 ok".into(),
            _ => "502 unknown command".into(),
        };
        say(&mut stream, &answer).await?;
    }
}
