//! Protobuf fields read straight from the request bytes.
//!
//! Nothing here panics or allocates: every read is bounds-checked, and every length is checked before it is used.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

use std::fmt;

/// Why and where a message is not protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Byte offset in the (decompressed) request.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed protobuf at byte {}: {}", self.offset, self.reason)
    }
}

/// Part of a request, and where it starts in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slice<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) offset: usize,
}

/// The value of one field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    payload: Payload<'a>,
    offset: usize,
}

impl<'a> Field<'a> {
    fn mismatch(&self) -> Malformed {
        Malformed { offset: self.offset, reason: "field has another wire type than its protocol defines" }
    }

    /// A nested message, text or bytes.
    pub(crate) fn slice(&self) -> Result<Slice<'a>, Malformed> {
        match self.payload {
            Payload::Bytes(bytes) => Ok(Slice { bytes, offset: self.offset }),
            _ => Err(self.mismatch()),
        }
    }

    /// `uint64`, `uint32`, `int64`, `bool` or enum.
    pub(crate) fn varint(&self) -> Result<u64, Malformed> {
        match self.payload {
            Payload::Varint(value) => Ok(value),
            _ => Err(self.mismatch()),
        }
    }

    /// `int64`.
    pub(crate) fn int64(&self) -> Result<i64, Malformed> {
        self.varint().map(u64::cast_signed)
    }

    /// `sint32`.
    pub(crate) fn sint32(&self) -> Result<i32, Malformed> {
        let value = self.varint()? as u32;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// `fixed64` or `sfixed64`.
    pub(crate) fn fixed64(&self) -> Result<u64, Malformed> {
        match self.payload {
            Payload::Fixed64(value) => Ok(value),
            _ => Err(self.mismatch()),
        }
    }

    /// `double`.
    pub(crate) fn double(&self) -> Result<f64, Malformed> {
        self.fixed64().map(f64::from_bits)
    }

    /// Elements of a repeated `fixed64` or `double`, packed or not; stops adding once `values` is longer than `max`.
    pub(crate) fn each_fixed64(&self, max: usize, mut add: impl FnMut(u64) -> usize) -> Result<(), Malformed> {
        let bytes = match self.payload {
            Payload::Fixed64(value) => {
                add(value);
                return Ok(());
            }
            Payload::Bytes(bytes) => bytes,
            _ => return Err(self.mismatch()),
        };
        let (chunks, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Malformed { offset: self.offset, reason: "packed field is not a multiple of 8 bytes" });
        }
        for chunk in chunks {
            if add(u64::from_le_bytes(*chunk)) > max {
                break;
            }
        }
        Ok(())
    }

    /// Elements of a repeated `uint64`, packed or not.
    pub(crate) fn each_varint(&self, mut add: impl FnMut(u64)) -> Result<(), Malformed> {
        match self.payload {
            Payload::Varint(value) => add(value),
            Payload::Bytes(bytes) => {
                let mut reader = Reader::new(Slice { bytes, offset: self.offset });
                while !reader.rest.is_empty() {
                    add(reader.varint()?);
                }
            }
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }
}

/// The `sint64` that is written as `value`.
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Reads the fields of one message in order.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    end: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(slice: Slice<'a>) -> Self {
        Self { rest: slice.bytes, end: slice.offset + slice.bytes.len() }
    }

    fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    fn error(&self, reason: &'static str) -> Malformed {
        Malformed { offset: self.offset(), reason }
    }

    /// The next field; none at the end of the message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if number != 0 => number,
            _ => return Err(self.error("field number is out of range")),
        };
        let offset = self.offset();
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.fixed64()?),
            2 => {
                let bytes = self.bytes()?;
                let offset = self.offset() - bytes.len();
                return Ok(Some(Field { number, payload: Payload::Bytes(bytes), offset }));
            }
            5 => {
                self.rest = self.rest.get(4..).ok_or_else(|| self.error("message ends inside a 32-bit value"))?;
                Payload::Fixed32
            }
            _ => return Err(self.error("unknown wire type")),
        };
        Ok(Some(Field { number, payload, offset }))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds the last bit only.
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(self.error(if self.rest.len() < 10 {
            "message ends inside a varint"
        } else {
            "varint is longer than 64 bits"
        }))
    }

    fn fixed64(&mut self) -> Result<u64, Malformed> {
        let (chunk, rest) =
            self.rest.split_first_chunk::<8>().ok_or_else(|| self.error("message ends inside a 64-bit value"))?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*chunk))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.varint()?;
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (bytes, rest) = split.ok_or_else(|| self.error("length is beyond the end of the message"))?;
        self.rest = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Option<Field<'_>>, Malformed> {
        Reader::new(Slice { bytes, offset: 0 }).next()
    }

    #[test]
    fn varints_of_every_length_are_read() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = vec![0x08];
            prost::encoding::encode_varint(value, &mut bytes);
            assert_eq!(first(&bytes).unwrap().unwrap().varint().unwrap(), value);
        }
    }

    #[test]
    fn zigzag_matches_prost() {
        for value in [0, 1, -1, 20, -10, i32::MAX, i32::MIN] {
            let mut bytes = Vec::new();
            prost::encoding::sint32::encode(1, &value, &mut bytes);
            assert_eq!(first(&bytes).unwrap().unwrap().sint32().unwrap(), value);
        }
    }

    #[test]
    fn a_length_beyond_the_end_names_its_offset() {
        let error = first(&[0x0a, 0x05, 0x00]).unwrap_err();
        assert_eq!(error, Malformed { offset: 2, reason: "length is beyond the end of the message" });
        assert!(first(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err());
        assert!(first(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert!(first(&[0x00, 0x01]).is_err());
    }
}
