//! From a rule and a schema to the state that decides it, or to the reason why it cannot be decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Schema};
use regex::{Regex, RegexBuilder};

use super::accumulator::{Accumulator, ClassCounts};
use super::column::{Column, Kind};
use super::key_set::{EXACT_KEYS_MAX, KeySet, SKETCH_KEYS_MAX};
use super::order_histogram::OrderHistogram;
use super::row_test::{RowTest, ValueSet};
use super::sample::Samples;
use crate::gates::error::{Error, Result};
use crate::gates::result::Status;
use crate::gates::rule::{Rule, RuleKind};

/// A compiled pattern may take this much; larger ones come from repetitions such as `{1000}{1000}`.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The values of a column of another table.
#[derive(Debug, Clone)]
pub struct Reference {
    kind: Kind,
    keys: KeySet,
}

impl Reference {
    /// An empty set of values of this type.
    pub fn new(data_type: &DataType) -> Self {
        Self { kind: Kind::of(data_type), keys: KeySet::new(EXACT_KEYS_MAX) }
    }

    /// Adds the values of one batch; nulls are left out.
    ///
    /// # Errors
    /// [`Error::SchemaChanged`] if the batch has another type, [`Error::Column`] if it cannot be read.
    pub fn add(&mut self, array: &ArrayRef) -> Result<()> {
        if Kind::of(array.data_type()) != self.kind {
            let difference = format!("the referenced column became {}", array.data_type());
            return Err(Error::SchemaChanged { difference });
        }
        let column = Column::new(array).map_err(|source| Error::Column { column: "reference".into(), source })?;
        let hashes = column.hashes().unwrap_or_default();
        for row in (0..hashes.len()).filter(|row| column.is_valid(*row)) {
            self.keys.add(hashes[row]);
        }
        Ok(())
    }
}

/// Columns of other tables, by `table.column`.
pub type References = BTreeMap<String, Reference>;

/// Why a rule is not evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: Status,
    pub(crate) reason: String,
}

impl Problem {
    pub(crate) fn error(reason: impl Into<String>) -> Self {
        Self { status: Status::Error, reason: reason.into() }
    }

    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Self { status: Status::Skipped, reason: reason.into() }
    }
}

/// How a rule is decided.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// By the number of rows, the schema and the past.
    Table,
    /// By a state that is fed with these columns.
    Rows(Vec<usize>, Box<Accumulator>),
}

/// Plans one rule.
pub(crate) fn plan(rule: &Rule, schema: &Schema, references: &References) -> std::result::Result<Plan, Problem> {
    let key = |columns: &[String], keys_max: usize| {
        let indices = columns.iter().map(|name| find(schema, name)).collect::<std::result::Result<Vec<usize>, _>>()?;
        if indices.is_empty() {
            return Err(Problem::error("the rule names no column; list those of the key"));
        }
        for index in &indices {
            if Kind::of(schema.field(*index).data_type()) == Kind::Other {
                return Err(unfit(schema, *index, "numbers, texts, truth values or times"));
            }
        }
        Ok(Plan::Rows(indices, Box::new(Accumulator::Keys { set: KeySet::new(keys_max), samples: Samples::default() })))
    };
    match &rule.kind {
        RuleKind::RowCount(_) | RuleKind::RowCountOfPast { .. } | RuleKind::Schema { .. } => Ok(Plan::Table),
        RuleKind::Unsupported { reason } => Err(Problem::skipped(reason.clone())),
        RuleKind::Images(_) => Err(Problem::skipped("this is a file of rows; check a folder or a manifest of images")),
        RuleKind::Duplicates { columns, .. } | RuleKind::Uniqueness { columns, .. } => key(columns, EXACT_KEYS_MAX),
        RuleKind::DistinctOfPast { .. } => key(rule.column.as_slice(), SKETCH_KEYS_MAX),
        _ => {
            let Some(name) = &rule.column else {
                return Err(Problem::error("the rule names no column; put it under one"));
            };
            let index = find(schema, name)?;
            let state = plan_column(rule, schema, index, references)?;
            Ok(state.map_or(Plan::Table, |state| Plan::Rows(vec![index], Box::new(state))))
        }
    }
}

fn plan_column(
    rule: &Rule,
    schema: &Schema,
    index: usize,
    references: &References,
) -> std::result::Result<Option<Accumulator>, Problem> {
    let kind = Kind::of(schema.field(index).data_type());
    let needs = |fits: bool, wanted: &str| if fits { Ok(()) } else { Err(unfit(schema, index, wanted)) };
    let test = match &rule.kind {
        RuleKind::Missing { tokens, .. } => {
            // A token that is no value of the column cannot occur in it.
            let (set, _) = ValueSet::new(schema.field(index).data_type(), tokens);
            RowTest::Missing((!tokens.is_empty()).then_some(set))
        }
        RuleKind::NonFinite(_) => {
            needs(kind.is_number(), "numbers")?;
            RowTest::NonFinite
        }
        RuleKind::AllowedSet { values, .. } => {
            needs(!matches!(kind, Kind::Time | Kind::Other), "numbers, texts or truth values")?;
            let (set, unreadable) = ValueSet::new(schema.field(index).data_type(), values);
            if let Some(value) = unreadable.first() {
                return Err(Problem::error(format!(
                    "the allowed value {value:?} is none of {}",
                    schema.field(index).data_type()
                )));
            }
            RowTest::InSet(set)
        }
        RuleKind::Pattern { regex, .. } => {
            needs(!matches!(kind, Kind::Time | Kind::Other), "texts, numbers or truth values")?;
            RowTest::Matches(compile_pattern(regex)?)
        }
        RuleKind::LabelFormat { format, .. } => {
            needs(matches!(kind, Kind::Text | Kind::Integer | Kind::Unsigned), "texts or whole numbers")?;
            RowTest::Matches(compile_pattern(format.pattern())?)
        }
        RuleKind::Range { interval, .. } => {
            needs(kind.is_number(), "numbers")?;
            RowTest::Inside(*interval)
        }
        RuleKind::Reference { to, .. } => RowTest::Refers(reference(to, kind, references)?),
        RuleKind::IqrOutliers { .. } | RuleKind::RobustZ { .. } => {
            needs(kind.is_number(), "numbers")?;
            return Ok(Some(Accumulator::Order(OrderHistogram::default())));
        }
        RuleKind::Constant => {
            needs(kind != Kind::Other, "numbers, texts, truth values or times")?;
            return Ok(Some(Accumulator::Constant { first: None, varied: false, checked: 0 }));
        }
        RuleKind::Monotone { strict, .. } => {
            needs(kind.is_number() || kind == Kind::Time, "numbers or times")?;
            return Ok(Some(Accumulator::monotone(*strict)));
        }
        RuleKind::Freshness { .. } => {
            needs(kind == Kind::Time, "timestamps or dates")?;
            return Ok(Some(Accumulator::Newest { newest_ns: None, checked: 0 }));
        }
        RuleKind::ClassBalance { .. } => {
            needs(!matches!(kind, Kind::Time | Kind::Other), "numbers, texts or truth values")?;
            return Ok(Some(Accumulator::Classes(ClassCounts::default())));
        }
        _ => return Ok(None),
    };
    Ok(Some(Accumulator::rows(test)))
}

fn find(schema: &Schema, name: &str) -> std::result::Result<usize, Problem> {
    schema.index_of(name).map_err(|_| {
        let mut names =
            schema.fields().iter().take(20).map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        if schema.fields().len() > 20 {
            names.push_str(", …");
        }
        Problem::error(format!("the data has no column {name:?}; it has {names}"))
    })
}

fn unfit(schema: &Schema, index: usize, wanted: &str) -> Problem {
    let field = schema.field(index);
    Problem::error(format!("{:?} is {}, but the rule needs {wanted}", field.name(), field.data_type()))
}

fn reference(to: &str, kind: Kind, references: &References) -> std::result::Result<Arc<KeySet>, Problem> {
    let Some(reference) = references.get(to) else {
        let table = to.rsplit_once('.').map_or(to, |(table, _)| table);
        return Err(Problem::skipped(format!("the data of {to} was not given; add --reference {table}=FILE")));
    };
    if reference.kind != kind {
        return Err(Problem::error(format!(
            "{to} is {:?}, but the column is {kind:?}; cast one of them",
            reference.kind
        )));
    }
    if !reference.keys.is_exact() {
        return Err(Problem::error(format!(
            "{to} has more than {EXACT_KEYS_MAX} distinct values; check it in the database"
        )));
    }
    Ok(Arc::new(reference.keys.clone()))
}

/// Compiles a pattern with the syntax and the limits of this module.
pub(crate) fn compile_pattern(pattern: &str) -> std::result::Result<Regex, Problem> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| {
        // The message of the crate draws the pattern over several lines; its last line says what is wrong.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_string();
        Problem::error(format!("the pattern {pattern:?} cannot be used: {last}"))
    })
}
