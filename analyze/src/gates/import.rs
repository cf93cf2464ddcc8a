//! Rules of other tools, read once and never written: what maps is a [`Table`], what does not is listed.

mod dbt;
mod great_expectations;
mod sagemaker;

use super::contract::{Table, table_of};
use super::document::{At, Node};
use super::error::{Place, Result};
use super::limit::Limit;

/// A rule of another tool that has no counterpart here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmapped {
    /// Where it stands.
    pub place: Place,
    /// The tool's name of it.
    pub what: String,
    /// Why it is not taken over.
    pub reason: String,
}

/// What an import found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Import {
    /// The tables with the rules that map.
    pub tables: Vec<Table>,
    /// The rules that do not.
    pub unmapped: Vec<Unmapped>,
}

impl Import {
    /// The table of this name; the only one for `None`.
    ///
    /// # Errors
    /// [`super::Error::UnknownTable`] with the names that exist.
    pub fn table(&self, name: Option<&str>) -> Result<&Table> {
        table_of(&self.tables, name)
    }

    /// Reads an expectation suite of Great Expectations, of the formats before 1.0 and since.
    ///
    /// # Errors
    /// [`Error::Document`](super::Error::Document) if this is no JSON or no suite.
    pub fn from_great_expectations(file: &str, json: &str) -> Result<Self> {
        let node = Node::from_json(file, json)?;
        great_expectations::read(&node.root(file))
    }

    /// Reads the generic tests of a dbt properties file (`schema.yml`): models, sources, seeds and snapshots.
    ///
    /// # Errors
    /// [`Error::Document`](super::Error::Document) if this is no YAML or no such file.
    pub fn from_dbt(file: &str, yaml: &str) -> Result<Self> {
        let node = Node::from_yaml(file, yaml)?;
        dbt::read(&node.root(file))
    }

    /// Reads the `constraints.json` of SageMaker Model Monitor.
    ///
    /// # Errors
    /// [`Error::Document`](super::Error::Document) if this is no JSON or no such file.
    pub fn from_sagemaker(file: &str, json: &str) -> Result<Self> {
        let node = Node::from_json(file, json)?;
        sagemaker::read(&node.root(file))
    }

    fn leave_out(&mut self, at: &At<'_>, what: &str, reason: impl Into<String>) {
        self.unmapped.push(Unmapped { place: at.place(), what: what.into(), reason: reason.into() });
    }
}

/// At most the rest of a share that has to be right: `mostly: 0.95` is at most 5 % of the rows.
fn rest_of(share: f64) -> Limit {
    if share >= 1.0 {
        return Limit::none();
    }
    // 1 - 0.95 is 0.05000000000000004; twelve digits are what the author wrote.
    Limit::percent_max(((1.0 - share) * 1e14).round() / 1e12)
}

#[cfg(test)]
mod tests;
