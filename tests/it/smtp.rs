//! A small SMTP server (RFC 5321) on a socket of this machine, without TLS and login; `analyze` tests those.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A mail that was taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    pub(crate) to: Vec<String>,
    /// With the dots of the transport taken out.
    pub(crate) data: String,
}

#[derive(Debug)]
pub(crate) struct SmtpServer {
    pub(crate) port: u16,
    taken: Arc<Mutex<Vec<Taken>>>,
    refusals_left: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SmtpServer {
    /// A server that answers "later" to the first `refusal_count` mails.
    pub(crate) async fn start(refusal_count: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (taken, refusals_left) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(refusal_count)));
        let (takes, refuses) = (Arc::clone(&taken), Arc::clone(&refusals_left));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A session ends as the client ends it; what it left is in `taken`.
                let _ended = session(stream, &takes, &refuses).await;
            }
        });
        Self { port, taken, refusals_left, task }
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// Whether every mail that was to be refused was.
    pub(crate) fn has_refused(&self) -> bool {
        *self.refusals_left.lock().unwrap() == 0
    }
}

async fn session(stream: TcpStream, taken: &Mutex<Vec<Taken>>, refusals_left: &Mutex<usize>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 localhost ESMTP\r\n").await?;
    let mut mail = Taken::default();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end();
        let answer = match command.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => "250 localhost",
            "RCPT" => {
                mail.to.push(command.to_owned());
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 end with a dot\r\n").await?;
                mail.data = data(&mut stream).await?;
                let is_refused = {
                    let mut left = refusals_left.lock().unwrap();
                    let is_refused = *left > 0;
                    *left = left.saturating_sub(1);
                    is_refused
                };
                if is_refused {
                    "451 4.3.0 later"
                } else {
                    taken.lock().unwrap().push(std::mem::take(&mut mail));
                    "250 taken"
                }
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n").await,
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

async fn data(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(data);
        }
        data += line.strip_prefix('.').unwrap_or(&line);
    }
}
