//! The memory of one user: a part of that of all queries, which is asked for as well.

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

/// Memory of all queries of a user, at most `limit_bytes` of `shared`.
#[derive(Debug)]
pub(crate) struct UserMemory {
    user: String,
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    shared: Arc<dyn MemoryPool>,
}

impl UserMemory {
    pub(crate) fn new(user: &str, limit_bytes: usize, shared: Arc<dyn MemoryPool>) -> Self {
        Self { user: user.to_owned(), limit_bytes, used_bytes: AtomicUsize::new(0), shared }
    }
}

impl fmt::Display for UserMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes of user {}", self.reserved(), self.limit_bytes, self.user)
    }
}

impl MemoryPool for UserMemory {
    fn name(&self) -> &str {
        "user"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shared.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shared.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used_bytes.fetch_add(additional, Ordering::Relaxed);
        self.shared.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.shared.shrink(reservation, shrink);
        self.used_bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let more = |used: usize| used.checked_add(additional).filter(|used| *used <= self.limit_bytes);
        if self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            let Self { user, limit_bytes, .. } = self;
            let message = format!("{limit_bytes} bytes for user {user}, query.users.{user}.memory");
            return Err(DataFusionError::ResourcesExhausted(message));
        }
        self.shared.try_grow(reservation, additional).inspect_err(|_full| {
            self.used_bytes.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn a_user_has_a_part_of_the_memory_of_all() {
        let shared: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let user: Arc<dyn MemoryPool> = Arc::new(UserMemory::new("guest", 60, Arc::clone(&shared)));
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
