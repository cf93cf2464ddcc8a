//! Conditions on a number, as the operators of the Open Data Contract Standard state them.

use std::fmt;

/// One operator with what it compares to.
///
/// Source: Open Data Contract Standard 3.1, "Valid Properties for Operator". Its `Between` leaves out both ends: the
/// text defines it as greater than the first and less than the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Condition {
    /// `mustBe`
    Equal(f64),
    /// `mustNotBe`
    NotEqual(f64),
    /// `mustBeGreaterThan`
    Greater(f64),
    /// `mustBeGreaterOrEqualTo`
    GreaterOrEqual(f64),
    /// `mustBeLessThan`
    Less(f64),
    /// `mustBeLessOrEqualTo`
    LessOrEqual(f64),
    /// `mustBeBetween`, without its ends.
    Between(f64, f64),
    /// `mustNotBeBetween`: the complement of `Between`.
    NotBetween(f64, f64),
}

impl Condition {
    /// Whether the condition holds for every number of `low..=high`; `None` if for some of them only.
    fn decide(self, low: f64, high: f64) -> Option<bool> {
        let sure = |always: bool, never: bool| match (always, never) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        match self {
            Self::Equal(x) => sure(low == x && high == x, high < x || low > x),
            Self::NotEqual(x) => Self::Equal(x).decide(low, high).map(|holds| !holds),
            Self::Greater(x) => sure(low > x, high <= x),
            Self::GreaterOrEqual(x) => sure(low >= x, high < x),
            Self::Less(x) => sure(high < x, low >= x),
            Self::LessOrEqual(x) => sure(high <= x, low > x),
            Self::Between(from, to) => sure(low > from && high < to, high <= from || low >= to),
            Self::NotBetween(from, to) => Self::Between(from, to).decide(low, high).map(|holds| !holds),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(x) => write!(f, "= {x}"),
            Self::NotEqual(x) => write!(f, "≠ {x}"),
            Self::Greater(x) => write!(f, "> {x}"),
            Self::GreaterOrEqual(x) => write!(f, "≥ {x}"),
            Self::Less(x) => write!(f, "< {x}"),
            Self::LessOrEqual(x) => write!(f, "≤ {x}"),
            Self::Between(from, to) => write!(f, "> {from} and < {to}"),
            Self::NotBetween(from, to) => write!(f, "not (> {from} and < {to})"),
        }
    }
}

/// What a count is compared in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// Rows, as they are.
    #[default]
    Rows,
    /// Percent of the rows that the rule looked at.
    Percent,
}

/// Conditions that all have to hold for a count of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// Never empty.
    conditions: Vec<Condition>,
    unit: Unit,
}

impl Limit {
    /// A limit of one condition.
    pub fn new(condition: Condition, unit: Unit) -> Self {
        Self { conditions: vec![condition], unit }
    }

    /// A limit of several conditions, all of which have to hold; `None` if there are none.
    pub fn all(conditions: Vec<Condition>, unit: Unit) -> Option<Self> {
        (!conditions.is_empty()).then_some(Self { conditions, unit })
    }

    /// No row at all.
    pub fn none() -> Self {
        Self::new(Condition::Equal(0.0), Unit::Rows)
    }

    /// At most this share of the rows, in percent.
    pub fn percent_max(percent: f64) -> Self {
        Self::new(Condition::LessOrEqual(percent), Unit::Percent)
    }

    /// What the count is compared in.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The number that is compared: the count itself, or its percentage of `of` rows, which must not be 0.
    pub fn value(&self, count: f64, of: u64) -> f64 {
        match self.unit {
            Unit::Rows => count,
            Unit::Percent => count * 100.0 / of as f64,
        }
    }

    /// Whether the limit holds for a count that lies within `low..=high` of `of` rows; `None` if that cannot be told.
    pub fn decide(&self, low: f64, high: f64, of: u64) -> Option<bool> {
        let (low, high) = (self.value(low, of), self.value(high, of));
        let mut all = Some(true);
        for condition in &self.conditions {
            match condition.decide(low, high) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => all = None,
            }
        }
        all
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.conditions.iter().enumerate() {
            write!(f, "{}{condition}", if index > 0 { " and " } else { "" })?;
        }
        f.write_str(match self.unit {
            Unit::Rows => " rows",
            Unit::Percent => " % of rows",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_decides_both_ways_and_says_when_it_cannot() {
        use Condition::*;
        let check = |condition: Condition, yes: f64, no: f64| {
            assert_eq!(condition.decide(yes, yes), Some(true), "{condition} of {yes}");
            assert_eq!(condition.decide(no, no), Some(false), "{condition} of {no}");
            assert_eq!(condition.decide(yes.min(no), yes.max(no)), None, "{condition} between");
        };
        check(Equal(5.0), 5.0, 6.0);
        check(NotEqual(5.0), 6.0, 5.0);
        check(Greater(5.0), 6.0, 5.0);
        check(GreaterOrEqual(5.0), 5.0, 4.0);
        check(Less(5.0), 4.0, 5.0);
        check(LessOrEqual(5.0), 5.0, 6.0);
        check(Between(1.0, 5.0), 4.0, 5.0);
        check(NotBetween(1.0, 5.0), 5.0, 4.0);
    }

    #[test]
    fn percent_is_of_the_rows_looked_at() {
        let limit = Limit::new(Condition::Less(1.0), Unit::Percent);
        assert_eq!(limit.decide(9.0, 9.0, 1000), Some(true));
        assert_eq!(limit.decide(10.0, 10.0, 1000), Some(false));
        assert_eq!(limit.decide(5.0, 15.0, 1000), None);
        assert_eq!(limit.to_string(), "< 1 % of rows");
        let both = Limit::all(vec![Condition::Greater(0.0), Condition::Less(10.0)], Unit::Rows).unwrap();
        assert_eq!(both.decide(10.0, 10.0, 0), Some(false));
        assert_eq!(both.to_string(), "> 0 and < 10 rows");
        assert_eq!(Limit::all(Vec::new(), Unit::Rows), None);
    }
}
