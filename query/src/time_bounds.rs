//! What predicates leave of the column `time`.

use datafusion::{
    common::ScalarValue,
    logical_expr::{BinaryExpr, Expr, Operator, utils::split_conjunction},
};

pub(crate) const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// First and last moment that may be asked for, UTC microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeBounds {
    pub(crate) first_us: Option<i64>,
    pub(crate) last_us: Option<i64>,
}

impl TimeBounds {
    pub(crate) fn of<'a>(predicates: impl IntoIterator<Item = &'a Expr>) -> Self {
        predicates.into_iter().fold(Self::default(), Self::narrowed)
    }

    pub(crate) fn narrowed(mut self, predicate: &Expr) -> Self {
        for expr in split_conjunction(predicate) {
            let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { continue };
            let (op, time) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) if column.name == "time" => (Some(*op), value),
                (Expr::Literal(value, _), Expr::Column(column)) if column.name == "time" => (op.swap(), value),
                _ => continue,
            };
            let ScalarValue::TimestampMicrosecond(Some(time_us), _) = time else { continue };
            if matches!(op, Some(Operator::Gt | Operator::GtEq | Operator::Eq)) {
                self.first_us = self.first_us.max(Some(*time_us));
            }
            if matches!(op, Some(Operator::Lt | Operator::LtEq | Operator::Eq)) {
                self.last_us = Some(self.last_us.map_or(*time_us, |last_us| last_us.min(*time_us)));
            }
        }
        self
    }
}

/// The moment `us` as a value of the column `time`.
pub(crate) fn time(us: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()))
}

/// The day of `us` as a value of the column `date`.
pub(crate) fn date(us: i64) -> ScalarValue {
    ScalarValue::Date32(i32::try_from(us.div_euclid(DAY_US)).ok())
}
