//! What can go wrong with a query, by what the client can do about it.
#![expect(missing_docs, reason = "the messages name the fields")]

use std::{io, path::PathBuf, time::Duration};

use arrow::error::ArrowError;
use datafusion::{common::SchemaError, error::DataFusionError, sql::sqlparser::parser::ParserError};

/// Result with the query crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The statement writes, or reads what is not a table here.
    #[error("this surface only reads: use SELECT, EXPLAIN, SHOW or DESCRIBE ({0})")]
    Denied(String),
    /// The statement cannot be planned or computed; `position` is the 1-based character that is wrong, if one is.
    #[error("{message}")]
    Invalid { message: String, position: Option<usize>, fault: Fault },
    #[error("the query took longer than {timeout:?} and was stopped; narrow the time range, or raise query.timeout")]
    Timeout { timeout: Duration },
    #[error("{running} queries are running and {waiting} wait already; try again when one has ended")]
    Busy { running: usize, waiting: usize },
    #[error(
        "{running} queries of user {user} are running and {waiting} wait already (query.users.{user}.concurrency_max); \
         try again when one has ended"
    )]
    UserBusy { user: String, running: usize, waiting: usize },
    #[error("the answer has more than {rows_max} rows (query.users.{user}.rows_max); ask for fewer")]
    UserRows { user: String, rows_max: u64 },
    #[error("the answer has more than {bytes_max} bytes (query.users.{user}.bytes_max); ask for less")]
    UserBytes { user: String, bytes_max: u64 },
    #[error("the query was cancelled")]
    Cancelled,
    #[error("the query needs more memory than it may use ({0}); narrow it, or raise query.memory")]
    Memory(String),
    #[error("setting query.{name}: {reason}")]
    Config { name: &'static str, reason: String },
    #[error("{count_max} jobs are kept already; remove one, or wait until the time of one is over")]
    Jobs { count_max: usize },
    #[error("the result is larger than {limit_bytes} bytes allow; narrow the query, or raise query.{name}")]
    JobSize { name: &'static str, limit_bytes: u64 },
    #[error("result {}", .path.display())]
    Spool { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", .path.display())]
    Tls { path: PathBuf, reason: String },
    #[error("role table: {0}")]
    Roles(String),
    /// Boxed, so that errors stay small.
    #[error("serve Flight SQL")]
    ServeFlight(#[source] Box<tonic::transport::Error>),
    #[error("{0}")]
    Internal(#[source] DataFusionError),
}

/// What is wrong with a statement, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is no SQL.
    Syntax,
    /// It is nested too deeply.
    TooComplex,
    /// It names a table that is not there.
    UnknownTable,
    /// It names a column that is not there.
    UnknownColumn,
    /// It names a column that several tables have.
    AmbiguousColumn,
    /// It names a function that is not there, or not for such arguments.
    UnknownFunction,
    /// It asks for something that is not made here.
    Unsupported,
    /// It divides by 0.
    DivisionByZero,
    /// A value is none of its type.
    Value,
    /// Anything else.
    Other,
}

/// Errors as clients tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Mend the query.
    Invalid,
    /// It took too long.
    Timeout,
    /// It needs too much, or too many run.
    Limit,
    /// It is not a query.
    Denied,
    /// Somebody stopped it.
    Cancelled,
    /// A bug or a failure of the server.
    Internal,
}

impl ErrorKind {
    /// As answers and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

impl Error {
    /// What the client can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied(_) => ErrorKind::Denied,
            Self::Invalid { .. } | Self::Config { .. } | Self::Tls { .. } | Self::Roles(_) => ErrorKind::Invalid,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Busy { .. } | Self::UserBusy { .. } => ErrorKind::Limit,
            Self::UserRows { .. } | Self::UserBytes { .. } => ErrorKind::Limit,
            Self::Memory(_) | Self::Jobs { .. } | Self::JobSize { .. } => ErrorKind::Limit,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Spool { .. } | Self::ServeFlight(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), position: None, fault: Fault::Other }
    }

    /// An error of planning or running `sql`.
    pub(crate) fn of(sql: &str, error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(reason) => Self::Memory(reason.clone()),
            DataFusionError::IoError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::External(_)
            | DataFusionError::Internal(_) => Self::Internal(error),
            root => {
                let message = root.strip_backtrace();
                let named = error.diagnostic().and_then(|diagnostic| diagnostic.span);
                let position = match named {
                    Some(span) => character(sql, span.start.line, span.start.column),
                    None => position(sql, &message),
                };
                Self::Invalid { fault: fault(root, &message), message, position }
            }
        }
    }
}

fn fault(root: &DataFusionError, message: &str) -> Fault {
    match root {
        DataFusionError::SQL(error, _) if matches!(**error, ParserError::RecursionLimitExceeded) => Fault::TooComplex,
        DataFusionError::SQL(..) => Fault::Syntax,
        DataFusionError::SchemaError(error, _) => match **error {
            SchemaError::FieldNotFound { .. } => Fault::UnknownColumn,
            SchemaError::AmbiguousReference { .. } => Fault::AmbiguousColumn,
            _ => Fault::Other,
        },
        DataFusionError::NotImplemented(_) => Fault::Unsupported,
        DataFusionError::ArrowError(error, _) => match **error {
            ArrowError::DivideByZero => Fault::DivisionByZero,
            ArrowError::CastError(_) | ArrowError::ParseError(_) => Fault::Value,
            _ => Fault::Other,
        },
        // The engine tells these apart by their words only.
        DataFusionError::Plan(_) if message.contains("table '") && message.contains("not found") => Fault::UnknownTable,
        DataFusionError::Plan(_) if message.contains("failed to resolve") => Fault::UnknownTable,
        DataFusionError::Plan(_) if message.contains("Invalid function") => Fault::UnknownFunction,
        DataFusionError::Plan(_) if message.contains("No function matches") => Fault::UnknownFunction,
        DataFusionError::Plan(_) if message.contains("Failed to coerce") => Fault::UnknownFunction,
        _ => Fault::Other,
    }
}

/// The character that "Line: 1, Column: 8" points at.
fn position(sql: &str, message: &str) -> Option<usize> {
    let number = |after: &str| -> Option<usize> {
        // The last: what comes before may be text of the statement.
        let rest = &message[message.rfind(after)? + after.len()..];
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    character(sql, number("Line: ")?, number("Column: ")?)
}

/// The 1-based character of `sql` at a line and column, which count from 1 as well.
fn character<N: TryInto<usize>>(sql: &str, line: N, column: N) -> Option<usize> {
    let (line, column) = (line.try_into().ok()?, column.try_into().ok()?);
    let before: usize = sql.split('\n').take(line.checked_sub(1)?).map(|line| line.chars().count() + 1).sum();
    // Only what is in the statement, or just behind it: the numbers may be text of the statement, too.
    before.checked_add(column).filter(|place| *place <= sql.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_over_lines() {
        assert_eq!(position("SELECT\n  x y z", "Expected: end, found: z at Line: 2, Column: 7"), Some(14));
        assert_eq!(position("SELECT", "no place named"), None);
        assert_eq!(position("SELECT '°°' x y", "found: y at Line: 1, Column: 15"), Some(15));
        let shown = "found: Line: 1, Column: 18446744073709551615 at Line: 1, Column: 8";
        assert_eq!(position("SELECT 'Line: 1, Column: 18446744073709551615'", shown), Some(8));
        assert_eq!(position("SELECT\nx", "Line: 2, Column: 18446744073709551615"), None);
    }
}
