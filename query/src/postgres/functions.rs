//! Functions that clients of PostgreSQL call.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{Array as _, ArrayRef, Int32Array, StructArray},
    compute::cast,
    datatypes::{DataType, Field, Fields},
};
use datafusion::{
    common::{ScalarValue, exec_err, utils::SingleRowListArrayBuilder},
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility},
    prelude::SessionContext,
};

use super::settings::{SERVER_VERSION, Settings};

type Answer = dyn Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync;

/// A function of any arguments that is computed row by row.
struct RowFunction {
    name: &'static str,
    returns: DataType,
    signature: Signature,
    answer: Arc<Answer>,
}

impl RowFunction {
    fn udf(
        name: &'static str,
        returns: DataType,
        answer: impl Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync + 'static,
    ) -> ScalarUDF {
        let any = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
        // What a connection sets may differ from one statement to the next.
        let signature = Signature::new(any, Volatility::Stable);
        ScalarUDF::from(Self { name, returns, signature, answer: Arc::new(answer) })
    }

    /// One that says the same whatever it is asked.
    fn constant(name: &'static str, value: ScalarValue) -> ScalarUDF {
        Self::udf(name, value.data_type(), move |_| Ok(value.clone()))
    }
}

impl fmt::Debug for RowFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

// A session has one function of each name.
impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.returns == other.returns
    }
}

impl Eq for RowFunction {}

impl Hash for RowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars: Option<Vec<_>> = args
            .args
            .iter()
            .map(|value| match value {
                ColumnarValue::Scalar(value) => Some(value.clone()),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        if let Some(scalars) = scalars {
            return Ok(ColumnarValue::Scalar((self.answer)(&scalars)?));
        }
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let rows = (0..args.number_rows).map(|row| {
            let row: Result<Vec<_>> = arrays.iter().map(|array| ScalarValue::try_from_array(array, row)).collect();
            (self.answer)(&row?)
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let array: ArrayRef = if rows.is_empty() {
            arrow::array::new_empty_array(&self.returns)
        } else {
            ScalarValue::iter_to_array(rows)?
        };
        Ok(ColumnarValue::Array(array))
    }
}

fn text(value: Option<&ScalarValue>) -> Option<String> {
    value?.try_as_str().flatten().map(str::to_owned)
}

fn utf8(text: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(text.into()))
}

/// The version that [`version`](register) says: clients look for the first number.
fn version_text() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Driftwatt {})", env!("CARGO_PKG_VERSION"))
}

/// Functions that are the same for all connections.
pub(crate) fn register(ctx: &SessionContext) {
    ctx.register_udf(RowFunction::constant("version", utf8(version_text())));
    for name in [
        "pg_function_is_visible",
        "pg_type_is_visible",
        "pg_operator_is_visible",
        "pg_opclass_is_visible",
        "pg_opfamily_is_visible",
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
        "has_function_privilege",
        "has_column_privilege",
        "has_sequence_privilege",
        "has_type_privilege",
        "has_tablespace_privilege",
        "has_language_privilege",
    ] {
        ctx.register_udf(RowFunction::constant(name, ScalarValue::from(true)));
    }
    for name in ["pg_is_in_recovery", "pg_advisory_unlock_all", "pg_is_other_temp_schema", "pg_has_role"] {
        ctx.register_udf(RowFunction::constant(name, ScalarValue::from(false)));
    }
    // What has none here: there are no indexes, rules, sequences or tablespaces.
    for name in [
        "shobj_description",
        "pg_get_viewdef",
        "pg_get_indexdef",
        "pg_get_ruledef",
        "pg_get_triggerdef",
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
        "pg_get_function_result",
        "pg_get_function_sqlbody",
        "pg_get_functiondef",
        "pg_get_serial_sequence",
        "pg_tablespace_location",
        "inet_server_addr",
        "inet_client_addr",
    ] {
        ctx.register_udf(RowFunction::constant(name, ScalarValue::Utf8(None)));
    }
    for name in ["pg_table_size", "pg_indexes_size", "pg_database_size", "pg_tablespace_size", "pg_my_temp_schema"] {
        ctx.register_udf(RowFunction::constant(name, ScalarValue::Int64(Some(0))));
    }
    let of_items = DataType::List(Arc::new(Field::new_list_field(DataType::Struct(item_fields()), true)));
    ctx.register_udf(RowFunction::udf("_pg_expandarray", of_items.clone(), move |args| match args.first() {
        Some(ScalarValue::List(array)) if array.is_valid(0) => items(&array.value(0)),
        _ => ScalarValue::try_from(&of_items),
    }));
    ctx.register_udf(RowFunction::udf("quote_literal", DataType::Utf8, |args| {
        let quoted = text(args.first()).map(|text| format!("'{}'", text.replace('\'', "''")));
        Ok(ScalarValue::Utf8(quoted))
    }));
    ctx.register_udf(RowFunction::udf("pg_size_pretty", DataType::Utf8, |args| {
        Ok(ScalarValue::Utf8(args.first().map(|size| format!("{size} bytes"))))
    }));
}

fn item_fields() -> Fields {
    ["x", "n"].map(|name| Field::new(name, DataType::Int32, true)).to_vec().into()
}

/// The items of an array as structs of item and place: drivers ask for the columns of indexes with it.
fn items(array: &ArrayRef) -> Result<ScalarValue> {
    let places = Int32Array::from_iter_values((1..).take(array.len()));
    let items = StructArray::try_new(item_fields(), vec![cast(array, &DataType::Int32)?, Arc::new(places)], None)?;
    Ok(ScalarValue::List(Arc::new(SingleRowListArrayBuilder::new(Arc::new(items)).build_list_array())))
}

/// Functions that ask the connection.
pub(crate) fn register_for(ctx: &SessionContext, settings: &Arc<Settings>, user: &str, pid: i32) {
    for name in ["session_user", "current_user", "user", "current_role"] {
        ctx.register_udf(RowFunction::constant(name, utf8(user)));
    }
    ctx.register_udf(RowFunction::constant("pg_backend_pid", ScalarValue::Int32(Some(pid))));
    let user = user.to_owned();
    ctx.register_udf(RowFunction::udf("pg_get_userbyid", DataType::Utf8, move |_| Ok(utf8(user.clone()))));
    let of = Arc::clone(settings);
    ctx.register_udf(RowFunction::udf("current_setting", DataType::Utf8, move |args| {
        let Some(name) = text(args.first()) else { return Ok(ScalarValue::Utf8(None)) };
        match (of.get(&name), args.get(1)) {
            (Some(value), _) => Ok(utf8(value)),
            (None, Some(ScalarValue::Boolean(Some(true)))) => Ok(ScalarValue::Utf8(None)),
            _ => exec_err!("unrecognized configuration parameter \"{name}\""),
        }
    }));
    let of = Arc::clone(settings);
    ctx.register_udf(RowFunction::udf("set_config", DataType::Utf8, move |args| {
        let (Some(name), Some(value)) = (text(args.first()), text(args.get(1))) else {
            return exec_err!("set_config needs a name and a value");
        };
        match of.set(&name, &value) {
            Ok(_) => Ok(utf8(value)),
            Err(failure) => exec_err!("{}", failure.message),
        }
    }));
}
