//! A model registry, read by the server: what it holds becomes rows of the lineage tables, and an alias that moved becomes a
//! statement about the services that follow it.
//!
//! Only MLflow for now. What to ask and how to read it is [`lineage::mlflow`](crate::lineage::mlflow); here are settings, the
//! connection, and what is written. Invariants:
//! - A registry that is down, or answers nonsense, changes nothing that is known, and its words are in the table `events`.
//! - What is known outlives a restart: it is read back from the tables, so nothing is told twice.

mod client;
mod known;
mod poller;
mod settings;

pub use poller::{PollReport, RegistryError, RegistryPoller};
pub use settings::{Follow, MlflowConfig, RawFollow, RawMlflow};
