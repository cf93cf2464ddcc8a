//! What of PostgreSQL's SQL the engine says otherwise.
//!
//! Every statement gets the rewrites that change no answer. Those of `datafusion-pg-catalog` that may (a correlated subquery
//! becomes null) are for questions of clients about the catalog only, which the engine could not answer at all.

use std::{collections::HashSet, ops::ControlFlow};

use datafusion::sql::sqlparser::{
    ast::{
        AccessExpr, BinaryOperator, DataType, Expr, FunctionArguments, GroupByExpr, Ident, Query, Select, SelectItem,
        SetExpr, Statement as Ast, Value, VisitMut, VisitorMut, visit_expressions, visit_relations,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};
use datafusion_pg_catalog::{
    pg_catalog::PG_CATALOG_TABLES,
    sql::{
        PostgresCompatibilityParser,
        rules::{
            CurrentUserVariableToSessionUserFunctionCall, FixArrayLiteral, PrependUnqualifiedPgTableName,
            RewriteArrayAnyAllOperation, RewritePgCatalogOperator, RewriteRegCastToSubquery, SqlStatementRewriteRule,
            StripCallableQualifier, StripCollate,
        },
    },
};

const SHOW_TABLES: &str = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables \
     WHERE table_schema <> 'pg_catalog'";

/// What a subquery as an array becomes: the engine has no such, and it stands for options and members that nothing has.
const NO_ARRAY: &str = "CAST(NULL AS TEXT[])";

/// The rewrites, made once.
#[derive(Debug)]
pub(crate) struct Rewriter {
    always: Vec<Box<dyn SqlStatementRewriteRule>>,
    of_catalog: Vec<Box<dyn SqlStatementRewriteRule>>,
    compatibility: PostgresCompatibilityParser,
    /// Of `SHOW TABLES`, which over HTTP knows no `pg_catalog` either.
    show_tables: Ast,
}

impl Rewriter {
    pub(crate) fn new() -> Self {
        Self {
            always: vec![
                Box::new(RewriteArrayAnyAllOperation),
                Box::new(StripCallableQualifier),
                Box::new(FixArrayLiteral),
                Box::new(CurrentUserVariableToSessionUserFunctionCall),
                Box::new(StripCollate),
                Box::new(RewritePgCatalogOperator),
            ],
            of_catalog: vec![Box::new(PrependUnqualifiedPgTableName), Box::new(RewriteRegCastToSubquery::new())],
            compatibility: PostgresCompatibilityParser::new(),
            show_tables: parsed(SHOW_TABLES),
        }
    }

    /// The statement as the engine plans it; `search_path` is that of the connection.
    pub(crate) fn rewrite(&self, mut ast: Ast, search_path: &[String]) -> Ast {
        if is_show_tables(&ast) {
            return self.show_tables.clone();
        }
        let is_about_catalog = is_about_catalog(&ast);
        let of_catalog = if is_about_catalog { self.of_catalog.as_slice() } else { &[] };
        if is_about_catalog {
            let _always_continues = ast.visit(&mut FunctionNames);
        }
        let rules = self.always.iter().chain(of_catalog);
        let mut ast = rules.fold(ast, |ast, rule| rule.rewrite(ast));
        let _always_continues = ast.visit(&mut Own { search_path, is_about_catalog });
        ast
    }

    /// Another way to say a question about the catalog that could not be planned; `None` if there is none. It knows some
    /// questions by their `text`.
    pub(crate) fn other_way(&self, ast: &Ast, text: &str) -> Option<Ast> {
        if !is_about_catalog(ast) {
            return None;
        }
        let mut statements = self.compatibility.parse(text).ok()?;
        let [_] = statements.as_slice() else { return None };
        let mut ast = statements.remove(0);
        let _always_continues = ast.visit(&mut Own { search_path: &[], is_about_catalog: true });
        Some(ast)
    }
}

/// A text of our own as a statement.
fn parsed(sql: &str) -> Ast {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql);
    statements.ok().and_then(|mut statements| statements.pop()).expect("our own SQL reads")
}

/// A text as an expression, if it is one.
fn expression(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr()).ok()
}

fn is_show_tables(ast: &Ast) -> bool {
    matches!(ast, Ast::ShowTables { .. }) && ast.to_string() == "SHOW TABLES"
}

/// Whether a statement reads tables of `pg_catalog`.
fn is_about_catalog(ast: &Ast) -> bool {
    let found = visit_relations(ast, |name| {
        let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let is_own = match parts.as_slice() {
            [table] => PG_CATALOG_TABLES.contains(&table.value.to_lowercase().as_str()),
            [.., schema, _] => schema.value.eq_ignore_ascii_case("pg_catalog"),
            [] => false,
        };
        if is_own { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

struct Own<'a> {
    search_path: &'a [String],
    is_about_catalog: bool,
}

impl VisitorMut for Own<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        distinct_in(query.body.as_mut());
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && function.name.to_string() == "_pg_expandarray"
            && let Some(rows) = expression(&format!("unnest({function})"))
        {
            *expr = rows;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::InSubquery { expr: tested, subquery, negated } = expr
            && is_search_path(subquery)
        {
            let schemas = self.search_path.iter().map(|name| Value::SingleQuotedString(name.clone()));
            let list: Vec<_> = schemas.map(|name| Expr::Value(name.with_empty_span())).collect();
            *expr = Expr::InList { expr: tested.clone(), list, negated: *negated };
        }
        if let Expr::CompoundFieldAccess { root, access_chain } = expr
            && let [AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice()
            && let Some(access) = expression(&format!("get_field({root}, '{}')", field.value.replace('\'', "''")))
        {
            *expr = access;
        }
        if self.is_about_catalog
            && let Expr::Subquery(query) = expr
        {
            one_row(query);
        }
        if let Expr::Function(function) = expr
            && matches!(function.args, FunctionArguments::Subquery(_))
            && function.name.to_string().eq_ignore_ascii_case("array")
            && let Some(none) = expression(NO_ARRAY)
        {
            *expr = none;
        }
        ControlFlow::Continue(())
    }
}

/// `typinput = 'pg_catalog.array_in'::regproc`: the catalog has the functions of types by name.
struct FunctionNames;

impl VisitorMut for FunctionNames {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = expr
            && !left.to_string().to_lowercase().ends_with("oid")
            && let Expr::Cast { expr: name, data_type: DataType::Custom(to, _), .. } = right.as_mut()
            && to.to_string().eq_ignore_ascii_case("regproc")
            && let Expr::Value(name) = name.as_mut()
            && let Value::SingleQuotedString(text) = &name.value
        {
            let short = text.rsplit('.').next().unwrap_or(text).to_owned();
            **right = Expr::Value(Value::SingleQuotedString(short).with_empty_span());
        }
        ControlFlow::Continue(())
    }
}

/// Grafana's query builder asks with this subquery whether a schema is in the search path: a set-returning function whose
/// name is also that of its column, which the engine does not have.
fn is_search_path(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    select.from.len() == 2
        && select.from.iter().all(|from| from.to_string().contains("string_to_array(current_setting('search_path')"))
}

/// Says of a subquery without an aggregate that it gives one row, as the engine wants to hear of one that names columns from
/// outside. In the catalog such a subquery asks by the id of an object.
fn one_row(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    if is_grouped || select.distinct.is_some() || query.order_by.is_some() || query.limit_clause.is_some() {
        return;
    }
    let [SelectItem::UnnamedExpr(shown)] = select.projection.as_mut_slice() else { return };
    // A function may be an aggregate.
    let found = visit_expressions(shown, |expr| match expr {
        Expr::Function(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if found.is_continue()
        && let Some(first) = expression(&format!("first_value({shown})"))
    {
        *shown = first;
    }
}

/// Gives a name of its own to what a `SELECT` asks for twice, which the engine refuses. Clients are told the names that
/// [`super::output_names`] finds.
fn distinct_in(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => distinct(select),
        SetExpr::SetOperation { left, right, .. } => {
            distinct_in(left);
            distinct_in(right);
        }
        _ => {}
    }
}

fn distinct(select: &mut Select) {
    let mut seen = HashSet::new();
    for (place, item) in select.projection.iter_mut().enumerate() {
        let (expr, name) = match item {
            SelectItem::UnnamedExpr(expr) => (expr.clone(), expr.to_string()),
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), alias.value.clone()),
            _ => continue,
        };
        if !seen.insert(name) {
            let alias = Ident::with_quote('"', format!("column {}", place + 1));
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::statement::parse;

    fn rewritten(sql: &str) -> String {
        let ast = parse(sql).unwrap().remove(0).ast;
        Rewriter::new().rewrite(ast, &["public".to_owned()]).to_string()
    }

    #[test]
    fn questions_about_data_keep_their_subqueries() {
        let sql = "SELECT (SELECT max(value) FROM gpu WHERE gpu.time = m.time) FROM metrics AS m";
        assert_eq!(rewritten(sql), sql);
        assert_eq!(rewritten("SELECT time, * FROM gpu"), "SELECT time, * FROM gpu");
    }

    #[test]
    fn what_is_asked_for_twice_has_two_names() {
        assert_eq!(rewritten("SELECT 1, 1 AS a, 2 AS a"), "SELECT 1, 1 AS a, 2 AS \"column 3\"");
        assert!(rewritten("SELECT NULL, NULL UNION SELECT 1, 1").contains("UNION SELECT 1, 1 AS \"column 2\""));
    }

    #[test]
    fn the_catalog_is_found_without_its_schema() {
        assert_eq!(rewritten("SELECT oid FROM pg_class"), "SELECT oid FROM pg_catalog.pg_class");
        assert_eq!(rewritten("SELECT pg_catalog.version()"), "SELECT version()");
    }

    #[test]
    fn fields_are_named_after_a_point_and_functions_of_types_by_name() {
        assert_eq!(rewritten("SELECT (f(a)).n FROM t"), "SELECT get_field((f(a)), 'n') FROM t");
        let sql = "SELECT (information_schema._pg_expandarray(indkey)).n FROM pg_index";
        let expected = "SELECT get_field((unnest(_pg_expandarray(indkey))), 'n') FROM pg_catalog.pg_index";
        assert_eq!(rewritten(sql), expected);
        let sql = "SELECT typinput = 'pg_catalog.array_in'::regproc FROM pg_type";
        assert_eq!(rewritten(sql), "SELECT typinput = 'array_in' FROM pg_catalog.pg_type");
    }

    #[test]
    fn a_subquery_about_the_catalog_gives_one_row() {
        let about_class = |shown| {
            format!(
                "SELECT (SELECT {shown} FROM pg_catalog.pg_class AS c WHERE c.oid = t.typrelid) FROM pg_catalog.pg_type AS t"
            )
        };
        assert_eq!(rewritten(&about_class("c.relkind = 'c'")), about_class("first_value(c.relkind = 'c')"));
        assert_eq!(rewritten(&about_class("max(c.relname)")), about_class("max(c.relname)"));
    }
}
