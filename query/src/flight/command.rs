//! Commands of Flight SQL as they are packed into descriptors, tickets and actions.

use arrow_flight::sql::{Any, Command, ProstMessageExt};
use prost::Message;
use tonic::Status;

/// The command in the bytes of a descriptor or ticket.
///
/// # Errors
/// `INVALID_ARGUMENT` for other bytes.
pub(super) fn command(bytes: &[u8]) -> Result<Command, Status> {
    let wrong = |error: &dyn std::fmt::Display| Status::invalid_argument(format!("no Flight SQL command: {error}"));
    let any = Any::decode(bytes).map_err(|error| wrong(&error))?;
    match Command::try_from(any).map_err(|error| wrong(&error))? {
        Command::Unknown(any) => Err(wrong(&format!("{:?} is not known", any.type_url))),
        command => Ok(command),
    }
}

/// The message of type `M` in the body of an action.
///
/// # Errors
/// `INVALID_ARGUMENT` for another message, or none.
pub(super) fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let unpacked = Any::decode(body).ok().and_then(|any| any.unpack().ok().flatten());
    unpacked.ok_or_else(|| Status::invalid_argument(format!("the body must be a {}", M::type_url())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_command_is_refused() {
        let query = arrow_flight::sql::CommandStatementQuery { query: "SELECT 1".into(), transaction_id: None };
        let bytes = query.as_any().encode_to_vec();
        assert!(matches!(command(&bytes), Ok(Command::CommandStatementQuery(_))));
        let unknown = Any { type_url: "type.googleapis.com/other".into(), value: bytes.clone().into() };
        for bytes in [&b"SELECT 1"[..], &[], &unknown.encode_to_vec(), &bytes[..bytes.len() - 1]] {
            assert_eq!(command(bytes).unwrap_err().code(), tonic::Code::InvalidArgument);
            assert!(unpack::<arrow_flight::sql::CommandStatementQuery>(bytes).is_err());
        }
    }
}
