//! Questions to the session, kept so that the report can print them.

use datafusion::prelude::SessionContext;
use serde::Serialize;

use crate::{error::Result, rows::Rows, window::Window};

/// A question and what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Query {
    /// What it gives.
    pub what: &'static str,
    /// SQL.
    pub sql: String,
}

/// Simulated or not, host, id: what names a card.
pub(super) type CardKey = (bool, String, String);

/// Asks about one window.
pub(super) struct Asker<'a> {
    pub(super) ctx: &'a SessionContext,
    pub(super) window: Window,
    pub(super) queries: Vec<Query>,
}

impl Asker<'_> {
    pub(super) async fn rows(&mut self, what: &'static str, sql: String) -> Result<Rows> {
        let rows = Rows::query(self.ctx, &sql).await?;
        self.queries.push(Query { what, sql });
        Ok(rows)
    }

    /// SQL condition for points with a value inside of the window.
    pub(super) fn points(&self) -> String {
        format!("{} AND value IS NOT NULL AND NOT isnan(value)", self.window.condition("time"))
    }

    /// SQL condition for rows of series that have a point in the window.
    pub(super) fn series(&self) -> String {
        self.window.series_condition()
    }
}
