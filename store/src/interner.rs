//! Texts and attribute lists that many series share, each in memory once.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::series::{AttributeValue, Attributes, sort};

/// Entries below which nothing is swept.
const SWEEP_COUNT_MIN: usize = 1024;

/// Gives equal texts and attribute lists one place in memory, for as long as a series refers to them.
///
/// It keeps nothing alive: what no series refers to any more is forgotten when the table has doubled.
#[derive(Debug, Default)]
pub struct Interner {
    texts: Shared<str>,
    lists: Shared<Attributes>,
}

impl Interner {
    /// The one copy of `text`.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.get(xxh3_64(text.as_bytes()), |known| known == text).unwrap_or_else(|hash| {
            let new = Arc::from(text);
            self.texts.remember(hash, &new);
            new
        })
    }

    /// The one copy of `attributes`, sorted by key; of a repeated key the last value stays. Lists with doubles, lists or
    /// maps inside are not shared.
    pub fn list(&mut self, mut attributes: Attributes) -> Arc<Attributes> {
        sort(&mut attributes);
        let Some(hash) = hash(&attributes) else { return Arc::new(attributes) };
        self.lists.get(hash, |known| *known == attributes).unwrap_or_else(|hash| {
            attributes.shrink_to_fit();
            let new = Arc::new(attributes);
            self.lists.remember(hash, &new);
            new
        })
    }
}

/// Whether equality of `attributes` is equality of bits: doubles take 0.0 for -0.0.
pub(crate) fn is_exact(attributes: &Attributes) -> bool {
    use AttributeValue::{Bool, Bytes, Empty, Int, String};
    attributes.iter().all(|(_, value)| matches!(value, Empty | String(_) | Bool(_) | Int(_) | Bytes(_)))
}

/// `None` if the list is not [exact](is_exact).
fn hash(attributes: &Attributes) -> Option<u64> {
    let mut hasher = Xxh3Default::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (key, value) in attributes {
        part(key.as_bytes());
        match value {
            AttributeValue::Empty => part(&[]),
            AttributeValue::String(text) => part(text.as_bytes()),
            AttributeValue::Bool(value) => part(&[u8::from(*value)]),
            AttributeValue::Int(value) => part(&value.to_le_bytes()),
            AttributeValue::Bytes(bytes) => part(bytes),
            AttributeValue::Double(_) | AttributeValue::Array(_) | AttributeValue::Map(_) => return None,
        }
    }
    Some(hasher.digest())
}

/// Values by hash. Of two values with one hash the later stays unshared, which costs its memory and nothing else.
#[derive(Debug)]
struct Shared<T: ?Sized> {
    values: HashMap<u64, Weak<T>>,
    sweep_count: usize,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { values: HashMap::default(), sweep_count: SWEEP_COUNT_MIN }
    }
}

impl<T: ?Sized> Shared<T> {
    /// The value of `hash` that `is_same`, or the hash back.
    fn get(&self, hash: u64, is_same: impl Fn(&T) -> bool) -> Result<Arc<T>, u64> {
        self.values.get(&hash).and_then(Weak::upgrade).filter(|known| is_same(known)).ok_or(hash)
    }

    fn remember(&mut self, hash: u64, value: &Arc<T>) {
        if self.values.len() >= self.sweep_count {
            self.values.retain(|_, value| value.strong_count() > 0);
            self.sweep_count = (2 * self.values.len()).max(SWEEP_COUNT_MIN);
        }
        self.values.insert(hash, Arc::downgrade(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(host: &str) -> Attributes {
        vec![("host".into(), AttributeValue::String(host.into())), ("cpu".into(), AttributeValue::Int(1))]
    }

    #[test]
    fn equal_values_are_one_and_unequal_ones_are_not() {
        let mut interner = Interner::default();
        let (text, one) = (interner.text("m"), interner.list(list("a")));
        assert!(Arc::ptr_eq(&text, &interner.text("m")) && Arc::ptr_eq(&one, &interner.list(list("a"))));
        assert_eq!(one[0].0, "cpu", "sorted");
        assert!(!Arc::ptr_eq(&one, &interner.list(list("b"))));
        let zero = |zero: f64| vec![("zero".to_owned(), AttributeValue::Double(zero))];
        let (plus, minus) = (interner.list(zero(0.0)), interner.list(zero(-0.0)));
        assert!(!Arc::ptr_eq(&plus, &minus));
    }

    #[test]
    fn what_nobody_refers_to_is_forgotten() {
        let mut interner = Interner::default();
        let kept = interner.text("kept");
        for n in 0..100_000 {
            interner.text(&n.to_string());
            interner.list(list(&n.to_string()));
        }
        assert!(interner.texts.values.len() <= SWEEP_COUNT_MIN && interner.lists.values.len() <= SWEEP_COUNT_MIN);
        assert!(Arc::ptr_eq(&kept, &interner.text("kept")));
    }
}
