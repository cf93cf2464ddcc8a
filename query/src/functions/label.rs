//! `label(attributes, 'key')`, and `label('key')` of the labels in scope.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, StringBuilder},
    datatypes::{DataType, FieldRef},
};
use datafusion::{
    common::{ScalarValue, exec_err, plan_err},
    error::Result,
    functions::core::get_field,
    logical_expr::{
        ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
        simplify::{ExprSimplifyResult, SimplifyContext},
    },
};

use super::about::about;

pub(crate) const LABEL: &str = "label";

/// Null where the series does not have the key.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    signature: Signature,
}

impl Label {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn is_of_texts(entries: &FieldRef) -> bool {
    matches!(entries.data_type(), DataType::Struct(fields) if fields.iter().all(|field| field.data_type().is_string()))
}

/// The same entries with keys and values of the one type of text that labels have.
fn as_texts(entries: &FieldRef) -> FieldRef {
    let DataType::Struct(fields) = entries.data_type() else { return Arc::clone(entries) };
    let fields = fields.iter().map(|field| field.as_ref().clone().with_data_type(DataType::Utf8));
    Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(fields.collect())))
}

impl ScalarUDFImpl for Label {
    fn name(&self) -> &str {
        LABEL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [key] if key.is_string() => Ok(vec![DataType::Utf8]),
            [DataType::Map(entries, is_sorted), key] if key.is_string() && is_of_texts(entries) => {
                Ok(vec![DataType::Map(as_texts(entries), *is_sorted), DataType::Utf8])
            }
            _ => plan_err!("label takes the name of a label, or a map of texts and a key: label('host.name')"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match args.as_slice() {
            [_, Expr::Literal(ScalarValue::Utf8(Some(_)), _)] => {
                let key = args.remove(1);
                Ok(ExprSimplifyResult::Simplified(get_field().call(vec![args.remove(0), key])))
            }
            _ => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [labels, keys] = arrays.as_slice() else {
            return exec_err!("label('key') stands for labels of a view, which are not in scope here");
        };
        let (labels, wanted) = (labels.as_map(), keys.as_string::<i32>());
        let mut found = StringBuilder::new();
        for row in 0..labels.len() {
            let entries = labels.value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            let entry = (0..keys.len()).find(|entry| wanted.is_valid(row) && keys.value(*entry) == wanted.value(row));
            found.append_option(entry.filter(|entry| values.is_valid(*entry)).map(|entry| values.value(entry)));
        }
        Ok(ColumnarValue::Array(Arc::new(found.finish())))
    }
}
