//! Series definitions.

use std::sync::Arc;

use super::{
    attributes::{List, put_list, read_list, read_shared_list},
    columns::{put_f64s, read_f64s},
    reader::{DecodeResult, Reader},
    writer::{Tables, put_varint},
};
use crate::{
    interner::{Interner, is_exact},
    series::{Attributes, Kind, Series, SeriesDefinition, SeriesId, Temporality},
};

/// Id, five texts, flags, number of bounds, three lists.
const SERIES_SIZE_MIN: usize = 18;

/// Appends the ids and definitions of `series`.
pub(super) fn put_all(out: &mut Vec<u8>, tables: &mut Tables, series: &[&Series]) {
    put_varint(out, series.len() as u64);
    let mut scratch = Vec::new();
    let (mut resource, mut scope) = (None, None);
    for series in series {
        let definition = &series.definition;
        out.extend_from_slice(&series.id.0.to_le_bytes());
        let texts = [
            &definition.metric,
            &definition.unit,
            &definition.description,
            &definition.scope_name,
            &definition.scope_version,
        ];
        texts.into_iter().for_each(|text| put_varint(out, tables.string(text)));
        let flags = definition.kind as u8 | (definition.temporality as u8) << 3 | u8::from(definition.monotonic) << 5;
        out.push(flags);
        put_varint(out, definition.bounds.len() as u64);
        put_f64s(out, &definition.bounds);
        put_varint(out, repeated(&mut resource, tables, &mut scratch, &definition.resource));
        put_varint(out, repeated(&mut scope, tables, &mut scratch, &definition.scope));
        put_varint(out, intern(tables, &mut scratch, &definition.point));
    }
}

/// [`intern`] for lists that neighbours usually share: comparing with the last one is cheaper than encoding it again.
fn repeated<'a>(
    last: &mut Option<(&'a Attributes, u64)>,
    tables: &mut Tables,
    scratch: &mut Vec<u8>,
    attributes: &'a Attributes,
) -> u64 {
    if let Some((previous, index)) = *last
        && (std::ptr::eq(previous, attributes) || previous == attributes && is_exact(attributes))
    {
        return index;
    }
    let index = intern(tables, scratch, attributes);
    *last = Some((attributes, index));
    index
}

fn intern(tables: &mut Tables, scratch: &mut Vec<u8>, attributes: &Attributes) -> u64 {
    scratch.clear();
    put_list(scratch, tables, attributes);
    tables.list(scratch)
}

/// Reads the definitions, each with the id that the points of the segment use. The id of the series itself is computed
/// anew: it differs where the definition was not kept exactly.
pub(super) fn read_all(
    reader: &mut Reader<'_>,
    strings: &[&str],
    lists: &mut [List],
    interner: &mut Interner,
) -> DecodeResult<Vec<(SeriesId, Arc<Series>)>> {
    let count = reader.count(SERIES_SIZE_MIN)?;
    let mut series = Vec::with_capacity(count);
    for _ in 0..count {
        let id = SeriesId(reader.u64()?);
        series.push((id, Series::new(read_definition(reader, strings, lists, interner)?)));
    }
    Ok(series)
}

fn read_definition(
    reader: &mut Reader<'_>,
    strings: &[&str],
    lists: &mut [List],
    interner: &mut Interner,
) -> DecodeResult<SeriesDefinition> {
    let mut text = || Ok(interner.text(reader.text(strings)?));
    let (metric, unit, description, scope_name, scope_version) = (text()?, text()?, text()?, text()?, text()?);
    let flags = reader.u8()?;
    let kind = Kind::from_u8(flags & 7).ok_or_else(|| reader.error("unknown kind"))?;
    let temporality = Temporality::from_u8(flags >> 3 & 3).ok_or_else(|| reader.error("unknown temporality"))?;
    if flags >> 6 != 0 {
        return Err(reader.error("unknown series flag"));
    }
    let bound_count = reader.count(8)?;
    Ok(SeriesDefinition {
        metric,
        unit,
        description,
        kind,
        temporality,
        monotonic: flags >> 5 & 1 == 1,
        bounds: read_f64s(reader, bound_count)?,
        resource: read_shared_list(reader, lists, interner)?,
        scope_name,
        scope_version,
        scope: read_shared_list(reader, lists, interner)?,
        point: read_list(reader, lists)?,
    })
}
