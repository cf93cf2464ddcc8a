//! A statement with the values of its parameters: what a ticket says.

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{Command, TicketStatementQuery};
use bytes::{BufMut, Bytes, BytesMut};
use datafusion::{execution::SendableRecordBatchStream, logical_expr::LogicalPlan, prelude::SessionContext};
use tonic::Status;
use uuid::Uuid;

use super::{parameters, sent_schema, status};
use crate::{
    error::{Error, Result},
    run,
};

/// Bytes of the id and of the length of the text, which come first in a handle.
const HEAD_SIZE_BYTES: usize = 20;

/// One execution of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Of this execution, to cancel it by.
    pub(super) id: Uuid,
    pub(super) sql: String,
    /// A batch of one row as an IPC stream; empty without parameters.
    values: Bytes,
}

impl Statement {
    /// A new execution of `sql`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the text is too long.
    pub(super) fn new(sql: String, values: Bytes) -> Result<Self, Status> {
        if sql.len() > run::QUERY_SIZE_BYTES_MAX {
            let limit = run::QUERY_SIZE_BYTES_MAX;
            return Err(Status::invalid_argument(format!("the statement is longer than {limit} bytes")));
        }
        Ok(Self { id: Uuid::new_v4(), sql, values })
    }

    /// The ticket that gets its rows.
    pub(super) fn ticket(&self) -> Command {
        let mut handle = BytesMut::with_capacity(HEAD_SIZE_BYTES + self.sql.len() + self.values.len());
        handle.put_slice(self.id.as_bytes());
        // The text is at most 1 MiB.
        handle.put_u32(u32::try_from(self.sql.len()).unwrap_or(u32::MAX));
        handle.put_slice(self.sql.as_bytes());
        handle.put_slice(&self.values);
        Command::TicketStatementQuery(TicketStatementQuery { statement_handle: handle.freeze() })
    }

    /// The statement in the handle of a ticket.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if this server made no such ticket.
    pub(super) fn of_ticket(ticket: &TicketStatementQuery) -> Result<Self, Status> {
        Self::read(&ticket.statement_handle).ok_or_else(|| Status::invalid_argument("no ticket of this server"))
    }

    fn read(handle: &Bytes) -> Option<Self> {
        let (id, rest) = handle.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (sql, values) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let sql = String::from_utf8(sql.to_vec()).ok()?;
        Some(Self { id: Uuid::from_bytes(*id), sql, values: handle.slice_ref(values) })
    }

    /// What its rows look like when they are sent.
    ///
    /// # Errors
    /// As the statement cannot be planned.
    pub(super) async fn schema(&self, ctx: &SessionContext) -> Result<SchemaRef> {
        // The optimizer learns of columns that are never null, and that some may be: only the plan that runs says what is sent.
        let plan = self.plan(ctx).await?;
        let plan = ctx.state().create_physical_plan(&plan).await.map_err(|error| Error::of(&self.sql, error))?;
        Ok(sent_schema(plan.schema()))
    }

    /// Plans and starts it.
    ///
    /// # Errors
    /// As the statement cannot be planned.
    pub(super) async fn start(&self, ctx: &SessionContext) -> Result<SendableRecordBatchStream> {
        run::execute(ctx, &self.sql, self.plan(ctx).await?).await
    }

    async fn plan(&self, ctx: &SessionContext) -> Result<LogicalPlan> {
        let plan = run::plan(ctx, &self.sql).await?;
        if self.values.is_empty() {
            return Ok(plan);
        }
        let values = parameters::read(&self.values).map_err(|error| Error::invalid(error.to_string()))?;
        parameters::bind(plan, &values).map_err(|error| Error::of(&self.sql, error))
    }
}

/// A status for what a statement failed with.
pub(super) fn failed<T>(done: Result<T>) -> Result<T, Status> {
    done.map_err(|error| status(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(statement: &Statement) -> TicketStatementQuery {
        match statement.ticket() {
            Command::TicketStatementQuery(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_ticket_says_the_statement_and_its_values() {
        for (sql, values) in [("SELECT 1", &b""[..]), ("SELECT '°' || $1", b"values"), ("", b"")] {
            let statement = Statement::new(sql.into(), Bytes::from_static(values)).unwrap();
            assert_eq!(Statement::of_ticket(&handle(&statement)).unwrap(), statement);
        }
        assert!(Statement::new("x".repeat(run::QUERY_SIZE_BYTES_MAX + 1), Bytes::new()).is_err());
    }

    #[test]
    fn a_cut_or_foreign_ticket_is_refused() {
        let whole = handle(&Statement::new("SELECT 1".into(), Bytes::new()).unwrap()).statement_handle;
        for length in 0..whole.len() {
            let ticket = TicketStatementQuery { statement_handle: whole.slice(..length) };
            assert!(Statement::of_ticket(&ticket).is_err(), "{length}");
        }
        let ticket = TicketStatementQuery { statement_handle: Bytes::from_static(&[0xff; 64]) };
        assert!(Statement::of_ticket(&ticket).is_err());
    }
}
