//! Attribute values and lists.

use std::sync::Arc;

use super::{
    reader::{DecodeResult, Reader},
    writer::{Tables, put_varint},
};
use crate::{
    interner::Interner,
    series::{AttributeValue, Attributes},
};

/// Nesting of lists and maps that is stored as such. Bounds the stack of a decoder.
pub(super) const DEPTH_MAX: usize = 128;

const EMPTY: u8 = 0;
const STRING: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const DOUBLE: u8 = 5;
const BYTES: u8 = 6;
const ARRAY: u8 = 7;
const MAP: u8 = 8;

/// Appends `attributes`: count, then key reference and value of each.
pub(super) fn put_list(out: &mut Vec<u8>, tables: &mut Tables, attributes: &Attributes) {
    put_map(out, tables, attributes, 0);
}

fn put_map(out: &mut Vec<u8>, tables: &mut Tables, attributes: &Attributes, depth: usize) {
    put_varint(out, attributes.len() as u64);
    for (key, value) in attributes {
        put_varint(out, tables.string(key));
        put_value(out, tables, value, depth);
    }
}

fn put_value(out: &mut Vec<u8>, tables: &mut Tables, value: &AttributeValue, depth: usize) {
    match value {
        AttributeValue::Empty => out.push(EMPTY),
        AttributeValue::String(text) => put_string(out, tables, text),
        AttributeValue::Bool(false) => out.push(FALSE),
        AttributeValue::Bool(true) => out.push(TRUE),
        AttributeValue::Int(value) => {
            out.push(INT);
            out.extend_from_slice(&value.to_le_bytes());
        }
        AttributeValue::Double(value) => {
            out.push(DOUBLE);
            out.extend_from_slice(&value.to_le_bytes());
        }
        AttributeValue::Bytes(bytes) => {
            out.push(BYTES);
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        AttributeValue::Array(_) | AttributeValue::Map(_) if depth == DEPTH_MAX => {
            put_string(out, tables, &value.to_text());
        }
        AttributeValue::Array(values) => {
            out.push(ARRAY);
            put_varint(out, values.len() as u64);
            values.iter().for_each(|value| put_value(out, tables, value, depth + 1));
        }
        AttributeValue::Map(attributes) => {
            out.push(MAP);
            put_map(out, tables, attributes, depth + 1);
        }
    }
}

fn put_string(out: &mut Vec<u8>, tables: &mut Tables, text: &str) {
    out.push(STRING);
    put_varint(out, tables.string(text));
}

/// One of the distinct attribute lists of a record.
pub(super) struct List {
    attributes: Attributes,
    /// Bytes that a copy takes.
    size_bytes: usize,
    shared: Option<Arc<Attributes>>,
}

/// The table of distinct attribute lists.
pub(super) fn read_lists(reader: &mut Reader<'_>, strings: &[&str]) -> DecodeResult<Vec<List>> {
    let count = reader.count(1)?;
    let mut lists = Vec::with_capacity(count);
    for _ in 0..count {
        let attributes = read_map(reader, strings, 0)?;
        lists.push(List { size_bytes: map_size(&attributes), attributes, shared: None });
    }
    Ok(lists)
}

/// The list a reference names, one for all that refer to it.
pub(super) fn read_shared_list(
    reader: &mut Reader<'_>,
    lists: &mut [List],
    interner: &mut Interner,
) -> DecodeResult<Arc<Attributes>> {
    let index = reader.index(lists.len())?;
    let Some(list) = lists.get_mut(index) else { return Err(reader.error("index out of range")) };
    if let Some(shared) = &list.shared {
        return Ok(Arc::clone(shared));
    }
    reader.expand(list.size_bytes)?;
    Ok(Arc::clone(list.shared.insert(interner.list(list.attributes.clone()))))
}

/// A copy of the list a reference names.
pub(super) fn read_list(reader: &mut Reader<'_>, lists: &[List]) -> DecodeResult<Attributes> {
    let index = reader.index(lists.len())?;
    let Some(list) = lists.get(index) else { return Err(reader.error("index out of range")) };
    reader.expand(list.size_bytes)?;
    Ok(list.attributes.clone())
}

fn read_map(reader: &mut Reader<'_>, strings: &[&str], depth: usize) -> DecodeResult<Attributes> {
    let count = reader.count(2)?;
    let mut attributes = Vec::with_capacity(count);
    for _ in 0..count {
        attributes.push((reader.string(strings)?, read_value(reader, strings, depth)?));
    }
    Ok(attributes)
}

fn read_value(reader: &mut Reader<'_>, strings: &[&str], depth: usize) -> DecodeResult<AttributeValue> {
    match reader.u8()? {
        EMPTY => Ok(AttributeValue::Empty),
        STRING => reader.string(strings).map(AttributeValue::String),
        FALSE => Ok(AttributeValue::Bool(false)),
        TRUE => Ok(AttributeValue::Bool(true)),
        INT => reader.i64().map(AttributeValue::Int),
        DOUBLE => reader.f64().map(AttributeValue::Double),
        BYTES => {
            let size = reader.count(1)?;
            reader.bytes(size).map(|bytes| AttributeValue::Bytes(bytes.to_vec()))
        }
        ARRAY | MAP if depth == DEPTH_MAX => Err(reader.error("attribute nested too deep")),
        ARRAY => {
            let count = reader.count(1)?;
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                values.push(read_value(reader, strings, depth + 1)?);
            }
            Ok(AttributeValue::Array(values))
        }
        MAP => read_map(reader, strings, depth + 1).map(AttributeValue::Map),
        _ => Err(reader.error("unknown attribute type")),
    }
}

fn map_size(attributes: &Attributes) -> usize {
    attributes.iter().map(|(key, value)| size_of::<(String, AttributeValue)>() + key.len() + value_size(value)).sum()
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::String(text) => text.len(),
        AttributeValue::Bytes(bytes) => bytes.len(),
        AttributeValue::Array(values) => {
            values.iter().map(|value| size_of::<AttributeValue>() + value_size(value)).sum()
        }
        AttributeValue::Map(attributes) => map_size(attributes),
        _ => 0,
    }
}
