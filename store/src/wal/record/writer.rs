//! The tables of a record: each text and each attribute list once.

use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Tables {
    strings: HashMap<Box<str>, u64>,
    string_bytes: Vec<u8>,
    lists: HashMap<Box<[u8]>, u64>,
    list_bytes: Vec<u8>,
}

impl Tables {
    /// The index of `text`.
    pub(super) fn string(&mut self, text: &str) -> u64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.strings.len() as u64;
        self.strings.insert(text.into(), index);
        put_varint(&mut self.string_bytes, text.len() as u64);
        self.string_bytes.extend_from_slice(text.as_bytes());
        index
    }

    /// The index of the attribute list with this encoding.
    pub(super) fn list(&mut self, encoded: &[u8]) -> u64 {
        if let Some(index) = self.lists.get(encoded) {
            return *index;
        }
        let index = self.lists.len() as u64;
        self.lists.insert(encoded.into(), index);
        self.list_bytes.extend_from_slice(encoded);
        index
    }

    pub(super) fn size_bytes_max(&self) -> usize {
        self.string_bytes.len() + self.list_bytes.len() + 20
    }

    pub(super) fn put_strings(&self, out: &mut Vec<u8>) {
        put_varint(out, self.strings.len() as u64);
        out.extend_from_slice(&self.string_bytes);
    }

    pub(super) fn put_lists(&self, out: &mut Vec<u8>) {
        put_varint(out, self.lists.len() as u64);
        out.extend_from_slice(&self.list_bytes);
    }
}

/// LEB128.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zigzag LEB128: small magnitudes of either sign are short.
pub(super) fn put_zigzag(out: &mut Vec<u8>, value: i32) {
    put_varint(out, u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()));
}
