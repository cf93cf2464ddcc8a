//! The memory of queries, of all or of one user, of which none that can spill takes the last.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use datafusion::{
    common::resources_datafusion_err,
    error::Result,
    execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size},
};

/// At most `bytes_max`, which count in `whole` as well. What can spill may hold no more than it leaves free, so that two sorts
/// take a third each and leave a third; what cannot spill may take all.
///
/// The rule is the dynamic threshold of shared packet buffers (Choudhury and Hahne, 1998) with a factor of one. `DataFusion`'s
/// greedy pool lets the first sort of a query take what the second needs to begin, its fair one gives each of the hundred
/// repartitions of thirty queries the same share as a sort.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    /// Whose it is, and the setting that raises it.
    purpose: String,
    bytes_max: usize,
    bytes: AtomicUsize,
    whole: Option<Arc<dyn MemoryPool>>,
}

impl QueryMemory {
    /// That of all queries.
    pub(crate) fn of_all(bytes_max: usize) -> Self {
        Self { purpose: "all queries, query.memory".to_owned(), bytes_max, bytes: AtomicUsize::new(0), whole: None }
    }

    /// That of `user` in the `whole` of all.
    pub(crate) fn of_user(user: &str, bytes_max: usize, whole: Arc<dyn MemoryPool>) -> Self {
        let purpose = format!("user {user}, query.users.{user}.memory");
        Self { purpose, whole: Some(whole), ..Self::of_all(bytes_max) }
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [used, all] = [self.reserved(), self.bytes_max].map(human_readable_size);
        write!(f, "{used} of {all} for {}", self.purpose)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query memory"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if let Some(whole) = &self.whole {
            whole.register(consumer);
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if let Some(whole) = &self.whole {
            whole.unregister(consumer);
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.bytes.fetch_add(additional, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.grow(reservation, additional);
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        if let Some(whole) = &self.whole {
            whole.shrink(reservation, shrink);
        }
        self.bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let held = reservation.size();
        // The first batch of a sort may be the last of the memory: without it the sort has nothing to spill.
        let yields = reservation.consumer().can_spill() && held > 0;
        let left_min = if yields { held.saturating_add(additional) } else { 0 };
        let grown = |bytes: usize| {
            let grown = bytes.checked_add(additional)?;
            (left_min <= self.bytes_max.checked_sub(grown)?).then_some(grown)
        };
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).map_err(|bytes| {
            let left = self.bytes_max.saturating_sub(bytes);
            let [more, held, left, all] = [additional, held, left, self.bytes_max].map(human_readable_size);
            let (name, purpose) = (reservation.consumer().name(), &self.purpose);
            resources_datafusion_err!(
                "{name} asked for {more} beside its {held}, {left} of {all} are left for {purpose}"
            )
        })?;
        match &self.whole {
            Some(whole) => whole.try_grow(reservation, additional).inspect_err(|_full| {
                self.bytes.fetch_sub(additional, Ordering::Relaxed);
            }),
            None => Ok(()),
        }
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
    use super::*;

    #[test]
    fn what_can_spill_leaves_as_much_as_it_holds() {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryMemory::of_all(120));
        let sorts = ["first", "second"].map(|name| MemoryConsumer::new(name).with_can_spill(true).register(&pool));
        let fill = |sort: &MemoryReservation| while sort.try_grow(1).is_ok() {};
        fill(&sorts[0]);
        assert_eq!(sorts[0].size(), 60);
        fill(&sorts[1]);
        assert_eq!(sorts[1].size(), 30);
        sorts[0].free();
        fill(&sorts[0]);
        assert_eq!((sorts[0].size(), pool.reserved()), (45, 75));
        let join = MemoryConsumer::new("join").register(&pool);
        join.try_grow(45).unwrap();
        let refused = join.try_grow(1).unwrap_err().to_string();
        assert!(refused.contains("join asked for 1") && refused.contains("query.memory"), "{refused}");
        drop((sorts, join));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn the_first_bytes_may_be_the_last_ones() {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryMemory::of_all(100));
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&pool);
        sort.try_grow(100).unwrap();
        assert!(sort.try_grow(1).is_err());
        sort.free();
        sort.try_grow(80).unwrap();
        assert_eq!(pool.reserved(), 80);
    }

    #[test]
    fn a_user_has_a_part_of_the_memory_of_all() {
        let shared: Arc<dyn MemoryPool> = Arc::new(QueryMemory::of_all(100));
        let user: Arc<dyn MemoryPool> = Arc::new(QueryMemory::of_user("guest", 60, Arc::clone(&shared)));
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
