//! The memory of all queries, of which none that can spill takes the last.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use datafusion::{
    common::resources_datafusion_err,
    error::Result,
    execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation, human_readable_size},
};

/// At most `bytes_max`. What can spill may hold no more than it leaves free, so that two sorts take a third each and
/// leave a third; what cannot spill may take all.
///
/// The rule is the dynamic threshold of shared packet buffers (Choudhury and Hahne, 1998) with a factor of one. `DataFusion`'s
/// greedy pool lets the first sort of a query take what the second needs to begin, its fair one gives each of the hundred
/// repartitions of thirty queries the same share as a sort.
#[derive(Debug)]
pub(crate) struct YieldingPool {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl YieldingPool {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: AtomicUsize::new(0) }
    }
}

impl fmt::Display for YieldingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [used, all] = [self.reserved(), self.bytes_max].map(human_readable_size);
        write!(f, "{used} of {all} for all queries")
    }
}

impl MemoryPool for YieldingPool {
    fn name(&self) -> &str {
        "yielding"
    }

    fn grow(&self, _reservation: &MemoryReservation, additional: usize) {
        self.bytes.fetch_add(additional, Ordering::Relaxed);
    }

    fn shrink(&self, _reservation: &MemoryReservation, shrink: usize) {
        self.bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let held = if reservation.consumer().can_spill() { reservation.size() } else { 0 };
        let left_min = if held == 0 { 0 } else { held.saturating_add(additional) };
        let grown = |bytes: usize| {
            let grown = bytes.checked_add(additional)?;
            (left_min <= self.bytes_max.checked_sub(grown)?).then_some(grown)
        };
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).map(drop).map_err(|bytes| {
            let [additional, held, left] =
                [additional, reservation.size(), self.bytes_max.saturating_sub(bytes)].map(human_readable_size);
            let name = reservation.consumer().name();
            resources_datafusion_err!("{name} asked for {additional} beside its {held} while {left} of {self} are left")
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
    use std::sync::Arc;

    use datafusion::execution::memory_pool::MemoryConsumer;

    use super::*;

    #[test]
    fn what_can_spill_leaves_as_much_as_it_holds() {
        let pool: Arc<dyn MemoryPool> = Arc::new(YieldingPool::new(120));
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
        assert!(refused.contains("join asked for 1") && refused.contains("of 120.0 B for all queries"), "{refused}");
        drop((sorts, join));
        assert_eq!(pool.reserved(), 0);
    }

    /// A batch that a sort holds before it can write anything.
    #[test]
    fn the_first_bytes_may_be_the_last_ones() {
        let pool: Arc<dyn MemoryPool> = Arc::new(YieldingPool::new(100));
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&pool);
        sort.try_grow(100).unwrap();
        assert!(sort.try_grow(1).is_err());
        sort.free();
        sort.try_grow(80).unwrap();
        assert_eq!(pool.reserved(), 80);
    }
}
