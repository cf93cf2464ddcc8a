//! How stored telemetry is read: the one session factory, the views in canonical units, and SQL over HTTP.
//!
//! Questions of every surface go through [`Questions`], where they share slots, a queue and a time limit.
//!
//! Every surface runs on [`session`]. It is read-only by construction: a statement that is not a query is refused when it
//! is planned, and no function of the session reads files.

mod answer;
mod arms_of_role;
mod batch_writer;
mod body;
mod cardinality;
mod catalog;
mod comments;
mod compression;
mod computed_table;
mod config;
mod coverage;
mod day_of_time;
mod error;
mod flight;
mod format;
mod functions;
mod http;
mod increases;
mod jobs;
mod joins_give_way;
mod json;
mod metrics;
mod metrics_of_role;
mod origin;
mod output;
mod parameter_places;
mod placeholders;
mod postgres;
mod profiling;
mod query_memory;
mod question_log;
mod questions;
mod role_views;
mod roles;
mod run;
mod series_runs;
mod session;
mod summary;
mod system;
mod table_order;
mod text_table;
mod time_bounds;
mod tls;
mod user_turns;
mod view_schema;
mod views;

pub use answer::Answer;
pub use config::{Config, RawConfig, RawUser, UserLimits};
pub use error::{Error, ErrorKind, Fault, Result};
pub use flight::{FlightOptions, serve_flight};
pub use format::Format;
pub use http::router;
pub use output::answer;
pub use postgres::{Verifier, serve_postgres};
pub use question_log::Surface;
pub use questions::{Asked, Question, Questions};
pub use roles::RoleTable;
pub use session::session;
pub use text_table::render_table;
pub use tls::Tls;
