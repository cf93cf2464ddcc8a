//! One number data point, as memory holds it.

use crate::points::Point;

/// Start times farther than this from 1970, 73 000 years in microseconds, are kept as the nearest that is not.
const START_TIME_MAX: i64 = (1 << 61) - 1;
const FORM_BITS: u32 = 2;

/// One number data point. Memory holds more of these than of anything else, so the form shares a word: 24 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) time: i64,
    pub(crate) bits: u64,
    start_time_and_form: i64,
}

impl Sample {
    /// A point at `time`; `bits` and `form` are those of [`SampleColumns`](crate::write_batch::SampleColumns).
    pub(crate) fn new(time: i64, start_time: i64, bits: u64, form: u8) -> Self {
        debug_assert!(form < 1 << FORM_BITS, "form {form} does not fit");
        let start_time = start_time.clamp(-START_TIME_MAX, START_TIME_MAX);
        Self { time, bits, start_time_and_form: start_time << FORM_BITS | i64::from(form) }
    }

    /// Start of the interval, UTC microseconds; 0 when not given.
    pub(crate) fn start_time(&self) -> i64 {
        self.start_time_and_form >> FORM_BITS
    }

    /// What `bits` holds.
    pub(crate) fn form(&self) -> u8 {
        (self.start_time_and_form & ((1 << FORM_BITS) - 1)) as u8
    }
}

impl Point for Sample {
    const CHUNK_COUNT: usize = 128;

    fn key(&self) -> (i64, i64) {
        (self.time, self.start_time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_and_form_share_a_word_without_touching_each_other() {
        assert_eq!(size_of::<Sample>(), 24);
        for start_time in [0, 1, -1, 1_795_392_000_000_000, -START_TIME_MAX, START_TIME_MAX] {
            for form in 0..3 {
                let sample = Sample::new(i64::MIN, start_time, u64::MAX, form);
                assert_eq!((sample.start_time(), sample.form()), (start_time, form));
                assert_eq!((sample.key(), sample.bits), ((i64::MIN, start_time), u64::MAX));
            }
        }
        assert_eq!(Sample::new(0, i64::MAX, 0, 2).start_time(), START_TIME_MAX);
        assert_eq!(Sample::new(0, i64::MIN, 0, 1).start_time(), -START_TIME_MAX);
    }
}
