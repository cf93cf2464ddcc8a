//! A cursor over the bytes of a record; every read is checked.

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log record is invalid at byte {offset}: {reason}")]
pub(crate) struct DecodeError {
    /// Position in the payload.
    pub(crate) offset: usize,
    /// What is wrong there.
    pub(crate) reason: &'static str,
}

pub(super) type DecodeResult<T> = Result<T, DecodeError>;

/// Text and attribute bytes one record may expand to. References make a record smaller than what it stands for; a
/// hostile one could stand for far more than there is memory.
const EXPANDED_SIZE_BYTES_MAX: usize = 4 << 30;

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    size: usize,
    expansion_left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, size: payload.len(), expansion_left: EXPANDED_SIZE_BYTES_MAX }
    }

    pub(super) fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError { offset: self.size - self.rest.len(), reason }
    }

    pub(super) fn finish(&self) -> DecodeResult<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("bytes after the end")) }
    }

    pub(super) fn bytes(&mut self, size: usize) -> DecodeResult<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or_else(|| self.error("cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> DecodeResult<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.error("cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> DecodeResult<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> DecodeResult<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> DecodeResult<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> DecodeResult<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn f64(&mut self) -> DecodeResult<f64> {
        self.array().map(f64::from_le_bytes)
    }

    /// LEB128, at most 64 bits.
    pub(super) fn varint(&mut self) -> DecodeResult<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("varint over 64 bits"))
    }

    /// Zigzag LEB128 that fits 32 bits.
    pub(super) fn zigzag(&mut self) -> DecodeResult<i32> {
        let coded = u32::try_from(self.varint()?).map_err(|_| self.error("number over 32 bits"))?;
        Ok((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
    }

    /// A number of items that each take at least `item_size_min` bytes: never more than the rest can hold.
    pub(super) fn count(&mut self, item_size_min: usize) -> DecodeResult<usize> {
        let count = self.varint()?;
        let count_max = self.rest.len() / item_size_min;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= count_max)
            .ok_or_else(|| self.error("count over what follows"))
    }

    /// An index below `limit`.
    pub(super) fn index(&mut self, limit: usize) -> DecodeResult<usize> {
        let index = self.varint()?;
        usize::try_from(index).ok().filter(|index| *index < limit).ok_or_else(|| self.error("index out of range"))
    }

    /// The string table.
    pub(super) fn strings(&mut self) -> DecodeResult<Vec<&'a str>> {
        let count = self.count(1)?;
        let mut strings = Vec::with_capacity(count);
        for _ in 0..count {
            let size = self.count(1)?;
            let text = std::str::from_utf8(self.bytes(size)?).map_err(|_| self.error("text is not UTF-8"))?;
            strings.push(text);
        }
        Ok(strings)
    }

    /// A reference into the string table.
    pub(super) fn text<'s>(&mut self, strings: &[&'s str]) -> DecodeResult<&'s str> {
        let index = self.index(strings.len())?;
        Ok(strings.get(index).copied().unwrap_or_default())
    }

    /// A copy of the text that a reference names.
    pub(super) fn string(&mut self, strings: &[&str]) -> DecodeResult<String> {
        let text = self.text(strings)?;
        self.expand(text.len())?;
        Ok(text.to_owned())
    }

    /// Accounts for memory that a reference brings into being.
    pub(super) fn expand(&mut self, size: usize) -> DecodeResult<()> {
        let left = self.expansion_left.checked_sub(size).ok_or_else(|| self.error("record expands over the limit"))?;
        self.expansion_left = left;
        Ok(())
    }
}
