//! The columns of another table that rules refer to, from a file of it.

use std::path::Path;

use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use futures::TryStreamExt as _;

use super::{
    contract::Table,
    error::Error as GateError,
    file::open,
    rule::{Rule, RuleKind},
    scan::{Reference, References},
};
use crate::error::Result;

/// Reads from `path` what rules of `table` refer to as columns of the table `name`. Text files take the type of the column that
/// refers.
///
/// # Errors
/// [`GateError::UnusedReference`] if no rule refers to `name`, and those of [`super::check_file`] for the file.
pub async fn read_reference(name: &str, path: &Path, table: &Table) -> Result<References> {
    let mut references = References::new();
    for (rule, to) in referring(table) {
        let Some((of_table, column)) = to.rsplit_once('.').filter(|(of_table, _)| *of_table == name) else { continue };
        if references.contains_key(to) {
            continue;
        }
        let rows = open(path, &typed_like(rule, column, of_table, table)).await?;
        let rows = rows.select(vec![Expr::Column(Column::from_name(column))])?;
        let mut reference = Reference::new(rows.schema().field(0).data_type());
        let mut batches = rows.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            reference.add(batch.column(0))?;
        }
        references.insert(to.to_owned(), reference);
    }
    if references.is_empty() {
        let mut known: Vec<&str> = referring(table).filter_map(|(_, to)| Some(to.rsplit_once('.')?.0)).collect();
        known.sort_unstable();
        known.dedup();
        let known = if known.is_empty() {
            "no rule refers to another table".into()
        } else {
            format!("they refer to {}", known.join(", "))
        };
        return Err(GateError::UnusedReference { table: name.to_owned(), known }.into());
    }
    Ok(references)
}

fn referring(table: &Table) -> impl Iterator<Item = (&Rule, &str)> {
    table.rules.iter().filter_map(|rule| match &rule.kind {
        RuleKind::Reference { to, .. } => Some((rule, to.as_str())),
        _ => None,
    })
}

/// A table whose only statement is that `column` has the type of the column which refers to it.
fn typed_like(rule: &Rule, column: &str, name: &str, table: &Table) -> Table {
    let mut other = Table::new(name);
    let own = table.rules.iter().filter(|other| other.column == rule.column);
    if let Some(kind @ RuleKind::Type { .. }) =
        own.map(|rule| &rule.kind).find(|kind| matches!(kind, RuleKind::Type { .. }))
    {
        other.push(Rule::new(Some(column), kind.clone()));
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::{CheckInputs, Contract, Status, check_file};

    const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: c
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - { name: user, logicalType: string, relationships: [{ to: users.id }] }
    quality:
      - { metric: rowCount, mustBeGreaterThan: 0 }
";

    #[tokio::test]
    async fn rows_that_refer_to_nobody_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        // Digits that are texts by the contract of the column that refers to them.
        std::fs::write(path("users.csv"), "id,name\n001,a\n002,b\n").unwrap();
        std::fs::write(path("orders.csv"), "user\n001\n002\n001\n").unwrap();
        std::fs::write(path("lost.csv"), "user\n001\n1\n").unwrap();
        let contract = Contract::from_odcs("c.yaml", CONTRACT).unwrap();
        let table = contract.table(None).unwrap();
        let status = async |file: &str, references: References| {
            let inputs = CheckInputs { references, ..CheckInputs::default() };
            let checked = check_file(&path(file), table, &inputs).await.unwrap();
            let result = checked.results.iter().find(|result| result.metric == "reference").unwrap().clone();
            (result.status, result.rows_failed, result.reason)
        };
        let (skipped, _, reason) = status("orders.csv", References::new()).await;
        assert_eq!(skipped, Status::Skipped);
        assert!(reason.unwrap().contains("--reference users=FILE"));
        let users = read_reference("users", &path("users.csv"), table).await.unwrap();
        assert_eq!(status("orders.csv", users.clone()).await.0, Status::Pass);
        assert_eq!(status("lost.csv", users).await, (Status::Fail, Some(1), None));
        let unused = read_reference("people", &path("users.csv"), table).await.unwrap_err().to_string();
        assert!(unused.contains("\"people\"") && unused.contains("users"), "{unused}");
        assert!(read_reference("users", &path("orders.csv"), table).await.is_err());
    }
}
