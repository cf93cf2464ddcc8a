//! Numbers in order, of which some come and some go: what a window holds while it moves on.

/// A block is split in two when it has twice as many values.
const BLOCK_VALUES: usize = 512;

/// Values by [`f64::total_cmp`]. To add, to take away and to look one up costs a block and the number of blocks.
#[derive(Debug, Default)]
pub(crate) struct SortedValues {
    /// None is empty; those of one are not above those of the next.
    blocks: Vec<Vec<f64>>,
    len: usize,
}

impl From<Vec<f64>> for SortedValues {
    fn from(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self { blocks: values.chunks(BLOCK_VALUES).map(<[f64]>::to_vec).collect(), len: values.len() }
    }
}

impl SortedValues {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = f64> {
        self.blocks.iter().flatten().copied()
    }

    /// The value at `index` in order.
    pub(crate) fn get(&self, mut index: usize) -> Option<f64> {
        for block in &self.blocks {
            match block.get(index) {
                Some(value) => return Some(*value),
                None => index -= block.len(),
            }
        }
        None
    }

    /// Which block `value` is in, or would be if it was in any.
    fn block(&self, value: f64) -> usize {
        self.blocks.partition_point(|block| block.last().is_some_and(|last| last.total_cmp(&value).is_lt()))
    }

    pub(crate) fn insert(&mut self, value: f64) {
        self.len += 1;
        if self.blocks.is_empty() {
            self.blocks.push(vec![value]);
            return;
        }
        let at = self.block(value).min(self.blocks.len() - 1);
        let block = &mut self.blocks[at];
        let place = block.partition_point(|known| known.total_cmp(&value).is_lt());
        block.insert(place, value);
        if block.len() >= 2 * BLOCK_VALUES {
            let upper = block.split_off(BLOCK_VALUES);
            self.blocks.insert(at + 1, upper);
        }
    }

    /// Takes one value of those bits away, if there is any.
    pub(crate) fn remove(&mut self, value: f64) {
        let at = self.block(value);
        let Some(block) = self.blocks.get_mut(at) else { return };
        let Ok(place) = block.binary_search_by(|known| known.total_cmp(&value)) else { return };
        block.remove(place);
        self.len -= 1;
        if block.is_empty() {
            self.blocks.remove(at);
        }
    }

    /// Bytes of memory beside itself.
    pub(crate) fn size(&self) -> usize {
        let values: usize = self.blocks.iter().map(Vec::capacity).sum();
        values * size_of::<f64>() + self.blocks.capacity() * size_of::<Vec<f64>>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_in_order_whatever_comes_and_goes(
            first in prop::collection::vec(-9i8..9, 0..3000), changes in prop::collection::vec((any::<bool>(), -9i8..9), 0..2500)
        ) {
            let mut expected: Vec<f64> = first.iter().map(|value| f64::from(*value) / 4.0).collect();
            let mut values = SortedValues::from(expected.clone());
            for (is_new, value) in changes {
                let value = f64::from(value) / 4.0;
                if is_new {
                    values.insert(value);
                    expected.push(value);
                } else {
                    values.remove(value);
                    if let Some(place) = expected.iter().position(|known| known.to_bits() == value.to_bits()) {
                        expected.swap_remove(place);
                    }
                }
            }
            expected.sort_unstable_by(f64::total_cmp);
            prop_assert_eq!(values.len(), expected.len());
            prop_assert_eq!(values.get(expected.len()), None);
            let middle = expected.len() / 2;
            prop_assert_eq!(values.get(middle), expected.get(middle).copied());
            prop_assert_eq!(values.iter().collect::<Vec<_>>(), expected);
        }
    }
}
