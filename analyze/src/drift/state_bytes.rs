//! A [`FeatureState`] as bytes of a stored row: a version byte, then LEB128 integers and little-endian doubles, then a checksum of
//! all before it.

use xxhash_rust::xxh3::xxh3_64;

use super::{
    category_counts::{CATEGORIES_MAX, OTHER},
    exact_sum::{ExactSum, LIMBS},
    feature_state::{FeatureState, StateError},
    histogram::{BUCKETS_MAX, Exponential, MergedHistogram},
};

/// Version of the layout below.
const VERSION: u8 = 2;
/// The version before, the same without a checksum: it is read, for its points may be gone.
const UNSEALED: u8 = 1;
/// Bytes of the checksum: the low half of XXH3-64, little-endian. A changed count is as well-formed as the one before.
const CHECKSUM_BYTES: usize = 4;
/// Explicit layouts and bounds that a decoder takes; more is corruption, not data.
const BOUNDS_MAX: u64 = 4_096;

impl FeatureState {
    /// The state as bytes: about 60 plus 2 to 3 for each bucket and the length of each category name.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for count in [self.null, self.non_finite, self.zero, self.sum_count, self.squares_count] {
            put(&mut out, count);
        }
        put_sum(&mut out, &self.sum);
        put_sum(&mut out, &self.squares);
        put_histogram(&mut out, &self.histogram);
        put_option(&mut out, self.categories.dropped_from().map(u64::to_le_bytes));
        put(&mut out, self.categories.other());
        put(&mut out, self.categories.named().count() as u64);
        for (name, count) in self.categories.named() {
            put(&mut out, name.len() as u64);
            out.extend(name.as_bytes());
            put(&mut out, count);
        }
        out.extend(checksum(&out));
        out
    }

    /// Reads what [`FeatureState::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] for anything else, with the offset: another version, changed bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader { bytes, at: 0 };
        match reader.byte()? {
            UNSEALED => {}
            VERSION => {
                let (sealed, stored) = bytes.split_last_chunk().ok_or_else(|| reader.corrupt("ends early"))?;
                if *stored != checksum(sealed) {
                    return Err(StateError::Corrupt { offset: sealed.len(), reason: "the checksum is another" });
                }
                reader.bytes = sealed;
            }
            _ => return Err(reader.corrupt("unknown version")),
        }
        let mut state = Self {
            null: reader.number()?,
            non_finite: reader.number()?,
            zero: reader.number()?,
            sum_count: reader.number()?,
            squares_count: reader.number()?,
            sum: reader.sum()?,
            squares: reader.sum()?,
            histogram: reader.histogram()?,
            ..Self::default()
        };
        let dropped_from = if reader.byte()? == 1 { Some(u64::from_le_bytes(reader.take()?)) } else { None };
        let other = reader.number()?;
        for _ in 0..reader.limited(CATEGORIES_MAX as u64)? {
            let length = reader.limited(bytes.len() as u64)? as usize;
            let start = reader.at;
            let name = reader.slice(length)?;
            let name = std::str::from_utf8(name)
                .map_err(|_| StateError::Corrupt { offset: start, reason: "category is not UTF-8" })?;
            let count = reader.number()?;
            state.categories.add(name, count);
        }
        state.categories.limit(dropped_from);
        state.categories.add(OTHER, other);
        if reader.at != reader.bytes.len() {
            return Err(reader.corrupt("bytes after the end"));
        }
        Ok(state)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    (xxh3_64(bytes) as u32).to_le_bytes()
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zigzag: small magnitudes of either sign are short.
fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_option(out: &mut Vec<u8>, value: Option<[u8; 8]>) {
    out.push(u8::from(value.is_some()));
    out.extend(value.iter().flatten());
}

fn put_sum(out: &mut Vec<u8>, sum: &ExactSum) {
    put(out, sum.overflowed());
    let limbs = sum.carried();
    let first = limbs.iter().position(|limb| *limb != 0).unwrap_or(0);
    let end = limbs.iter().rposition(|limb| *limb != 0).map_or(first, |last| last + 1);
    put(out, first as u64);
    put(out, (end - first) as u64);
    for limb in &limbs[first..end] {
        put_signed(out, *limb);
    }
}

fn put_histogram(out: &mut Vec<u8>, histogram: &MergedHistogram) {
    let (min, max) = histogram.range();
    put_option(out, min.map(f64::to_le_bytes));
    put_option(out, max.map(f64::to_le_bytes));
    put(out, histogram.explicit().len() as u64);
    for (bounds, counts) in histogram.explicit() {
        put(out, bounds.len() as u64);
        out.extend(bounds.iter().flat_map(|bits| bits.to_le_bytes()));
        counts.iter().for_each(|count| put(out, *count));
    }
    let exponential = histogram.exponential();
    out.push(u8::from(exponential.is_some()));
    let Some(exponential) = exponential else { return };
    put_signed(out, i64::from(exponential.scale));
    put(out, exponential.zero_count);
    out.extend(exponential.zero_threshold.to_le_bytes());
    for buckets in [&exponential.positive, &exponential.negative] {
        put(out, buckets.len() as u64);
        let mut before = 0;
        for (index, count) in buckets.iter() {
            put_signed(out, index - before);
            put(out, count);
            before = index;
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn corrupt(&self, reason: &'static str) -> StateError {
        StateError::Corrupt { offset: self.at, reason }
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        let end = self.at.checked_add(length).ok_or_else(|| self.corrupt("length overflows"))?;
        let slice = self.bytes.get(self.at..end).ok_or_else(|| self.corrupt("ends early"))?;
        self.at = end;
        Ok(slice)
    }

    fn take(&mut self) -> Result<[u8; 8], StateError> {
        let mut taken = [0; 8];
        taken.copy_from_slice(self.slice(8)?);
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, StateError> {
        Ok(self.slice(1)?[0])
    }

    fn number(&mut self) -> Result<u64, StateError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.corrupt("integer is longer than 64 bits"))
    }

    fn signed(&mut self) -> Result<i64, StateError> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn limited(&mut self, max: u64) -> Result<u64, StateError> {
        let value = self.number()?;
        if value > max { Err(self.corrupt("length is past the limit")) } else { Ok(value) }
    }

    fn finite(&mut self) -> Result<f64, StateError> {
        let value = f64::from_le_bytes(self.take()?);
        if value.is_finite() { Ok(value) } else { Err(self.corrupt("a number is not finite")) }
    }

    fn option(&mut self) -> Result<Option<f64>, StateError> {
        Ok(if self.byte()? == 1 { Some(self.finite()?) } else { None })
    }

    fn sum(&mut self) -> Result<ExactSum, StateError> {
        let overflowed = self.number()?;
        let first = self.limited(LIMBS as u64)? as usize;
        let count = self.limited((LIMBS - first) as u64)? as usize;
        let mut limbs = [0; LIMBS];
        for (at, limb) in limbs[first..first + count].iter_mut().enumerate() {
            let value = self.signed()?;
            let is_top = first + at == LIMBS - 1;
            if !is_top && !(0..1 << 32).contains(&value) {
                return Err(self.corrupt("limb is out of range"));
            }
            *limb = value;
        }
        Ok(ExactSum::from_parts(limbs, overflowed))
    }

    fn histogram(&mut self) -> Result<MergedHistogram, StateError> {
        let mut histogram = MergedHistogram::default();
        let (min, max) = (self.option()?, self.option()?);
        histogram.widen(min, max);
        let mut total = 0u64;
        for _ in 0..self.limited(BOUNDS_MAX)? {
            let length = self.limited(BOUNDS_MAX)?;
            let bounds = (0..length).map(|_| self.finite()).collect::<Result<Vec<_>, _>>()?;
            if !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
                return Err(self.corrupt("bounds are not ascending"));
            }
            let counts = (0..=length).map(|_| self.counted(&mut total)).collect::<Result<Vec<_>, _>>()?;
            histogram.add_explicit(&bounds, &counts);
        }
        if self.byte()? == 1 {
            let exponential = self.exponential(&mut total)?;
            histogram.add_exponential(exponential);
        }
        Ok(histogram)
    }

    /// A count, refused once the total passes 64 bits.
    fn counted(&mut self, total: &mut u64) -> Result<u64, StateError> {
        let count = self.number()?;
        *total = total.checked_add(count).ok_or_else(|| self.corrupt("counts overflow"))?;
        Ok(count)
    }

    fn exponential(&mut self, total: &mut u64) -> Result<Exponential, StateError> {
        let scale = i32::try_from(self.signed()?).ok().filter(|scale| (-62..=20).contains(scale));
        let mut exponential = Exponential::empty(scale.ok_or_else(|| self.corrupt("scale is out of range"))?);
        exponential.zero_count = self.counted(total)?;
        exponential.zero_threshold = self.finite()?;
        for negative in [false, true] {
            let length = self.limited(BUCKETS_MAX as u64)?;
            let mut buckets = Vec::with_capacity(length as usize);
            let mut index = 0i64;
            for _ in 0..length {
                let step = self.signed()?;
                let next = index.checked_add(step).filter(|next| next.abs() < 1 << 40);
                index = next.ok_or_else(|| self.corrupt("bucket index is out of range"))?;
                buckets.push((index, self.counted(total)?));
            }
            let buckets = buckets.into_iter().collect();
            if negative { exponential.negative = buckets } else { exponential.positive = buckets }
        }
        Ok(exponential)
    }
}
