//! `role_suggestion`: for a metric without a role, the row of the table whose name is most like it.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{AsArray, StringArray},
    compute::cast,
    datatypes::DataType,
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use super::RoleTable;

/// Names that share less of their words than this are not alike.
const LIKENESS_MIN: f64 = 0.5;
/// Words that say nothing about what is measured.
const EMPTY_WORDS: [&str; 8] = ["total", "seconds", "bytes", "ratio", "fi", "dev", "prof", "usage"];

/// `role_suggestion(metric)`: `role, as METRIC of SOURCE`, or null. A suggestion is for people; nothing applies it.
#[derive(Debug)]
pub(crate) struct RoleSuggestion {
    table: Arc<RoleTable>,
    signature: Signature,
}

impl RoleSuggestion {
    pub(crate) fn new(table: &Arc<RoleTable>) -> Self {
        Self { table: Arc::clone(table), signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl PartialEq for RoleSuggestion {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}

impl Eq for RoleSuggestion {}

impl Hash for RoleSuggestion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.table).hash(state);
    }
}

impl ScalarUDFImpl for RoleSuggestion {
    fn name(&self) -> &'static str {
        "role_suggestion"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let metrics = cast(&arrays[0], &DataType::Utf8)?;
        let found = metrics.as_string::<i32>().iter().map(|metric| suggestion(&self.table, metric?));
        Ok(ColumnarValue::Array(Arc::new(found.collect::<StringArray>())))
    }
}

/// The row whose name shares most words with `metric`.
pub(super) fn suggestion(table: &RoleTable, metric: &str) -> Option<String> {
    let asked = words(metric);
    let mut best: Option<(f64, usize)> = None;
    for (place, row) in table.rows.iter().enumerate().filter(|(_, row)| row.prefix().is_none()) {
        let known = words(&row.metric);
        let shared = asked.intersection(&known).count() as f64;
        let likeness = shared / (asked.len() + known.len()) as f64 * 2.0;
        if likeness >= LIKENESS_MIN && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, place));
        }
    }
    let row = &table.rows[best?.1];
    Some(format!("{}, as {} of {}", row.role, row.metric, row.source))
}

/// The words of a name, in lower case: `hw.gpu.memory_used` and `GPUMemoryUsed` alike.
fn words(name: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut word = String::new();
    let characters: Vec<char> = name.chars().collect();
    for (at, &c) in characters.iter().enumerate() {
        let next_is_lower = characters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        let before_is_lower = at > 0 && characters[at - 1].is_ascii_lowercase();
        let begins = c.is_ascii_uppercase() && (before_is_lower || next_is_lower);
        if begins || !c.is_ascii_alphanumeric() {
            words.insert(std::mem::take(&mut word));
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
    }
    words.insert(word);
    words.retain(|word| !word.is_empty() && !EMPTY_WORDS.contains(&word.as_str()));
    words
}
