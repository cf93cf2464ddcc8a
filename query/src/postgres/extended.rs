//! The extended protocol: prepared statements and portals.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use pgwire::messages::{
    PgWireBackendMessage,
    data::{NoData, ParameterDescription},
    extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended},
    response::{CommandComplete, EmptyQueryResponse, TransactionStatus},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connection, Outcome, unless_stopped},
    failure::{Ended, Failure},
    message::{Bind, Formats, Message, Target},
    parameters,
    prepared::{OutputColumn, Planner},
    rows::{Rows, description},
    statement::{Statement, parse},
    types::PgType,
    wire::{MESSAGE_SIZE_BYTES_MAX, WireError},
};

/// Prepared statements and portals of one connection.
const PREPARED_COUNT_MAX: usize = 1000;
/// Bytes that one connection holds in prepared statements and in the values of portals.
const HELD_SIZE_BYTES_MAX: usize = MESSAGE_SIZE_BYTES_MAX;

/// A prepared statement. Its text is kept, not its plan: what is there when it is executed may differ.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) text: Arc<str>,
    pub(super) parameters: Vec<PgType>,
    /// What the client is told of them.
    parameter_oids: Vec<u32>,
    /// `None` for what gives no rows.
    pub(super) columns: Option<Arc<[OutputColumn]>>,
}

/// A prepared statement with its values.
#[derive(Debug)]
pub(crate) struct Portal {
    prepared: Arc<Prepared>,
    values: Vec<ScalarValue>,
    formats: Formats,
    state: State,
}

impl Prepared {
    fn size_bytes(&self) -> usize {
        let names: usize = self.columns.iter().flat_map(|columns| columns.iter()).map(|column| column.name.len()).sum();
        let columns = self.columns.as_ref().map_or(0, |columns| size_of_val(&**columns));
        let parameters = size_of_val(self.parameters.as_slice()) + size_of_val(self.parameter_oids.as_slice());
        self.text.len() + parameters + columns + names
    }
}

impl Portal {
    fn size_bytes(&self) -> usize {
        ScalarValue::size_of_vec(&self.values)
    }
}

#[derive(Debug)]
enum State {
    Ready,
    Running(Rows),
    Done,
}

impl Connection {
    pub(super) async fn extended(&mut self, message: Message, stop: &CancellationToken) -> Result<(), Ended> {
        match message {
            Message::Parse { name, query, types } => self.parse(name, &query, types, stop).await,
            Message::Bind(bind) => self.bind(bind).await,
            Message::Describe(target) => self.describe(&target).await,
            Message::Execute { portal, rows_max } => self.execute(&portal, rows_max, stop).await,
            Message::Close(target) => self.close(&target).await,
            Message::Sync => Ok(self.sync().await?),
            Message::Flush => Ok(self.wire.flush().await?),
            Message::Copy => Err(Failure::new("08P01", "no COPY FROM STDIN is going on").into()),
            Message::Password(_) => Err(Failure::new("08P01", "no password was asked for").into()),
            // Taken before it comes here.
            Message::Query(_) | Message::Terminate => Ok(()),
        }
    }

    async fn parse(
        &mut self,
        name: String,
        query: &str,
        declared: Vec<u32>,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        if name.is_empty() {
            // The one without a name is replaced, also by one that cannot be planned.
            self.statements.remove("");
        }
        let prepared = self.prepare(query, declared, stop).await?;
        self.keep(name, prepared)?;
        self.wire.write(&PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    /// Plans a statement to find the types of its parameters and columns.
    pub(super) async fn prepare(
        &mut self,
        text: &str,
        declared: Vec<u32>,
        stop: &CancellationToken,
    ) -> Result<Prepared, Ended> {
        let statements = parse(text)?;
        let (parameters, columns) = match statements.as_slice() {
            [] => (vec![], None),
            [statement] => {
                self.check_transaction(&statement.ast)?;
                self.describe_statement(statement, &declared, stop).await?
            }
            _ => return Err(Failure::new("42601", "cannot insert multiple commands into a prepared statement").into()),
        };
        let parameter_oids = parameters::oids(&parameters, &declared);
        Ok(Prepared { text: text.into(), parameters, parameter_oids, columns })
    }

    /// The types of the parameters and columns of a statement.
    async fn describe_statement(
        &mut self,
        statement: &Statement,
        declared: &[u32],
        stop: &CancellationToken,
    ) -> Result<(Vec<PgType>, Option<Arc<[OutputColumn]>>), Ended> {
        if let Some(columns) = self.own_columns(&statement.ast)? {
            return Ok((vec![], columns));
        }
        let (ctx, search_path) = (self.ctx.clone(), self.schemas());
        let planner = Planner { ctx: &ctx, rewriter: &self.server.rewriter, search_path: &search_path };
        let planned = unless_stopped(&mut self.wire, stop, Box::pin(planner.plan(statement, declared))).await?;
        Ok((planned.parameters, Some(planned.columns)))
    }

    /// Keeps a prepared statement under a name that is free.
    pub(super) fn keep(&mut self, name: String, prepared: Prepared) -> Result<(), Failure> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Failure::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        if self.statements.len() >= PREPARED_COUNT_MAX || !self.has_room(prepared.size_bytes()) {
            return Err(Failure::new("54000", "this connection has too many prepared statements; close some"));
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// Whether `size_bytes` more may be held.
    fn has_room(&self, size_bytes: usize) -> bool {
        let statements: usize = self.statements.values().map(|prepared| prepared.size_bytes()).sum();
        let portals: usize = self.portals.values().map(Portal::size_bytes).sum();
        statements + portals + size_bytes <= HELD_SIZE_BYTES_MAX
    }

    pub(super) fn prepared(&self, name: &str) -> Result<Arc<Prepared>, Failure> {
        let found = self.statements.get(name).map(Arc::clone);
        found.ok_or_else(|| Failure::new("26000", format!("prepared statement \"{name}\" does not exist")))
    }

    async fn bind(&mut self, bind: Bind) -> Result<(), Ended> {
        let prepared = self.prepared(&bind.statement)?;
        let (given, needed) = (bind.values.len(), prepared.parameters.len());
        if given != needed {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement \"{}\" requires {needed}",
                bind.statement
            );
            return Err(Failure::new("08P01", message).into());
        }
        let columns = prepared.columns.as_ref().map_or(0, |columns| columns.len());
        if !bind.formats.fits(given) || !bind.result_formats.fits(columns) {
            return Err(Failure::new("08P01", "bind message has another number of formats than of values").into());
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(Failure::new("42P03", format!("cursor \"{}\" already exists", bind.portal)).into());
        }
        if bind.portal.is_empty() {
            // The one without a name is replaced.
            self.portals.remove("");
        }
        let full = || Failure::new("54000", "this connection has too many portals, or too large values; close some");
        if self.portals.len() >= PREPARED_COUNT_MAX {
            return Err(full().into());
        }
        let values = prepared.parameters.iter().zip(&bind.values).enumerate().map(|(index, (pg_type, bytes))| {
            parameters::value(index + 1, *pg_type, bind.formats.is_binary(index), bytes.as_ref())
        });
        let values = values.collect::<Result<_, _>>()?;
        let portal = Portal { prepared, values, formats: bind.result_formats, state: State::Ready };
        if !self.has_room(portal.size_bytes()) {
            return Err(full().into());
        }
        self.portals.insert(bind.portal, portal);
        self.wire.write(&PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn describe(&mut self, target: &Target) -> Result<(), Ended> {
        let (prepared, formats) = match target {
            Target::Statement(name) => {
                let prepared = self.prepared(name)?;
                let parameters = ParameterDescription::new(prepared.parameter_oids.clone());
                self.wire.write(&PgWireBackendMessage::ParameterDescription(parameters)).await?;
                (prepared, Formats::default())
            }
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (Arc::clone(&portal.prepared), portal.formats.clone())
            }
        };
        let message = match &prepared.columns {
            Some(columns) => description(columns, &formats),
            None => PgWireBackendMessage::NoData(NoData::new()),
        };
        Ok(self.wire.write(&message).await?)
    }

    async fn execute(&mut self, name: &str, rows_max: usize, stop: &CancellationToken) -> Result<(), Ended> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        if matches!(portal.state, State::Ready) {
            let statements = parse(&portal.prepared.text)?;
            let Some(statement) = statements.into_iter().next() else {
                self.wire.write(&PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                self.portals.insert(name.to_owned(), portal);
                return Ok(());
            };
            let values = std::mem::take(&mut portal.values);
            let declared: Vec<u32> = portal.prepared.parameters.iter().map(|pg_type| pg_type.oid()).collect();
            match Box::pin(self.run(statement, values, &declared, stop)).await? {
                Outcome::Rows(mut rows) => {
                    if let Some(columns) = &portal.prepared.columns {
                        if columns.len() != rows.columns.len() {
                            return Err(Failure::new("0A000", "cached plan must not change result type").into());
                        }
                        // What was described is what is sent.
                        rows.columns = Arc::clone(columns);
                    }
                    portal.state = State::Running(rows);
                }
                other => {
                    Box::pin(self.send(other, &portal.formats, false, stop)).await?;
                    portal.state = State::Done;
                    // A statement that ends the transaction ends its portals.
                    self.portals.insert(name.to_owned(), portal);
                    return Ok(());
                }
            }
        }
        if let State::Running(rows) = &mut portal.state {
            if rows.send_rows(&mut self.wire, stop, &portal.formats, rows_max).await? {
                let tag = CommandComplete::new(rows.tag());
                self.wire.write(&PgWireBackendMessage::CommandComplete(tag)).await?;
                portal.state = State::Done;
            } else {
                self.wire.write(&PgWireBackendMessage::PortalSuspended(PortalSuspended::new())).await?;
            }
        } else {
            let tag = CommandComplete::new("SELECT 0".to_owned());
            self.wire.write(&PgWireBackendMessage::CommandComplete(tag)).await?;
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    async fn close(&mut self, target: &Target) -> Result<(), Ended> {
        match target {
            Target::Statement(name) => drop(self.statements.remove(name)),
            Target::Portal(name) => drop(self.portals.remove(name)),
        }
        Ok(self.wire.write(&PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?)
    }

    /// Outside of a transaction block, portals end with the statements of one `Sync`.
    pub(super) async fn sync(&mut self) -> Result<(), WireError> {
        if self.transaction == TransactionStatus::Idle {
            self.portals.clear();
        }
        self.ready().await
    }
}

fn no_portal(name: &str) -> Failure {
    Failure::new("34000", format!("portal \"{name}\" does not exist"))
}
