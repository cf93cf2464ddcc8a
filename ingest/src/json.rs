//! OTLP/JSON to protobuf bytes in one pass, so that one decoder serves both.
//!
//! No tree is built: each value is written as it is read. The length of a nested message is patched in afterwards, in
//! five bytes whatever its size. Unknown fields are skipped; `null` is an absent field; 64-bit integers may be text;
//! `serde_json` limits nesting to 128 levels.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

mod base64;
mod fields;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::fields::{Field, Kind, Message, REQUEST};

/// Bytes reserved for the length of a nested message.
const LENGTH_SIZE: usize = 5;

/// Rewrites an `ExportMetricsServiceRequest` as protobuf.
///
/// # Errors
/// With line and column, if it is not JSON or a known field has a value of another type.
pub(crate) fn transcode(json: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(json.len());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    MessageSeed { message: &REQUEST, out: &mut out }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(out)
}

struct MessageSeed<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(KeySeed(self.message))? {
            match field {
                Some(field) => map.next_value_seed(ValueSeed { field, out: &mut *self.out, is_element: false })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct KeySeed(&'static Message);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|field| field.name == name))
    }
}

struct ValueSeed<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    is_element: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl ValueSeed<'_> {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn tag(&mut self, wire_type: u64) {
        self.varint(u64::from(self.field.number) << 3 | wire_type);
    }

    fn put_fixed64(&mut self, bits: u64) {
        self.tag(1);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn put_varint(&mut self, value: u64) {
        self.tag(0);
        self.varint(value);
    }

    /// Writes the length of what was written since `start`, which is after the reserved bytes.
    fn patch_length<E: serde::de::Error>(&mut self, start: usize) -> Result<(), E> {
        let length = self.out.len() - start;
        let reserved = start.checked_sub(LENGTH_SIZE).and_then(|from| self.out.get_mut(from..start));
        if length >> (7 * LENGTH_SIZE) != 0 {
            return Err(E::custom("message is too large"));
        }
        for (index, byte) in reserved.unwrap_or_default().iter_mut().enumerate() {
            let more = if index + 1 < LENGTH_SIZE { 0x80 } else { 0 };
            *byte = (length >> (7 * index)) as u8 & 0x7f | more;
        }
        Ok(())
    }

    fn put_integer<E: serde::de::Error>(&mut self, value: i128) -> Result<(), E> {
        let range = || E::custom(format_args!("{value} is out of range for field {}", self.field.name));
        match self.field.kind {
            Kind::Double => self.put_fixed64((value as f64).to_bits()),
            Kind::Fixed64 => self.put_fixed64(u64::try_from(value).map_err(|_| range())?),
            Kind::SFixed64 => self.put_fixed64(i64::try_from(value).map_err(|_| range())?.cast_unsigned()),
            Kind::Uint32 => self.put_varint(u32::try_from(value).map_err(|_| range())?.into()),
            Kind::Uint64 | Kind::Enum(_) => self.put_varint(u64::try_from(value).map_err(|_| range())?),
            Kind::Int64 => self.put_varint(i64::try_from(value).map_err(|_| range())?.cast_unsigned()),
            Kind::Sint32 => {
                let value = i32::try_from(value).map_err(|_| range())?;
                self.put_varint(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()));
            }
            _ => return Err(self.mismatch("a number")),
        }
        Ok(())
    }

    fn mismatch<E: serde::de::Error>(&self, found: &str) -> E {
        E::custom(format_args!("{found} does not fit field {} of type {:?}", self.field.name, self.field.kind.name()))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Base64 => "base64 bytes",
            Self::Double => "double",
            Self::Bool => "bool",
            Self::Enum(_) => "enum",
            Self::Message(_) => "object",
            _ => "integer",
        }
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for field {}", self.field.kind.name(), self.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, Kind::Bool) {
            return Err(self.mismatch("a bool"));
        }
        self.put_varint(value.into());
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.put_integer(value.into())
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.put_integer(value.into())
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Double) {
            self.put_fixed64(value.to_bits());
            return Ok(());
        }
        // The JSON mapping takes 1.0 and 1e3 for integers.
        if value.fract() != 0.0 {
            return Err(self.mismatch("a fraction"));
        }
        self.put_integer(value as i128)
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Text => {
                self.tag(2);
                self.varint(text.len() as u64);
                self.out.extend_from_slice(text.as_bytes());
            }
            Kind::Base64 => {
                self.tag(2);
                self.out.extend_from_slice(&[0; LENGTH_SIZE]);
                let start = self.out.len();
                base64::decode(text, self.out).ok_or_else(|| self.mismatch("text that is not base64"))?;
                self.patch_length(start)?;
            }
            Kind::Double => {
                // `parse` knows NaN, Infinity and -Infinity as the JSON mapping writes them.
                let value: f64 = text.parse().map_err(|_| self.mismatch("text that is not a number"))?;
                self.put_fixed64(value.to_bits());
            }
            Kind::Enum(names) => {
                let value = names.iter().position(|name| *name == text);
                let value = value.ok_or_else(|| self.mismatch("an unknown name"))?;
                self.put_varint(value as u64);
            }
            Kind::Bool | Kind::Message(_) => return Err(self.mismatch("text")),
            _ => {
                let value: i128 = text.parse().map_err(|_| self.mismatch("text that is not an integer"))?;
                self.put_integer(value)?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        if self.is_element {
            return Err(A::Error::custom(format_args!("a list inside the list of field {}", self.field.name)));
        }
        while elements
            .next_element_seed(ValueSeed { field: self.field, out: &mut *self.out, is_element: true })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else { return Err(self.mismatch("an object")) };
        self.tag(2);
        self.out.extend_from_slice(&[0; LENGTH_SIZE]);
        let start = self.out.len();
        MessageSeed { message, out: &mut *self.out }.visit_map(map)?;
        self.patch_length(start)
    }
}
