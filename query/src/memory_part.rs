//! A part of the memory of queries: of one user, or of one of several sorts, the first of which would take all that there is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};

/// At most `bytes_max` of `whole`, in which it counts as well.
#[derive(Debug)]
pub(crate) struct MemoryPart {
    /// What it is for, as the error says it, with the setting that raises it if there is one.
    purpose: String,
    bytes_max: usize,
    bytes: AtomicUsize,
    whole: Arc<dyn MemoryPool>,
}

impl MemoryPart {
    pub(crate) fn new(purpose: impl Into<String>, bytes_max: usize, whole: Arc<dyn MemoryPool>) -> Self {
        Self { purpose: purpose.into(), bytes_max, bytes: AtomicUsize::new(0), whole }
    }
}

impl fmt::Display for MemoryPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes for {}", self.reserved(), self.bytes_max, self.purpose)
    }
}

impl MemoryPool for MemoryPart {
    fn name(&self) -> &str {
        "part"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.whole.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.whole.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.bytes.fetch_add(additional, Ordering::Relaxed);
        self.whole.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.whole.shrink(reservation, shrink);
        self.bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = |bytes: usize| bytes.checked_add(additional).filter(|bytes| *bytes <= self.bytes_max);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_err() {
            let message = format!("{} bytes for {}", self.bytes_max, self.purpose);
            return Err(DataFusionError::ResourcesExhausted(message));
        }
        self.whole.try_grow(reservation, additional).inspect_err(|_full| {
            self.bytes.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn a_part_counts_in_the_whole() {
        let shared: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let user: Arc<dyn MemoryPool> =
            Arc::new(MemoryPart::new("user guest, query.users.guest.memory", 60, Arc::clone(&shared)));
        let one = MemoryConsumer::new("one").register(&user);
        let two = MemoryConsumer::new("two").register(&user);
        let other = MemoryConsumer::new("other").register(&shared);
        one.try_grow(40).unwrap();
        let refused = two.try_grow(30).unwrap_err().to_string();
        assert!(refused.contains("query.users.guest.memory"), "{refused}");
        assert_eq!((user.reserved(), shared.reserved()), (40, 40));
        other.try_grow(50).unwrap();
        assert!(two.try_grow(20).is_err(), "nothing is left of what all have");
        assert_eq!(user.reserved(), 40);
        drop(one);
        two.try_grow(50).unwrap();
        drop(two);
        assert_eq!((user.reserved(), shared.reserved()), (0, 50));
    }
}
