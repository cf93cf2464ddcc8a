//! Contracts: the tables, their columns, and the rules that hold for them.
//!
//! The format is the Open Data Contract Standard 3.1 (<https://bitol-io.github.io/open-data-contract-standard/>); rules
//! that it has no metric for are `type: custom, engine: driftwatt`. A rule that is understood but not evaluated (`sql`,
//! `text`, other engines) stays in the list and is reported as skipped. What is not understood is an error with its
//! line, because a mistyped rule would otherwise be a gate that is always open.

mod driftwatt;
mod images;
mod operator;
mod quality;
mod schema;
mod sla;

use super::document::{At, Node};
use super::error::{Error, Place, Result};
use super::rule::Rule;

/// The rules of one table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Name in the contract.
    pub name: String,
    /// Name of the table in its store, where the contract states another one.
    pub physical_name: Option<String>,
    /// Columns of the primary key, in its order. The first one names the rows in samples, masked.
    pub primary_key: Vec<String>,
    /// The rules, each with a name of its own.
    pub rules: Vec<Rule>,
}

impl Table {
    /// A table without any rule.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a rule; a name that is taken gets a number.
    pub fn push(&mut self, mut rule: Rule) {
        let taken = |id: &str| self.rules.iter().any(|rule| rule.id == id);
        if taken(&rule.id) {
            let numbered = (2..).map(|number| format!("{}#{number}", rule.id)).find(|id| !taken(id));
            rule.id = numbered.unwrap_or_default();
        }
        self.rules.push(rule);
    }
}

/// Something in a contract that is valid but has no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it stands.
    pub place: Place,
    /// Why it has no effect.
    pub text: String,
}

/// A contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// Its `id`.
    pub id: String,
    /// Its own `version`.
    pub version: String,
    /// User name of the team's owner, who is told about failures.
    pub owner: Option<String>,
    /// Its tables, in the order of the file.
    pub tables: Vec<Table>,
    /// What has no effect.
    pub notes: Vec<Note>,
}

impl Contract {
    /// Reads a contract from the text of a YAML file; `file` is its name in errors.
    ///
    /// Rules that hold without being written: the columns of the contract are there (fail) and no others (warning), each
    /// has its `logicalType`, `required`, `unique` and `primaryKey` are kept, and there are at least 1000 rows unless a
    /// `rowCount` says otherwise.
    ///
    /// # Errors
    /// [`Error::Document`] with line, path and remedy of the first thing that is not understood.
    pub fn from_odcs(file: &str, text: &str) -> Result<Self> {
        let node = Node::from_yaml(file, text)?;
        let root = node.root(file);
        check_version(&root)?;
        let mut contract = Self {
            id: root.require("id", "give the contract an id")?.text()?.to_string(),
            version: root.require("version", "give the contract a version, such as 1.0.0")?.text()?.to_string(),
            owner: owner(&root)?,
            tables: Vec::new(),
            notes: Vec::new(),
        };
        for table in root.items_of("schema")? {
            let read = schema::read(&table)?;
            if contract.tables.iter().any(|known| known.name == read.name) {
                return Err(table.error(format!("the table {:?} stands twice", read.name), "keep one of them"));
            }
            contract.tables.push(read);
        }
        if contract.tables.is_empty() {
            return Err(root.error("the contract has no table under `schema`", "describe at least one table"));
        }
        sla::read(&root, &mut contract)?;
        Ok(contract)
    }

    /// The table of this name or physical name; the only one for `None`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] with the names that exist.
    pub fn table(&self, name: Option<&str>) -> Result<&Table> {
        table_of(&self.tables, name)
    }
}

/// The one of `tables` of this name or physical name; the only one for `None`.
pub(super) fn table_of<'a>(tables: &'a [Table], name: Option<&str>) -> Result<&'a Table> {
    let found = match name {
        Some(name) => tables.iter().find(|t| t.name == name || t.physical_name.as_deref() == Some(name)),
        None => tables.first().filter(|_| tables.len() == 1),
    };
    found.ok_or_else(|| Error::UnknownTable {
        wanted: name.map_or("no name is given".into(), |name| format!("no table {name:?}")),
        known: tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

fn check_version(root: &At<'_>) -> Result<()> {
    let kind = root.require("kind", "a contract begins with `kind: DataContract`")?;
    if kind.text()? != "DataContract" {
        return Err(kind.error("this is no data contract", "write `kind: DataContract`"));
    }
    let version = root.require("apiVersion", "write `apiVersion: v3.1.0`")?;
    let text = version.text()?;
    if !["v3.0", "v3.1", "3.0", "3.1"].iter().any(|known| text.starts_with(known)) {
        return Err(version.error(
            format!("version {text:?} of the Open Data Contract Standard is not read"),
            "convert the contract to `apiVersion: v3.1.0`",
        ));
    }
    Ok(())
}

/// The member with the role of an owner who has not left. Up to 3.0 a team is a list, in 3.1 a map with `members`.
fn owner(root: &At<'_>) -> Result<Option<String>> {
    let Some(team) = root.get("team") else { return Ok(None) };
    let members = if team.is_list() { team.items()? } else { team.items_of("members")? };
    for member in members {
        let is_owner = member.text_of("role")?.is_some_and(|role| role.eq_ignore_ascii_case("owner"));
        if is_owner && member.get("dateOut").is_none() {
            return Ok(member.text_of("username")?.map(str::to_string));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
