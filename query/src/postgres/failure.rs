//! Errors as PostgreSQL's clients tell them apart: by SQLSTATE.
//!
//! Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use pgwire::messages::{PgWireBackendMessage, response::ErrorResponse};

use super::wire::WireError;
use crate::error::{Error, Fault};

/// What a statement failed of.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The 1-based character of the statement.
    pub(crate) position: Option<usize>,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), position: None }
    }

    /// Something that PostgreSQL has and this server has not.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }

    /// The message for the client; a fatal one ends the connection.
    pub(crate) fn response(&self, fatal: bool) -> PgWireBackendMessage {
        let severity = if fatal { "FATAL" } else { "ERROR" };
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.code.to_owned()),
            (b'M', self.message.clone()),
        ];
        fields.extend(self.position.map(|position| (b'P', position.to_string())));
        PgWireBackendMessage::ErrorResponse(ErrorResponse::new(fields))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, position) = match &error {
            Error::Denied(_) => ("25006", None),
            Error::Invalid { position, fault, .. } => (code(*fault), *position),
            Error::Timeout { .. } | Error::Cancelled => ("57014", None),
            Error::Busy { .. } | Error::UserBusy { .. } => ("53000", None),
            Error::UserRows { .. } | Error::UserBytes { .. } => ("53400", None),
            Error::Memory(_) => ("53200", None),
            _ => ("XX000", None),
        };
        if code == "XX000" {
            tracing::error!(%error, "query failed");
        }
        let message = match error {
            // The words that clients know.
            Error::Timeout { timeout } => format!("canceling statement due to statement timeout ({timeout:?})"),
            Error::Cancelled => "canceling statement due to user request".to_owned(),
            other => other.to_string(),
        };
        Self { code, message, position }
    }
}

fn code(fault: Fault) -> &'static str {
    match fault {
        Fault::Syntax => "42601",
        Fault::TooComplex => "54001",
        Fault::UnknownTable => "42P01",
        Fault::UnknownColumn => "42703",
        Fault::AmbiguousColumn => "42702",
        Fault::UnknownFunction => "42883",
        Fault::Unsupported => "0A000",
        Fault::DivisionByZero => "22012",
        Fault::Value => "22P02",
        Fault::Other => "42000",
    }
}

/// Why an exchange with the client does not go on.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The statement failed; the connection goes on.
    Failed(Failure),
    /// The connection is over.
    Broken(WireError),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Broken(error)
    }
}
