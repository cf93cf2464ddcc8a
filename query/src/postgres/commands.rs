//! Statements that are about the connection itself: settings, transactions, prepared statements.

use std::sync::Arc;

use datafusion::{
    common::{DFSchema, ScalarValue},
    logical_expr::{Expr as Planned, simplify::SimplifyContext},
    optimizer::simplify_expressions::ExprSimplifier,
    sql::sqlparser::ast::{
        CopyTarget, DiscardObject, Expr, Ident, ObjectName, Reset, Set, Statement as Ast, Value, ValueWithSpan,
    },
};
use pgwire::messages::response::TransactionStatus;
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connection, Outcome},
    copy::copy_query,
    failure::{Ended, Failure},
    prepared::OutputColumn,
    rows::{Rows, text_columns},
    settings::unknown,
    statement::{Statement, parse},
};
use crate::error::Error;

impl Connection {
    /// Runs one statement.
    pub(super) async fn run(
        &mut self,
        statement: Statement,
        values: Vec<ScalarValue>,
        declared: &[u32],
        stop: &CancellationToken,
    ) -> Result<Outcome, Ended> {
        self.check_transaction(&statement.ast)?;
        if let Ast::Execute { name: Some(name), parameters, .. } = &statement.ast {
            let (statement, values, declared) = self.execution(&statement, name, parameters)?;
            self.check_transaction(&statement.ast)?;
            return self.run_own(statement, values, &declared, stop).await;
        }
        self.run_own(statement, values, declared, stop).await
    }

    async fn run_own(
        &mut self,
        statement: Statement,
        values: Vec<ScalarValue>,
        declared: &[u32],
        stop: &CancellationToken,
    ) -> Result<Outcome, Ended> {
        let done = |tag: &str| Ok(Outcome::Done(tag.to_owned()));
        match &statement.ast {
            Ast::Set(set) => {
                self.set(set).await?;
                done("SET")
            }
            Ast::Reset(reset) => {
                let name = match &reset.reset {
                    Reset::ALL => None,
                    Reset::ConfigurationParameter(name) => Some(name.to_string()),
                };
                let told = self.settings.reset(name.as_deref())?;
                self.tell(told).await?;
                self.follow_search_path();
                done("RESET")
            }
            Ast::ShowVariable { variable } => Ok(Outcome::Rows(self.show(variable)?)),
            Ast::Prepare { name, data_types, statement } => {
                let declared: Vec<u32> =
                    data_types.iter().map(|data_type| declared_oid(&data_type.to_string())).collect();
                let prepared = Box::pin(self.prepare(&statement.to_string(), declared, stop)).await?;
                self.keep(name.value.clone(), prepared)?;
                done("PREPARE")
            }
            Ast::Deallocate { name, .. } if name.value.eq_ignore_ascii_case("all") && name.quote_style.is_none() => {
                self.statements.clear();
                done("DEALLOCATE ALL")
            }
            Ast::Deallocate { name, .. } => {
                self.prepared(&name.value)?;
                self.statements.remove(&name.value);
                done("DEALLOCATE")
            }
            Ast::Discard { object_type } => {
                if *object_type == DiscardObject::ALL {
                    self.statements.clear();
                    self.portals.clear();
                    let told = self.settings.reset(None)?;
                    self.tell(told).await?;
                    self.follow_search_path();
                }
                done(&statement.ast.to_string().to_uppercase())
            }
            Ast::Close { .. } => done("CLOSE CURSOR"),
            Ast::UNLISTEN { .. } => done("UNLISTEN"),
            Ast::Copy { to: true, target: CopyTarget::Stdout, .. } => {
                let (query, format) = copy_query(&statement)?;
                let rows = Box::pin(self.query(&query, values, declared, "COPY", stop)).await?;
                Ok(Outcome::Copy(rows, format))
            }
            ast => match self.transaction_tag(ast) {
                Some(tag) => done(tag),
                None => {
                    let tag = if matches!(ast, Ast::Explain { .. }) { "EXPLAIN" } else { "SELECT" };
                    Ok(Outcome::Rows(Box::pin(self.query(&statement, values, declared, tag, stop)).await?))
                }
            },
        }
    }

    /// The columns of a statement that is about the connection; `None` for one that is a query.
    pub(super) fn own_columns(&self, ast: &Ast) -> Result<Option<Option<Arc<[OutputColumn]>>>, Failure> {
        Ok(match ast {
            Ast::ShowVariable { variable } => Some(Some(show_columns(variable))),
            Ast::Execute { name: Some(name), .. } => Some(self.prepared(&name_text(name))?.columns.clone()),
            Ast::Set(_)
            | Ast::Reset(_)
            | Ast::Prepare { .. }
            | Ast::Deallocate { .. }
            | Ast::Discard { .. }
            | Ast::Close { .. }
            | Ast::UNLISTEN { .. }
            | Ast::Copy { to: true, target: CopyTarget::Stdout, .. }
            | Ast::StartTransaction { .. }
            | Ast::Commit { .. }
            | Ast::Rollback { .. }
            | Ast::Savepoint { .. }
            | Ast::ReleaseSavepoint { .. } => Some(None),
            _ => None,
        })
    }

    /// After an error in a transaction block, only its end is taken.
    pub(super) fn check_transaction(&self, ast: &Ast) -> Result<(), Failure> {
        let ends = matches!(ast, Ast::Commit { .. } | Ast::Rollback { .. });
        if self.transaction == TransactionStatus::Error && !ends {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Failure::new("25P02", message));
        }
        Ok(())
    }

    /// Nothing is ever changed, so a transaction is only what clients see of it: its beginning and end.
    fn transaction_tag(&mut self, ast: &Ast) -> Option<&'static str> {
        let (tag, status) = match ast {
            Ast::StartTransaction { begin, .. } => {
                (if *begin { "BEGIN" } else { "START TRANSACTION" }, TransactionStatus::Transaction)
            }
            Ast::Commit { .. } => {
                let failed = self.transaction == TransactionStatus::Error;
                (if failed { "ROLLBACK" } else { "COMMIT" }, TransactionStatus::Idle)
            }
            Ast::Rollback { savepoint: Some(_), .. } => ("ROLLBACK", TransactionStatus::Transaction),
            Ast::Rollback { .. } => ("ROLLBACK", TransactionStatus::Idle),
            Ast::Savepoint { .. } => ("SAVEPOINT", self.transaction),
            Ast::ReleaseSavepoint { .. } => ("RELEASE", self.transaction),
            _ => return None,
        };
        self.transaction = status;
        Some(tag)
    }

    async fn set(&mut self, set: &Set) -> Result<(), Ended> {
        let (name, value) = match set {
            Set::SingleAssignment { variable, values, .. } => {
                let values: Vec<String> = values.iter().map(setting_text).collect();
                (name_text(variable), values.join(", "))
            }
            Set::SetTimeZone { value, .. } => ("TimeZone".to_owned(), setting_text(value)),
            Set::SetNames { charset_name, .. } => ("client_encoding".to_owned(), charset_name.value.clone()),
            // Everything is read, at the one isolation there is.
            Set::SetTransaction { .. } => return Ok(()),
            Set::SetRole { .. } | Set::SetSessionAuthorization(_) => {
                return Err(Failure::unsupported("roles cannot be changed within a connection").into());
            }
            _ => return Err(Failure::new("42601", format!("{set} is not supported")).into()),
        };
        if value.eq_ignore_ascii_case("default") {
            let told = self.settings.reset(Some(&name))?;
            self.tell(told).await?;
        } else if let Some(told) = self.settings.set(&name, &value)? {
            self.tell(vec![told]).await?;
        }
        self.follow_search_path();
        Ok(())
    }

    /// Unqualified names are looked up in the first schema of the search path that is there.
    fn follow_search_path(&self) {
        let Some(catalog) = self.ctx.catalog(super::session::DATABASE) else { return };
        let there = catalog.schema_names();
        let first = self.schemas().into_iter().find(|name| there.contains(name));
        let state = self.ctx.state_ref();
        let mut state = state.write();
        state.config_mut().options_mut().catalog.default_schema = first.unwrap_or_else(|| "public".to_owned());
    }

    fn show(&self, variable: &[Ident]) -> Result<Rows, Failure> {
        let name = show_name(variable);
        if name == "all" {
            let all = self.settings.all().into_iter().map(|(name, value)| vec![name, value, String::new()]);
            return Rows::of_texts(&["name", "setting", "description"], &all.collect::<Vec<_>>(), "SHOW");
        }
        let value = self.settings.get(&name).ok_or_else(|| unknown(&name))?;
        Rows::of_texts(&[&name], &[vec![value]], "SHOW")
    }

    /// The statement and values of an `EXECUTE`.
    fn execution(
        &self,
        statement: &Statement,
        name: &ObjectName,
        parameters: &[Expr],
    ) -> Result<(Statement, Vec<ScalarValue>, Vec<u32>), Ended> {
        let name = name_text(name);
        let prepared = self.prepared(&name)?;
        if parameters.len() != prepared.parameters.len() {
            let (needed, given) = (prepared.parameters.len(), parameters.len());
            let message =
                format!("wrong number of parameters for prepared statement \"{name}\": expected {needed}, got {given}");
            return Err(Failure::new("42601", message).into());
        }
        let values = parameters.iter().zip(&prepared.parameters).map(|(expr, pg_type)| {
            let value = self.constant(expr)?;
            value.cast_to(&pg_type.arrow()).map_err(|error| Error::of(&statement.source, error))
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let declared = prepared.parameters.iter().map(|pg_type| pg_type.oid()).collect();
        let mut inner = parse(&prepared.text)?;
        if inner.is_empty() {
            return Err(Failure::new("42601", "the prepared statement is empty").into());
        }
        let mut inner = inner.remove(0);
        inner.text = Arc::clone(&statement.text);
        Ok((inner, values, declared))
    }

    /// The value of an expression without columns.
    fn constant(&self, expr: &Expr) -> Result<ScalarValue, Error> {
        let of = |error| Error::of("", error);
        let state = self.ctx.state();
        let schema = DFSchema::empty();
        let expr = state.create_logical_expr(&expr.to_string(), &schema).map_err(of)?;
        let context = SimplifyContext::builder().with_schema(Arc::new(schema)).with_current_time().build();
        match ExprSimplifier::new(context).simplify(expr).map_err(of)? {
            Planned::Literal(value, _) => Ok(value),
            other => Err(Error::invalid(format!("{other} is no constant"))),
        }
    }
}

fn name_text(name: &ObjectName) -> String {
    let parts = name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.clone());
    parts.collect::<Vec<_>>().join(".")
}

/// A value as it was written, without its quotes.
fn setting_text(expr: &Expr) -> String {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => text.clone(),
        Expr::Identifier(ident) => ident.value.clone(),
        other => other.to_string().trim_matches('\'').to_owned(),
    }
}

fn show_name(variable: &[Ident]) -> String {
    let words: Vec<_> = variable.iter().map(|ident| ident.value.to_lowercase()).collect();
    match words.join(" ").as_str() {
        "time zone" | "timezone" => "TimeZone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        other => other.replace(" . ", "."),
    }
}

fn show_columns(variable: &[Ident]) -> Arc<[OutputColumn]> {
    let name = show_name(variable);
    if name == "all" { text_columns(&["name", "setting", "description"]) } else { text_columns(&[&name]) }
}

/// The OID of a type that `PREPARE` names; 0 leaves it to the statement.
fn declared_oid(name: &str) -> u32 {
    match name.to_lowercase().split(['(', ' ']).next().unwrap_or_default() {
        "int" | "integer" | "int4" => 23,
        "bigint" | "int8" => 20,
        "smallint" | "int2" => 21,
        "text" | "varchar" | "char" | "character" => 25,
        "double" | "float8" | "float" => 701,
        "real" | "float4" => 700,
        "numeric" | "decimal" => 1700,
        "bool" | "boolean" => 16,
        "date" => 1082,
        "timestamptz" => 1184,
        "timestamp" if name.to_lowercase().contains("with time zone") => 1184,
        "timestamp" => 1114,
        "interval" => 1186,
        _ => 0,
    }
}
