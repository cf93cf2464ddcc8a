//! The PostgreSQL wire, as clients use it: types, prepared statements, cancelling, errors, settings, COPY, access, limits.

mod access;
pub(crate) mod client;
mod copy;
mod errors;
mod jdbc;
mod limits;
mod prepared;
mod psql;
mod settings;
mod types;
mod user_limits;
