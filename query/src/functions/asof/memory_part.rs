//! A part of the memory of queries, for one of several sorts: the first would take all that there is, and the next could not
//! begin.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
        runtime_env::RuntimeEnv,
    },
};

/// What is taken of it counts in the whole as well.
#[derive(Debug)]
pub(super) struct MemoryPart {
    whole: Arc<dyn MemoryPool>,
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl MemoryPart {
    /// The context of a plan that may take `bytes_max` of the memory of `context`.
    pub(super) fn context(context: &TaskContext, bytes_max: usize) -> Arc<TaskContext> {
        let whole = Arc::clone(context.memory_pool());
        let runtime = RuntimeEnv {
            memory_pool: Arc::new(Self { whole, bytes_max, bytes: AtomicUsize::new(0) }),
            ..context.runtime_env().as_ref().clone()
        };
        let part = TaskContext::default().with_session_config(context.session_config().clone());
        Arc::new(part.with_runtime(Arc::new(runtime)))
    }
}

impl fmt::Display for MemoryPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes, part of {}", self.reserved(), self.bytes_max, self.whole)
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
        self.bytes.fetch_sub(shrink, Ordering::Relaxed);
        self.whole.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = |bytes: usize| bytes.checked_add(additional).filter(|bytes| *bytes <= self.bytes_max);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_err() {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "an ASOF JOIN needs {additional} bytes more than it may take to sort: {self}"
            )));
        }
        self.whole.try_grow(reservation, additional).inspect_err(|_| {
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
