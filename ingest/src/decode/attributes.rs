//! Attributes of a new series, parsed once per series.

use driftwatt_store::{AttributeValue, Attributes};

use crate::{
    config::Limits,
    decode::Fault,
    reason::Reason,
    wire::{Reader, Slice},
};

/// Nesting of lists and maps inside one attribute value.
const DEPTH_MAX: usize = 16;
/// Bytes of an attribute key.
pub(super) const KEY_SIZE_MAX: usize = 1024;

/// Text of a field.
pub(crate) fn text(slice: Slice<'_>) -> Result<&str, Reason> {
    str::from_utf8(slice.bytes).map_err(|_| Reason::INVALID_UTF8)
}

/// Adds one encoded `KeyValue` to `attributes`.
pub(crate) fn parse_attribute(slice: Slice<'_>, limits: &Limits, attributes: &mut Attributes) -> Result<(), Fault> {
    if attributes.len() >= limits.attributes_max {
        return Err(Reason::ATTRIBUTES_TOO_MANY.into());
    }
    attributes.push(key_value(slice, limits, 0)?);
    Ok(())
}

/// How many keys occur again in `attributes`.
pub(crate) fn repeated_keys(attributes: &Attributes) -> u64 {
    let mut keys: Vec<&str> = attributes.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).filter(|pair| pair.first() == pair.last()).count() as u64
}

fn key_value(slice: Slice<'_>, limits: &Limits, depth: usize) -> Result<(String, AttributeValue), Fault> {
    let mut key = Slice::default();
    let mut value = None;
    let mut reader = Reader::new(slice);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => key = field.slice()?,
            2 => value = Some(field.slice()?),
            _ => {}
        }
    }
    if key.bytes.is_empty() {
        return Err(Reason::ATTRIBUTE_KEY_EMPTY.into());
    }
    if key.bytes.len() > KEY_SIZE_MAX {
        return Err(Reason::ATTRIBUTE_KEY_TOO_LONG.into());
    }
    let key = text(key)?.to_owned();
    let value = match value {
        Some(value) => any_value(value, limits, depth)?,
        None => AttributeValue::Empty,
    };
    Ok((key, value))
}

fn any_value(slice: Slice<'_>, limits: &Limits, depth: usize) -> Result<AttributeValue, Fault> {
    if depth > DEPTH_MAX {
        return Err(Reason::ATTRIBUTE_TOO_DEEP.into());
    }
    let mut value = AttributeValue::Empty;
    let mut reader = Reader::new(slice);
    while let Some(field) = reader.next()? {
        // Checked here rather than on the whole value, so that a limit of N takes a text of N bytes.
        let checked = |slice: Slice<'_>| {
            if slice.bytes.len() > limits.attribute_value_size_max {
                Err(Reason::ATTRIBUTE_VALUE_TOO_LONG)
            } else {
                Ok(())
            }
        };
        value = match field.number {
            1 => {
                checked(field.slice()?)?;
                AttributeValue::String(text(field.slice()?)?.to_owned())
            }
            2 => AttributeValue::Bool(field.varint()? != 0),
            3 => AttributeValue::Int(field.varint()?.cast_signed()),
            4 => AttributeValue::Double(field.double()?),
            5 => {
                checked(field.slice()?)?;
                AttributeValue::Array(array(field.slice()?, limits, depth + 1)?)
            }
            6 => {
                checked(field.slice()?)?;
                AttributeValue::Map(map(field.slice()?, limits, depth + 1)?)
            }
            7 => {
                checked(field.slice()?)?;
                AttributeValue::Bytes(field.slice()?.bytes.to_vec())
            }
            _ => continue,
        };
    }
    Ok(value)
}

fn array(slice: Slice<'_>, limits: &Limits, depth: usize) -> Result<Vec<AttributeValue>, Fault> {
    let mut values = Vec::new();
    let mut reader = Reader::new(slice);
    while let Some(field) = reader.next()? {
        if field.number == 1 {
            values.push(any_value(field.slice()?, limits, depth)?);
        }
    }
    Ok(values)
}

fn map(slice: Slice<'_>, limits: &Limits, depth: usize) -> Result<Attributes, Fault> {
    let mut values = Attributes::new();
    let mut reader = Reader::new(slice);
    while let Some(field) = reader.next()? {
        if field.number == 1 {
            values.push(key_value(field.slice()?, limits, depth)?);
        }
    }
    Ok(values)
}
