//! Text of a client as statements, and what of PostgreSQL's SQL has to be said otherwise to the engine.

mod names;
mod rewrite;

use std::sync::Arc;

use datafusion::sql::sqlparser::{
    ast::{Query, SetExpr, Statement as Ast},
    dialect::PostgreSqlDialect,
    parser::{Parser, ParserError},
};

pub(crate) use self::{names::output_names, rewrite::Rewriter};
use super::failure::Failure;

/// A statement text longer than this is refused, as it is over HTTP.
pub(crate) const TEXT_SIZE_BYTES_MAX: usize = 1 << 20;

/// One statement.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) ast: Ast,
    /// As it is shown to people.
    pub(crate) text: Arc<str>,
    /// The text it stands in, in which the positions of errors count.
    pub(crate) source: Arc<str>,
}

/// Reads the statements of `text`; none of a text that is empty but for comments.
///
/// # Errors
/// A text that is no SQL, with the place, or too long.
pub(crate) fn parse(text: &str) -> Result<Vec<Statement>, Failure> {
    if text.len() > TEXT_SIZE_BYTES_MAX {
        let message =
            format!("a statement of {} bytes is longer than the {TEXT_SIZE_BYTES_MAX} that are taken", text.len());
        return Err(Failure::new("54000", message));
    }
    let of = |error: ParserError| Failure::from(crate::error::Error::of(text, error.into()));
    let mut tokens = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).map_err(of)?;
    let mut statements = tokens.parse_statements().map_err(of)?;
    let source: Arc<str> = text.into();
    if let [_] = statements.as_slice() {
        let whole = |ast| Statement { ast, text: Arc::clone(&source), source: Arc::clone(&source) };
        return Ok(statements.drain(..).map(whole).collect());
    }
    let part = |ast: Ast| Statement { text: ast.to_string().into(), ast, source: Arc::clone(&source) };
    Ok(statements.into_iter().map(part).collect())
}

/// The `SELECT` whose columns a query gives.
fn first_select(query: &Query) -> Option<&datafusion::sql::sqlparser::ast::Select> {
    let mut body = query.body.as_ref();
    loop {
        body = match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::Query(query) => query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => left.as_ref(),
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_and_errors_have_their_place() {
        let texts =
            |sql: &str| parse(sql).unwrap().into_iter().map(|statement| statement.text.to_string()).collect::<Vec<_>>();
        assert_eq!(texts("SELECT 1 -- one"), ["SELECT 1 -- one"]);
        assert_eq!(texts("SELECT 1; ;SELECT  2;"), ["SELECT 1", "SELECT 2"]);
        for empty in ["", ";", " ; ; ", "-- ping", "/* */"] {
            assert!(texts(empty).is_empty(), "{empty}");
        }
        let failure = parse("SELECT 1\nFRM x y").unwrap_err();
        assert_eq!((failure.code, failure.position), ("42601", Some(14)), "{}", failure.message);
        assert_eq!(parse(&"(".repeat(10_000)).unwrap_err().code, "54001");
        assert_eq!(parse(&" ".repeat(TEXT_SIZE_BYTES_MAX + 1)).unwrap_err().code, "54000");
    }
}
