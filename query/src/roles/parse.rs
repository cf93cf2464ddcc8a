//! From the text of role files to a checked [`RoleTable`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    Condition, Definition, LabelKey, Quotient, Rate, RoleTable, Row, Scope, View,
    spelling::spellings,
    unit::{Conversion, conversion, is_known},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    labels: BTreeMap<String, Vec<RawLabelKey>>,
    #[serde(default)]
    workload: Vec<String>,
    #[serde(default)]
    summed: Vec<String>,
    #[serde(default)]
    roles: BTreeMap<String, Definition>,
    #[serde(default)]
    source: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawLabelKey {
    Plain(String),
    Uuid { key: String, uuid_prefix: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    name: String,
    scope: Scope,
    #[serde(default)]
    blank_from: Option<f64>,
    metrics: Vec<RawRow>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRow {
    metric: Names,
    role: String,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    when: BTreeMap<String, String>,
    #[serde(default)]
    scope: Option<Scope>,
    #[serde(default)]
    scale: Option<f64>,
    #[serde(default)]
    rate: Option<String>,
    #[serde(default)]
    blank_from: Option<f64>,
}

/// The table of `files`, `(name, text)`; the rows of earlier files come first, and their roles replace those of later ones.
pub(super) fn table(files: &[(&str, &str)]) -> Result<RoleTable, String> {
    let parsed = files.iter().map(|(name, text)| match toml::from_str::<File>(text) {
        Ok(file) => Ok((*name, file)),
        Err(error) => Err(format!("{name}: {error}")),
    });
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    let mut definitions: BTreeMap<String, Arc<Definition>> = BTreeMap::new();
    let mut labels: BTreeMap<String, Vec<LabelKey>> = BTreeMap::new();
    let (mut workload, mut summed) = (BTreeSet::new(), BTreeSet::new());
    for (name, file) in &parsed {
        for (role, definition) in &file.roles {
            check_definition(role, definition).map_err(|reason| format!("{name}: role {role}: {reason}"))?;
            definitions.entry(role.clone()).or_insert_with(|| Arc::new(definition.clone()));
        }
        for (column, keys) in &file.labels {
            labels.entry(column.clone()).or_default().extend(keys.iter().map(label_key));
        }
        workload.extend(file.workload.iter().cloned());
        summed.extend(file.summed.iter().cloned());
    }
    for (role, definition) in &definitions {
        check_derived(definition, &definitions).map_err(|reason| format!("role {role}: {reason}"))?;
    }
    let mut rows = Vec::new();
    let mut rank = 0;
    for (name, file) in &parsed {
        let mut claimed = Claims::new();
        for source in &file.source {
            rank += 1;
            for raw in &source.metrics {
                let first = rows.len();
                add_rows(&mut rows, source, rank, raw, &definitions).map_err(|reason| format!("{name}: {reason}"))?;
                claim(&mut claimed, &rows[first..]).map_err(|reason| format!("{name}: {reason}"))?;
            }
        }
    }
    Ok(RoleTable { labels, summed, workload, ..RoleTable::new(rows, definitions) })
}

fn label_key(raw: &RawLabelKey) -> LabelKey {
    match raw {
        RawLabelKey::Plain(key) => LabelKey { key: key.clone(), uuid_prefix: None },
        RawLabelKey::Uuid { key, uuid_prefix } => LabelKey { key: key.clone(), uuid_prefix: Some(uuid_prefix.clone()) },
    }
}

fn check_definition(role: &str, definition: &Definition) -> Result<(), String> {
    if role.is_empty() || role.strip_suffix('*').unwrap_or(role).contains('*') {
        return Err("a name must not be empty, and * may only end it".into());
    }
    if definition.unit != "*" && !is_known(&definition.unit) {
        return Err(format!("unit {:?} is not known; use UCUM such as s, By, 1, W, {{token}}", definition.unit));
    }
    if definition.min.zip(definition.max).is_some_and(|(min, max)| min > max) {
        return Err("min is above max".into());
    }
    if definition.card && definition.view != View::Gpu {
        return Err("card = true is for roles of the view gpu".into());
    }
    Ok(())
}

/// That what is derived from counters is defined and has a unit that follows from theirs.
fn check_derived(definition: &Definition, definitions: &BTreeMap<String, Arc<Definition>>) -> Result<(), String> {
    if let Some(role) = &definition.rate {
        rate(role, definition, definitions)?;
    }
    let Some(Quotient { of, per, .. }) = &definition.quotient else { return Ok(()) };
    if per.is_empty() {
        return Err("a quotient needs a role to divide by: per = [\"…\"]".into());
    }
    let defined = |role: &String| definitions.get(role).ok_or_else(|| format!("the role {role} is not defined"));
    let above = defined(of)?;
    for below in per {
        let unit = format!("{}/{}", above.unit, defined(below)?.unit);
        if conversion(&unit, &definition.unit) != Some(Conversion::NONE) {
            return Err(format!("{of} per {below} has the unit {unit}, not {}", definition.unit));
        }
    }
    Ok(())
}

/// What a counter of `definition` gains in a second, as `role`.
fn rate(role: &str, counter: &Definition, definitions: &BTreeMap<String, Arc<Definition>>) -> Result<Rate, String> {
    let definition = definitions.get(role).ok_or_else(|| format!("the role {role} is not defined"))?;
    let unit = format!("{}/s", counter.unit);
    let Some(conversion) = conversion(&unit, &definition.unit) else {
        return Err(format!(
            "its rate has the unit {unit}, which cannot be converted to {} of {role}",
            definition.unit
        ));
    };
    Ok(Rate { role: role.to_owned(), definition: Arc::clone(definition), conversion })
}

fn add_rows(
    rows: &mut Vec<Row>,
    source: &Source,
    rank: i64,
    raw: &RawRow,
    definitions: &BTreeMap<String, Arc<Definition>>,
) -> Result<(), String> {
    let names = match &raw.metric {
        Names::One(name) => std::slice::from_ref(name),
        Names::Several(names) => names.as_slice(),
    };
    let shown = names.first().map_or("", String::as_str);
    let fail = |reason: String| Err(format!("source {}: row {shown} → {}: {reason}", source.name, raw.role));
    let definition = definitions.get(&raw.role);
    let Some(definition) = definition else {
        return fail(format!(
            "the role is not defined; add it under [roles], as \"{}\" = {{ view = …, unit = … }}",
            raw.role
        ));
    };
    let unit = raw.unit.as_ref().unwrap_or(&definition.unit);
    let conversion = match raw.scale {
        Some(scale) if scale.is_finite() && scale > 0.0 => Conversion { multiplier: scale, divisor: 1.0 },
        Some(_) => return fail("scale must be a number above 0".into()),
        None if unit == "*" || definition.unit == "*" => Conversion::NONE,
        None => match conversion(unit, &definition.unit) {
            Some(conversion) => conversion,
            None => return fail(format!("unit {unit} cannot be converted to {}; give a scale", definition.unit)),
        },
    };
    if names.is_empty() {
        return fail("metric must not be empty".into());
    }
    let rate = match raw.rate.as_ref().or(definition.rate.as_ref()).map(|role| rate(role, definition, definitions)) {
        Some(Err(reason)) => return fail(reason),
        rate => rate.and_then(Result::ok),
    };
    let when: Vec<Condition> = raw.when.iter().map(condition).collect();
    for name in names {
        let pattern = name.strip_suffix('*');
        let stem = pattern.unwrap_or(name);
        if stem.is_empty() || stem.contains('*') || raw.role.ends_with('*') && pattern.is_none() {
            return fail("* may end a metric name that begins with text, and then also the role".into());
        }
        rows.push(Row {
            source: source.name.as_str().into(),
            rank,
            metric: name.clone(),
            spellings: if pattern.is_some() { vec![] } else { spellings(name, unit, definition.counter) },
            when: when.clone(),
            role: raw.role.clone(),
            definition: Arc::clone(definition),
            unit: unit.clone(),
            conversion,
            scope: raw.scope.unwrap_or(source.scope),
            blank_from: raw.blank_from.or(source.blank_from),
            rate: rate.clone(),
        });
    }
    Ok(())
}

/// `"a|b" = "v"`: the attribute `a`, or else `b`, in either spelling.
fn condition((keys, value): (&String, &String)) -> Condition {
    Condition { keys: keys.split('|').map(str::to_owned).collect(), value: value.clone() }
}

/// The names that rows have under their conditions, and the row that has each.
type Claims = HashMap<(String, Vec<Condition>), Row>;

/// Remembers the names of `rows`; a name that a row of another meaning has under the same conditions could never hold.
fn claim(claimed: &mut Claims, rows: &[Row]) -> Result<(), String> {
    for row in rows {
        let names = if row.prefix().is_some() { std::slice::from_ref(&row.metric) } else { &row.spellings };
        for name in names {
            let key = (name.clone(), row.when.clone());
            let other = claimed.entry(key).or_insert_with(|| row.clone());
            if (&other.role, &other.unit, other.scope) != (&row.role, &row.unit, row.scope) {
                return Err(format!(
                    "source {}: row {} → {}: {name} under the same conditions stands above, in row {} → {}",
                    row.source, row.metric, row.role, other.metric, other.role
                ));
            }
        }
    }
    Ok(())
}
