//! The runtime of questions: threads of their own, which give way to those that receive and store.

use std::io;

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
use tokio::runtime::{Builder, Handle, Runtime};

/// Of 100, where 50 is ordinary; niceness 8 on Unix. Against requests for the same core a query gets a seventh of it.
const PRIORITY: u8 = 27;

/// Planning goes as deep as the statement; pages that are not touched cost nothing.
pub(crate) const STACK_SIZE_BYTES: usize = 8 << 20;

/// A runtime that may be dropped from inside another one.
pub(crate) struct QueryRuntime {
    handle: Handle,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl QueryRuntime {
    /// Starts one thread for each core; those for blocking work start as they are needed.
    ///
    /// # Errors
    /// The operating system gives no threads.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("query")
            .thread_stack_size(STACK_SIZE_BYTES)
            .on_thread_start(give_way)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to spawn what answers questions.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        // Blocking work that nobody waits for any more must not hold up the exit.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn give_way() {
    let lowered = ThreadPriorityValue::try_from(PRIORITY)
        .map_err(|_range| thread_priority::Error::Priority("out of range"))
        .and_then(|priority| set_current_thread_priority(ThreadPriority::Crossplatform(priority)));
    if let Err(error) = lowered {
        tracing::debug!(%error, "the priority of a query thread could not be lowered");
    }
}
