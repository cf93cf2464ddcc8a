//! One connection: messages in, answers out, and what it remembers between them.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use datafusion::{common::ScalarValue, prelude::SessionContext};
use futures::Future;
use pgwire::messages::{
    PgWireBackendMessage,
    copy::{CopyDone, CopyOutResponse},
    response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus},
    startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey},
};
use tokio_util::sync::CancellationToken;

use super::{
    Server,
    canceller::{Canceller, Key},
    copy::CopyFormat,
    extended::{Portal, Prepared},
    failure::{Ended, Failure},
    message::{Formats, Message},
    prepared::Planner,
    rows::{Rows, description},
    settings::Settings,
    statement::{Statement, parse},
    wire::{Wire, WireError},
};
use crate::{
    error::{Error, Result},
    question_log::Surface,
    questions::Asked,
};

/// A connection that may ask.
pub(crate) struct Connection {
    pub(super) server: Arc<Server>,
    pub(super) wire: Wire,
    pub(super) ctx: SessionContext,
    pub(super) settings: Arc<Settings>,
    pub(super) user: String,
    pub(super) transaction: TransactionStatus,
    pub(super) statements: HashMap<String, Arc<Prepared>>,
    pub(super) portals: HashMap<String, Portal>,
    canceller: Arc<Canceller>,
    key: Key,
}

/// What a statement comes to.
pub(super) enum Outcome {
    /// Nothing but the word for it.
    Done(String),
    Rows(Rows),
    Copy(Rows, CopyFormat),
}

impl Connection {
    pub(super) fn new(server: &Arc<Server>, wire: Wire, user: String, settings: Settings, peer: SocketAddr) -> Self {
        let (settings, canceller) = (Arc::new(settings), Arc::new(Canceller::default()));
        let key = server.key(&canceller);
        let ctx = server.template.session(&settings, &user, key.pid);
        tracing::debug!(%peer, user, "PostgreSQL client connected");
        Self {
            server: Arc::clone(server),
            wire,
            ctx,
            settings,
            user,
            transaction: TransactionStatus::Idle,
            statements: HashMap::new(),
            portals: HashMap::new(),
            canceller,
            key,
        }
    }

    /// Tells the client that it is in.
    ///
    /// # Errors
    /// A client that is gone.
    pub(super) async fn welcome(mut self) -> std::result::Result<Self, WireError> {
        self.wire.write(&PgWireBackendMessage::Authentication(Authentication::Ok)).await?;
        let mut told = self.settings.reported();
        told.push(("session_authorization", self.user.clone()));
        self.tell(told).await?;
        let key = BackendKeyData::new(self.key.pid, SecretKey::I32(self.key.secret));
        self.wire.write(&PgWireBackendMessage::BackendKeyData(key)).await?;
        self.ready().await?;
        Ok(self)
    }

    /// Tells the client settings.
    pub(super) async fn tell(&mut self, settings: Vec<(&'static str, String)>) -> std::result::Result<(), WireError> {
        for (name, value) in settings {
            let status = ParameterStatus::new(name.to_owned(), value);
            self.wire.write(&PgWireBackendMessage::ParameterStatus(status)).await?;
        }
        Ok(())
    }

    pub(super) async fn ready(&mut self) -> std::result::Result<(), WireError> {
        self.wire.write(&PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(self.transaction))).await?;
        self.wire.flush().await
    }

    /// Answers until the client leaves or `shutdown` resolves.
    pub(crate) async fn serve(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let ended = loop {
            let message = tokio::select! {
                biased;
                () = &mut shutdown => {
                    break Some(Failure::new("57P01", "terminating connection because the server stops"));
                }
                message = tokio::time::timeout(self.server.options.idle_max, self.wire.message()) => message,
            };
            let message = match message {
                Ok(Ok(Some((kind, body)))) => Message::read(kind, body).map_err(|_malformed| kind),
                Ok(Ok(None)) => break None,
                Ok(Err(error)) => break wire_failure(&error),
                Err(_elapsed) => {
                    break Some(Failure::new("57P05", "terminating connection due to idle-session timeout"));
                }
            };
            let answered = match message {
                Ok(Message::Terminate) => break None,
                Ok(message) => self.answer(message).await,
                Err(kind) => {
                    let shown = char::from(kind).escape_default();
                    break Some(Failure::new("08P01", format!("invalid message of type '{shown}'")));
                }
            };
            if let Err(error) = answered {
                break wire_failure(&error);
            }
        };
        if let Some(failure) = ended {
            // The client may be gone already.
            let _told = self.wire.write(&failure.response(true)).await;
        }
        self.wire.close().await;
    }

    async fn answer(&mut self, message: Message) -> std::result::Result<(), WireError> {
        let stop = self.canceller.begin();
        let is_extended = message.is_extended();
        let answered = match message {
            Message::Query(text) => Box::pin(self.simple(&text, &stop)).await,
            other => Box::pin(self.extended(other, &stop)).await,
        };
        self.canceller.end();
        match answered {
            Ok(()) => Ok(()),
            Err(Ended::Broken(error)) => Err(error),
            Err(Ended::Failed(failure)) => {
                self.wire.write(&failure.response(false)).await?;
                if self.transaction == TransactionStatus::Transaction {
                    self.transaction = TransactionStatus::Error;
                }
                if is_extended { self.skip_to_sync().await } else { self.ready().await }
            }
        }
    }

    /// Everything up to the next `Sync` belongs to what failed.
    async fn skip_to_sync(&mut self) -> std::result::Result<(), WireError> {
        self.wire.flush().await?;
        loop {
            let message = tokio::time::timeout(self.server.options.idle_max, self.wire.message()).await;
            let Some((kind, body)) = message.map_err(|_elapsed| WireError::Stalled)?? else {
                return Err(WireError::Left);
            };
            match Message::read(kind, body) {
                Ok(Message::Sync) => return self.sync().await,
                Ok(Message::Terminate) => return Err(WireError::Left),
                Ok(_) => {}
                Err(_malformed) => return Err(WireError::Malformed),
            }
        }
    }

    /// The simple protocol: all statements of a text, one after the other, up to the first that fails.
    async fn simple(&mut self, text: &str, stop: &CancellationToken) -> std::result::Result<(), Ended> {
        let statements = parse(text)?;
        if statements.is_empty() {
            self.wire.write(&PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        }
        for statement in statements {
            let outcome = Box::pin(self.run(statement, vec![], &[], stop)).await?;
            Box::pin(self.send(outcome, &Formats::default(), true, stop)).await?;
        }
        if self.transaction == TransactionStatus::Idle {
            self.portals.clear();
        }
        self.ready().await?;
        Ok(())
    }

    /// Sends all of an outcome.
    pub(super) async fn send(
        &mut self,
        outcome: Outcome,
        formats: &Formats,
        describe: bool,
        stop: &CancellationToken,
    ) -> std::result::Result<(), Ended> {
        let tag = match outcome {
            Outcome::Done(tag) => tag,
            Outcome::Rows(mut rows) => {
                if describe {
                    self.wire.write(&description(&rows.columns, formats)).await?;
                }
                rows.send_rows(&mut self.wire, stop, formats, 0).await?;
                rows.tag()
            }
            Outcome::Copy(mut rows, format) => {
                let columns = i16::try_from(rows.columns.len()).unwrap_or(i16::MAX);
                let response = CopyOutResponse::new(0, columns, vec![0; rows.columns.len()]);
                self.wire.write(&PgWireBackendMessage::CopyOutResponse(response)).await?;
                let names = Arc::clone(&rows.columns);
                if format.header {
                    format.write_header(&names, self.wire.written());
                }
                let write = |columns: &[_], row, out: &mut _| format.write_row(&names, columns, row, out);
                rows.send(&mut self.wire, stop, 0, write).await?;
                self.wire.write(&PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
                rows.tag()
            }
        };
        self.wire.write(&PgWireBackendMessage::CommandComplete(CommandComplete::new(tag))).await?;
        Ok(())
    }

    /// Runs a query, with `values` for its parameters.
    pub(super) async fn query(
        &mut self,
        statement: &Statement,
        values: Vec<ScalarValue>,
        declared: &[u32],
        tag: &'static str,
        stop: &CancellationToken,
    ) -> std::result::Result<Rows, Ended> {
        let asked = Asked {
            surface: Surface::Postgres,
            user: Some(self.user.clone()),
            text: &statement.text,
            timeout: self.settings.statement_timeout(),
            stop: stop.clone(),
        };
        let (ctx, search_path) = (self.ctx.clone(), self.schemas());
        let planner = Planner { ctx: &ctx, rewriter: &self.server.rewriter, search_path: &search_path };
        let questions = &self.server.questions;
        let work = async {
            let question = questions.ask(asked).await?;
            let mut columns = None;
            let begin = async {
                let planned = Box::pin(planner.plan(statement, declared)).await?;
                columns = Some(Arc::clone(&planned.columns));
                Box::pin(planned.start(&ctx, values)).await
            };
            let answer = question.answer(Box::pin(begin)).await?;
            Ok::<_, Error>((columns.unwrap_or_default(), answer))
        };
        let (columns, answer) = unless_stopped(&mut self.wire, stop, Box::pin(work)).await?;
        Ok(Rows::of_query(columns, answer, tag))
    }

    /// The search path with the user's own name in it.
    pub(super) fn schemas(&self) -> Vec<String> {
        let path = self.settings.search_path().into_iter();
        path.map(|name| if name == "$user" { self.user.clone() } else { name }).collect()
    }
}

/// `work`, unless the client cancels it or leaves.
pub(super) async fn unless_stopped<T>(
    wire: &mut Wire,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> std::result::Result<T, Ended> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::Cancelled.into()),
        done = work => Ok(done?),
        () = wire.left() => Err(WireError::Left.into()),
    }
}

/// What a client is told when the connection cannot go on; nothing if it is gone.
fn wire_failure(error: &WireError) -> Option<Failure> {
    let code = match error {
        WireError::Broken(_) | WireError::Stalled | WireError::Left => return None,
        WireError::TooLong { .. } => "54000",
        WireError::Malformed => "08P01",
    };
    Some(Failure::new(code, error.to_string()))
}
