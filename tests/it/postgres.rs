//! The PostgreSQL wire, as clients use it: types, prepared statements, cancelling, errors, settings, COPY.

mod client;
mod copy;
mod errors;
mod prepared;
mod settings;
mod types;
