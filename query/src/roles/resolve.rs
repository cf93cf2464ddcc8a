//! `role_of`: the function that finds the role of a series. The views call it on `raw.series`, which is small.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, MapArray, MapBuilder, MapFieldNames,
        StringArray, StringBuilder, StructArray,
    },
    buffer::NullBuffer,
    compute::cast,
    datatypes::{DataType, Field, Fields},
};
use datafusion::{
    error::{DataFusionError, Result},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};
use driftwatt_store::{PROMOTED, series_schema};

use super::{Asked, Condition, RoleTable, Row, Scope, label, unit::agree};

/// Its name in SQL.
pub(crate) const ROLE_FUNCTION: &str = "role_of";

/// `role_of(asked, metric, unit, attributes, label…)`, `asked` being [`Asked::text`] and the labels
/// [`RoleOf::label_columns`] in order.
///
/// Gives a struct, null where the series has no such role.
#[derive(Debug)]
pub(crate) struct RoleOf {
    table: Arc<RoleTable>,
    signature: Signature,
    fields: Fields,
    /// Promoted labels that conditions ask for; these are not among the attributes.
    label_columns: Vec<&'static str>,
}

impl RoleOf {
    pub(crate) fn new(table: &Arc<RoleTable>) -> Self {
        let asked = |keys: &[&str]| {
            table
                .rows
                .iter()
                .flat_map(|row| &row.when)
                .any(|condition| condition.keys.iter().any(|key| keys.contains(&key.as_str())))
        };
        let labels = PROMOTED.iter().filter(|promoted| asked(promoted.keys));
        let field = |name: &str, kind| Field::new(name, kind, true);
        let text = |name| field(name, DataType::Utf8);
        let number = |name| field(name, DataType::Float64);
        let fields = vec![
            text("role"),
            text("view"),
            text("unit"),
            number("multiplier"),
            number("divisor"),
            number("blank_from"),
            number("min"),
            number("max"),
            text("scope"),
            text("rung"),
            text("source"),
            text("source_unit"),
            field("rank", DataType::Int64),
            field("place", DataType::Int64),
            field("card", DataType::Boolean),
            field("contradicts", DataType::Boolean),
            text("part"),
            text("counts_since"),
            text("rest"),
            field("rest_attributes", attributes_type()),
        ];
        Self {
            table: Arc::clone(table),
            signature: Signature::variadic_any(Volatility::Immutable),
            fields: fields.into(),
            label_columns: labels.map(|promoted| promoted.column).collect(),
        }
    }

    /// The columns of `raw.series` after the first four arguments.
    pub(crate) fn label_columns(&self) -> &[&'static str] {
        &self.label_columns
    }

    pub(crate) fn table(&self) -> &RoleTable {
        &self.table
    }
}

impl PartialEq for RoleOf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}

impl Eq for RoleOf {}

impl Hash for RoleOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.table).hash(state);
    }
}

impl ScalarUDFImpl for RoleOf {
    fn name(&self) -> &str {
        ROLE_FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.fields.clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wanted = || {
            DataFusionError::Plan(format!(
                "{ROLE_FUNCTION} takes a role view or 'any', metric, unit, attributes and {:?}",
                self.label_columns
            ))
        };
        let asked = match args.args.first() {
            Some(ColumnarValue::Scalar(value)) => value.try_as_str().flatten().and_then(Asked::parse),
            _ => None,
        };
        let asked = asked.ok_or_else(wanted)?;
        if args.args.len() != 4 + self.label_columns.len() {
            return Err(wanted());
        }
        let arrays = ColumnarValue::values_to_arrays(&args.args[1..])?;
        let text =
            |array: &ArrayRef| -> Result<StringArray> { Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()) };
        let attributes =
            arrays[2].as_map_opt().ok_or_else(|| DataFusionError::Plan("attributes must be a map".into()))?;
        let series = Columns {
            metric: text(&arrays[0])?,
            unit: text(&arrays[1])?,
            attributes: Attributes::new(attributes)?,
            labels: self
                .label_columns
                .iter()
                .copied()
                .zip(arrays[3..].iter().map(text).collect::<Result<Vec<_>>>()?)
                .collect(),
        };
        let mut found = Found::default();
        for index in 0..series.metric.len() {
            found.push(&self.table, asked, &series, index)?;
        }
        Ok(ColumnarValue::Array(Arc::new(found.finish(&self.fields)?)))
    }
}

struct Columns {
    metric: StringArray,
    unit: StringArray,
    attributes: Attributes,
    labels: Vec<(&'static str, StringArray)>,
}

struct Attributes {
    map: MapArray,
    keys: StringArray,
    values: StringArray,
}

impl Attributes {
    fn new(map: &MapArray) -> Result<Self> {
        let text =
            |array: &ArrayRef| -> Result<StringArray> { Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()) };
        Ok(Self { map: map.clone(), keys: text(map.keys())?, values: text(map.values())? })
    }

    fn of(&self, index: usize) -> impl Iterator<Item = (&str, &str)> {
        let offsets = self.map.value_offsets();
        let range = offsets[index].max(0).unsigned_abs() as usize..offsets[index + 1].max(0).unsigned_abs() as usize;
        range.filter(|&at| self.values.is_valid(at)).map(|at| (self.keys.value(at), self.values.value(at)))
    }
}

impl Columns {
    fn holds(&self, condition: &Condition, index: usize) -> bool {
        let stored = |key: &str| -> Option<&str> {
            let promoted = PROMOTED.iter().find(|promoted| promoted.keys.contains(&key));
            let column = promoted.and_then(|promoted| self.labels.iter().find(|(name, _)| *name == promoted.column));
            let label = column.filter(|(_, values)| values.is_valid(index)).map(|(_, values)| values.value(index));
            let spelled = label_spelling(key);
            let attribute =
                || self.attributes.of(index).find(|(found, _)| *found == key || Some(*found) == spelled.as_deref());
            label.or_else(|| attribute().map(|(_, value)| value))
        };
        let found = condition.keys.iter().find_map(|key| stored(key));
        found.is_some_and(|value| condition.value == "*" || condition.value == value)
    }

    /// What tells series of one role of one device apart, besides whose work it is: the link, the pipe, the direction.
    fn part(&self, table: &RoleTable, index: usize) -> String {
        let attributes = self.attributes.of(index);
        let mut pairs: Vec<(&str, &str)> = attributes.filter(|(key, _)| !table.names_no_part(key)).collect();
        pairs.sort_unstable();
        pairs.iter().map(|(key, value)| format!("{key}={value};")).collect()
    }

    /// What series that are added up have in common.
    fn rest(&self, table: &RoleTable, index: usize) -> Vec<(&str, &str)> {
        let mut pairs: Vec<(&str, &str)> = self.attributes.of(index).filter(|(key, _)| !table.is_summed(key)).collect();
        pairs.sort_unstable();
        pairs
    }
}

/// The type of the attributes of a series.
fn attributes_type() -> DataType {
    series_schema().field_with_name("attributes").map_or(DataType::Null, |field| field.data_type().clone())
}

fn attributes_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

fn label_spelling(key: &str) -> Option<String> {
    key.contains('.').then(|| label(key))
}

struct Found {
    role: StringBuilder,
    view: StringBuilder,
    unit: StringBuilder,
    multiplier: Float64Builder,
    divisor: Float64Builder,
    blank_from: Float64Builder,
    min: Float64Builder,
    max: Float64Builder,
    scope: StringBuilder,
    rung: StringBuilder,
    source: StringBuilder,
    source_unit: StringBuilder,
    rank: Int64Builder,
    place: Int64Builder,
    card: BooleanBuilder,
    contradicts: BooleanBuilder,
    part: StringBuilder,
    counts_since: StringBuilder,
    rest: StringBuilder,
    rest_attributes: MapBuilder<StringBuilder, StringBuilder>,
    valid: Vec<bool>,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            role: StringBuilder::new(),
            view: StringBuilder::new(),
            unit: StringBuilder::new(),
            multiplier: Float64Builder::new(),
            divisor: Float64Builder::new(),
            blank_from: Float64Builder::new(),
            min: Float64Builder::new(),
            max: Float64Builder::new(),
            scope: StringBuilder::new(),
            rung: StringBuilder::new(),
            source: StringBuilder::new(),
            source_unit: StringBuilder::new(),
            rank: Int64Builder::new(),
            place: Int64Builder::new(),
            card: BooleanBuilder::new(),
            contradicts: BooleanBuilder::new(),
            part: StringBuilder::new(),
            counts_since: StringBuilder::new(),
            rest: StringBuilder::new(),
            rest_attributes: attributes_builder(),
            valid: Vec::new(),
        }
    }
}

impl Found {
    fn push(&mut self, table: &RoleTable, asked: Asked, series: &Columns, index: usize) -> Result<()> {
        let metric = if series.metric.is_valid(index) { series.metric.value(index) } else { "" };
        // A series has one role; a row of another view that comes first takes it from this one.
        let place = table
            .candidates(metric)
            .find(|place| table.rows[*place].when.iter().all(|condition| series.holds(condition, index)));
        let found = place.and_then(|place| Some((place, asked.meaning(&table.rows[place])?)));
        let Some((place, meaning)) = found else { return self.push_null() };
        let (row, definition) = (&table.rows[place], meaning.definition);
        let declared = if series.unit.is_valid(index) { series.unit.value(index) } else { "" };
        let agreed = agree(declared, &row.unit, row.conversion, &row.definition.unit);
        self.role.append_value(if meaning.role == row.role { row.role_of(metric) } else { meaning.role.to_owned() });
        self.view.append_value(definition.view.name());
        self.unit.append_value(if definition.unit == "*" { declared } else { &definition.unit });
        self.multiplier.append_value(agreed.conversion.multiplier * meaning.conversion.multiplier);
        self.divisor.append_value(agreed.conversion.divisor * meaning.conversion.divisor);
        self.blank_from.append_option(row.blank_from);
        self.min.append_option(definition.min);
        self.max.append_option(definition.max);
        self.scope.append_value(row.scope.name());
        self.rung.append_option(definition.rung.as_deref());
        self.source.append_value(&row.source);
        self.source_unit.append_value(&row.unit);
        self.rank.append_value(row.rank);
        self.place.append_value(i64::try_from(place).unwrap_or(i64::MAX));
        self.card.append_value(definition.card);
        self.contradicts.append_value(agreed.contradicts);
        self.part.append_option(device_part(row).then(|| series.part(table, index)));
        self.counts_since.append_value(row.definition.counts_since.name());
        let rest = (asked == Asked::Terms).then(|| series.rest(table, index));
        self.valid.push(true);
        self.push_rest(rest.as_deref())
    }

    fn push_rest(&mut self, pairs: Option<&[(&str, &str)]>) -> Result<()> {
        let text = pairs.map(|pairs| pairs.iter().map(|(key, value)| format!("{key}={value};")).collect::<String>());
        self.rest.append_option(text);
        for (key, value) in pairs.unwrap_or_default() {
            self.rest_attributes.keys().append_value(key);
            self.rest_attributes.values().append_value(value);
        }
        Ok(self.rest_attributes.append(pairs.is_some())?)
    }

    fn push_null(&mut self) -> Result<()> {
        for builder in [
            &mut self.role,
            &mut self.view,
            &mut self.unit,
            &mut self.scope,
            &mut self.rung,
            &mut self.source,
            &mut self.source_unit,
            &mut self.part,
            &mut self.counts_since,
        ] {
            builder.append_null();
        }
        for builder in [&mut self.multiplier, &mut self.divisor, &mut self.blank_from, &mut self.min, &mut self.max] {
            builder.append_null();
        }
        for builder in [&mut self.rank, &mut self.place] {
            builder.append_null();
        }
        self.card.append_null();
        self.contradicts.append_null();
        self.valid.push(false);
        self.push_rest(None)
    }

    fn finish(mut self, fields: &Fields) -> Result<StructArray> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.role.finish()),
            Arc::new(self.view.finish()),
            Arc::new(self.unit.finish()),
            Arc::new(self.multiplier.finish()),
            Arc::new(self.divisor.finish()),
            Arc::new(self.blank_from.finish()),
            Arc::new(self.min.finish()),
            Arc::new(self.max.finish()),
            Arc::new(self.scope.finish()),
            Arc::new(self.rung.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.source_unit.finish()),
            Arc::new(self.rank.finish()),
            Arc::new(self.place.finish()),
            Arc::new(self.card.finish()),
            Arc::new(self.contradicts.finish()),
            Arc::new(self.part.finish()),
            Arc::new(self.counts_since.finish()),
            Arc::new(self.rest.finish()),
            cast(&self.rest_attributes.finish(), &attributes_type())?,
        ];
        Ok(StructArray::try_new(fields.clone(), columns, Some(NullBuffer::from(self.valid)))?)
    }
}

/// Whether copies of its values may arrive: one per pod that shares the device.
fn device_part(row: &Row) -> bool {
    matches!(row.scope, Scope::Device | Scope::Mig)
}
