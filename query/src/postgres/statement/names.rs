//! What PostgreSQL calls the columns of an answer.

use datafusion::sql::sqlparser::ast::{Expr, SelectItem, Statement as Ast};

use super::first_select;

/// The names of an answer whose columns the engine calls `given`: those that the statement gives, and for expressions what
/// PostgreSQL calls them.
pub(crate) fn output_names(statement: &Ast, given: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
    let Ast::Query(query) = statement else { return names };
    let Some(select) = first_select(query) else { return names };
    let items = &select.projection;
    let wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    // Columns of a wildcard have their names; what stands before and after it is told by its place.
    let before = items.iter().take_while(|item| !wild(item)).count();
    let after = if before == items.len() { 0 } else { items.iter().rev().take_while(|item| !wild(item)).count() };
    if before + after > names.len() {
        return names;
    }
    let last = names.len() - after;
    for (place, item) in items.iter().enumerate() {
        let index = if place < before {
            place
        } else if place >= items.len() - after {
            last + place - (items.len() - after)
        } else {
            continue;
        };
        if let Some(name) = item_name(item) {
            names[index] = name;
        }
    }
    names
}

fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(expr) => Some(expression_name(expr).unwrap_or_else(|| "?column?".to_owned())),
        _ => None,
    }
}

fn folded(ident: &datafusion::sql::sqlparser::ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Source: `FigureColnameInternal` in `src/backend/parser/parse_target.c` of PostgreSQL.
fn expression_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(folded),
        Expr::CompoundFieldAccess { root, .. } => expression_name(root),
        Expr::Function(function) => {
            function.name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase())
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => expression_name(inner),
        Expr::Cast { expr, data_type, .. } => expression_name(expr).or_else(|| type_name(&data_type.to_string())),
        Expr::Case { else_result, .. } => {
            else_result.as_ref().and_then(|result| expression_name(result)).or_else(|| Some("case".to_owned()))
        }
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Floor { .. } => Some("floor".to_owned()),
        Expr::Ceil { .. } => Some("ceil".to_owned()),
        Expr::Position { .. } => Some("position".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Trim { .. } => Some("btrim".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Interval(_) => Some("interval".to_owned()),
        Expr::Subquery(query) => match first_select(query)?.projection.first()? {
            SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
            SelectItem::UnnamedExpr(expr) => expression_name(expr),
            _ => None,
        },
        _ => None,
    }
}

fn type_name(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    let own = match text.split(['(', ' ']).next()?.rsplit('.').next()? {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "boolean" => "bool",
        "double" | "float" => "float8",
        "real" => "float4",
        "decimal" => "numeric",
        "timestamp" if text.contains("with time zone") => "timestamptz",
        other => other,
    };
    Some(own.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::statement::parse;

    fn names(sql: &str, given: &[&str]) -> Vec<String> {
        output_names(&parse(sql).unwrap()[0].ast, given)
    }

    #[test]
    fn expressions_have_the_names_that_postgresql_gives_them() {
        let sql = "SELECT 1, count(*), a.b, now() AS \"Now\", x::int, 1::bigint, CASE WHEN true THEN 1 END, floor(x)";
        let expected = ["?column?", "count", "b", "Now", "x", "int8", "case", "floor"];
        assert_eq!(names(sql, &["1", "2", "3", "4", "5", "6", "7", "8"]), expected);
        assert_eq!(names("SELECT 1, t.*, 2 FROM t", &["a", "b", "c", "d"]), ["?column?", "b", "c", "?column?"]);
        assert_eq!(names("SELECT 1 AS x UNION SELECT 2", &["q"]), ["x"]);
        assert_eq!(names("VALUES (1)", &["column1"]), ["column1"]);
    }
}
