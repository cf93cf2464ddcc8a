//! The order in which points are stored: all of a series together, by time.

use std::sync::Arc;

use arrow::{compute::SortOptions, datatypes::Schema};
use datafusion::{
    logical_expr::SortExpr,
    physical_expr::{LexOrdering, OrderingRequirements, PhysicalSortExpr, expressions::Column},
    prelude::col,
};

/// The columns of it.
pub(crate) const TABLE_ORDER: [&str; 3] = ["metric", "series_id", "time"];

/// The order, to sort a plan by. It costs nothing where the store scans in order.
pub(crate) fn in_table_order() -> [SortExpr; 3] {
    TABLE_ORDER.map(|name| col(name).sort(true, false))
}

/// The same as what a node requires of its one input, which has `schema`.
pub(crate) fn required_table_order(schema: &Schema) -> Vec<Option<OrderingRequirements>> {
    let columns = TABLE_ORDER.iter().filter_map(|name| Some(Column::new(name, schema.index_of(name).ok()?)));
    let ascending = SortOptions { descending: false, nulls_first: false };
    let order = columns.map(|column| PhysicalSortExpr::new(Arc::new(column), ascending));
    vec![LexOrdering::new(order).map(Into::into)]
}
