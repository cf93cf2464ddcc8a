//! The vocabulary: which source metric means what, in which unit. Data, in `roles.toml`.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::error::{Error, Result};

/// A view over one part of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum View {
    Gpu,
    System,
    Latency,
    Inputs,
}

impl View {
    pub(crate) const ALL: [Self; 4] = [Self::Gpu, Self::System, Self::Latency, Self::Inputs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::System => "system",
            Self::Latency => "latency",
            Self::Inputs => "inputs",
        }
    }

    /// Which half of running AI it describes.
    pub(crate) fn dimension(self) -> &'static str {
        match self {
            Self::Gpu | Self::System => "system",
            Self::Latency | Self::Inputs => "ai",
        }
    }
}

/// One row of the table: a source metric, under conditions, means a role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Role {
    /// Source metric name as received, or its beginning and `*`.
    pub(crate) metric: String,
    /// Attributes that must have these values.
    #[serde(default)]
    pub(crate) when: BTreeMap<String, String>,
    pub(crate) view: View,
    /// What it is; after a prefix, `*` stands for the rest of the name.
    pub(crate) role: String,
    /// Canonical unit (UCUM); `*` is the unit that the source declares.
    pub(crate) unit: String,
    /// Canonical value = source value × scale.
    #[serde(default = "one")]
    pub(crate) scale: f64,
    /// Values from here on mean "no value" at the source (DCGM).
    #[serde(default)]
    pub(crate) blank_from: Option<f64>,
}

impl Role {
    /// For a name that ends in `*`: the beginning, and the first text after all names that begin so.
    pub(crate) fn prefix(&self) -> Option<(&str, String)> {
        let first = self.metric.strip_suffix('*')?;
        let last = first.chars().last()?;
        let end = char::from_u32(u32::from(last) + 1)?;
        Some((first, format!("{}{end}", &first[..first.len() - last.len_utf8()])))
    }
}

fn one() -> f64 {
    1.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleTable {
    role: Vec<Role>,
}

/// The table that ships with the binary.
///
/// # Errors
/// [`Error::Roles`] naming the row that is wrong.
pub(crate) fn roles() -> Result<&'static [Role]> {
    static ROLES: LazyLock<Result<Vec<Role>, String>> = LazyLock::new(|| parse(include_str!("roles.toml")));
    ROLES.as_deref().map_err(|error| Error::Roles(error.clone()))
}

fn parse(text: &str) -> Result<Vec<Role>, String> {
    let table: RoleTable = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut seen = std::collections::HashSet::new();
    for role in &table.role {
        let row = format!("row {} → {}", role.metric, role.role);
        if role.metric.is_empty() || role.role.is_empty() || role.unit.is_empty() {
            return Err(format!("{row}: metric, role and unit must not be empty"));
        }
        if !role.scale.is_finite() || role.scale <= 0.0 {
            return Err(format!("{row}: scale must be a number above 0"));
        }
        if role.metric.contains('*') && role.prefix().is_none()
            || role.metric.matches('*').count() > 1
            || role.role.contains('*') && !(role.role.ends_with('*') && role.prefix().is_some())
        {
            return Err(format!("{row}: * may end a metric name that begins with text, and then also the role"));
        }
        if !seen.insert((role.metric.clone(), role.when.clone())) {
            return Err(format!("{row}: a row with the same metric and conditions stands above"));
        }
    }
    Ok(table.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_is_valid() {
        assert!(roles().unwrap().len() > 50);
    }

    #[test]
    fn a_wrong_row_is_named() {
        let row = |scale: &str| {
            format!("[[role]]\nmetric = \"m\"\nview = \"gpu\"\nrole = \"r\"\nunit = \"1\"\nscale = {scale}\n")
        };
        assert!(parse(&row("0.0")).unwrap_err().contains("row m → r"));
        assert!(parse(&(row("1.0") + &row("2.0"))).unwrap_err().contains("stands above"));
        let names = |metric: &str, role: &str| {
            parse(&format!("[[role]]\nmetric = \"{metric}\"\nview = \"gpu\"\nrole = \"{role}\"\nunit = \"1\"\n"))
        };
        assert_eq!(names("a.b.*", "x.*").unwrap()[0].prefix(), Some(("a.b.", "a.b/".to_owned())));
        for (metric, role) in [("*", "x"), ("a*b", "x"), ("a", "x.*"), ("a.*", "*.x")] {
            assert!(names(metric, role).unwrap_err().contains('*'), "{metric} {role}");
        }
    }
}
