//! `?` of ODBC, JDBC and Python as `$1`, `$2`, … in the order of the text.

use std::ops::ControlFlow;

use datafusion::sql::{
    parser::Statement,
    sqlparser::{
        ast::{Expr, Statement as SqlStatement, Value, ValueWithSpan, visit_expressions_mut},
        tokenizer::Location,
    },
};

use crate::error::{Error, Result};

/// Gives each `?` of `statement` its number.
///
/// # Errors
/// [`Error::Invalid`] if there are numbered parameters beside them.
pub(crate) fn number_placeholders(statement: &mut Statement) -> Result<()> {
    let Some(statement) = sql_of(statement) else { return Ok(()) };
    let (mut places, mut others) = (Vec::new(), false);
    visit(statement, |name, place| {
        if name == "?" {
            places.push(place);
        } else {
            others = true;
        }
    });
    if places.is_empty() {
        return Ok(());
    }
    if others {
        return Err(Error::invalid("parameters are written either all as ? or all as $1, $2, …"));
    }
    places.sort_unstable();
    visit(statement, |name, place| {
        let number = places.partition_point(|earlier| *earlier < place) + 1;
        *name = format!("${number}");
    });
    Ok(())
}

fn sql_of(statement: &mut Statement) -> Option<&mut SqlStatement> {
    match statement {
        Statement::Statement(statement) => Some(statement),
        Statement::Explain(explain) => sql_of(&mut explain.statement),
        _ => None,
    }
}

fn visit(statement: &mut SqlStatement, mut each: impl FnMut(&mut String, Location)) {
    let _all: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) = expr {
            each(name, span.start);
        }
        ControlFlow::Continue(())
    });
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn check(sql: &str, expected: Option<&str>) {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        let numbered = number_placeholders(&mut statement).map(|()| statement.to_string());
        assert_eq!(numbered.ok().as_deref(), expected, "{sql}");
    }

    #[test]
    fn question_marks_are_numbered_in_the_order_of_the_text() {
        check("SELECT ?, '?' FROM t", Some("SELECT $1, '?' FROM t"));
        check(
            "WITH a AS (SELECT ? AS x)\nSELECT CASE WHEN x > ? THEN ? END FROM a WHERE y IN (?, ?) LIMIT ?",
            Some("WITH a AS (SELECT $1 AS x) SELECT CASE WHEN x > $2 THEN $3 END FROM a WHERE y IN ($4, $5) LIMIT $6"),
        );
        check("EXPLAIN SELECT ?", Some("EXPLAIN SELECT $1"));
        check("SELECT $2, $1", Some("SELECT $2, $1"));
        check("SELECT $1, ?", None);
    }
}
