//! A side cut into windows as long as the one under test.

use crate::{drift::request::Side, window::Window};

/// Most windows that a reference is cut in; of more the last ones are kept.
const WINDOWS_MAX: usize = 4 * 168;
/// A side is cut in this many slots to say how much of it has data.
pub(super) const SLOTS: i64 = 100;

/// Microseconds of a slot.
pub(super) fn slot_us(side: &Side) -> i64 {
    (side.length_us() / SLOTS).max(1)
}

/// Windows of equal length, oldest first.
pub(super) struct Windows(Vec<Window>);

impl Windows {
    /// Those of `length_us` that end with each window of `side`; none without a length, or where fewer than two fit.
    pub(super) fn new(side: &Side, length_us: Option<i64>) -> Self {
        let Some(length_us) = length_us.map(|length_us| length_us.max(1)) else { return Self(vec![]) };
        let mut parts = vec![];
        for window in &side.windows {
            let count = ((window.end_us - window.start_us) / length_us).min(WINDOWS_MAX as i64);
            let part = |back: i64| Window {
                start_us: window.end_us - back * length_us,
                end_us: window.end_us - (back - 1) * length_us,
            };
            parts.extend((1..=count).rev().map(part));
        }
        parts.sort_unstable_by_key(|part| part.start_us);
        parts.drain(..parts.len().saturating_sub(WINDOWS_MAX));
        // One window is the reference itself, against nothing.
        Self(if parts.len() < 2 { vec![] } else { parts })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one of `each` that holds `time_us`.
    pub(super) fn of<'a, T>(&self, each: &'a mut [T], time_us: Option<i64>) -> Option<&'a mut T> {
        let time_us = time_us?;
        let at = self.0.partition_point(|part| part.start_us <= time_us).checked_sub(1)?;
        if time_us < self.0[at].end_us { each.get_mut(at) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_with_the_side_and_gaps_belong_to_none() {
        let window = |start_us, end_us| Window { start_us, end_us };
        let side = Side { windows: vec![window(0, 25), window(100, 120)], filters: vec![] };
        let parts = Windows::new(&side, Some(10));
        assert_eq!(parts.0.iter().map(|part| part.start_us).collect::<Vec<_>>(), [5, 15, 100, 110]);
        let mut each = [0; 4];
        for (time_us, at) in
            [(4, None), (5, Some(0)), (24, Some(1)), (25, None), (99, None), (119, Some(3)), (120, None)]
        {
            let found = parts.of(&mut each, Some(time_us)).map(|found| *found += 1);
            assert_eq!(found.is_some(), at.is_some(), "{time_us}");
        }
        assert_eq!(each, [1, 1, 0, 1]);
        assert!(Windows::new(&side, None).is_empty());
        assert!(Windows::new(&Side::new(window(0, 15), vec![]), Some(10)).is_empty());
        assert_eq!(slot_us(&side), 1);
    }
}
