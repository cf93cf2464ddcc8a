//! Threads for long work that gives way: flushes and merges take the time that requests and queries leave.
//!
//! Each piece of work has a thread of its own, because an unprivileged thread that lowered its priority cannot raise it
//! again, as a thread of a pool would have to.

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// How much of a contended core a piece of work takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Hardly any: a merge can wait for hours.
    Merge,
    /// Less than a request, but enough to keep up with full ingest.
    Flush,
    /// As much as a request, which would soon have to wait for the work.
    Pressing,
}

impl Priority {
    /// Of 100, where 50 is ordinary; `None` leaves it. On Unix niceness 10 and 4.
    fn level(self) -> Option<u8> {
        match self {
            Self::Merge => Some(22),
            Self::Flush => Some(38),
            Self::Pressing => None,
        }
    }
}

/// Runs `work` on a thread called `name`. Work whose caller stops waiting runs to its end all the same.
///
/// # Errors
/// That of `work`; [`Error::Task`] if the thread cannot be started or panics.
pub(crate) async fn run<T: Send + 'static>(
    name: &'static str,
    priority: Priority,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let body = move || {
        if let Some(level) = priority.level()
            && let Err(error) = lower_to(level)
        {
            tracing::debug!(%error, name, "the priority of a thread could not be lowered");
        }
        // Nobody waits for the answer of an abandoned task.
        let _abandoned = answer.send(work());
    };
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map_err(|error| Error::Task(format!("start the {name} thread: {error}")))?;
    answered.await.map_err(|_panicked| Error::Task(format!("the {name} thread ended early")))?
}

fn lower_to(level: u8) -> Result<(), thread_priority::Error> {
    let level =
        ThreadPriorityValue::try_from(level).map_err(|_range| thread_priority::Error::Priority("out of range"))?;
    set_current_thread_priority(ThreadPriority::Crossplatform(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Niceness of the calling thread, as the kernel says it.
    #[cfg(target_os = "linux")]
    fn niceness() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // After the name in parentheses: state is the first field, niceness the seventeenth.
        let fields: Vec<_> = stat[stat.rfind(')').unwrap() + 2..].split(' ').map(str::to_owned).collect();
        fields[16].parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn each_priority_has_its_niceness_and_other_threads_keep_theirs() {
        let own = niceness();
        for (priority, expected) in [(Priority::Merge, 10), (Priority::Flush, 4), (Priority::Pressing, own)] {
            let seen = run("test", priority, || Ok(niceness())).await.unwrap();
            // A test run that is niced itself can raise its threads only with privileges.
            assert!([expected, expected.max(own)].contains(&seen), "{priority:?}: {seen} beside {own}");
        }
        assert_eq!(niceness(), own);
    }

    #[tokio::test]
    async fn a_failure_and_a_panic_reach_the_caller() {
        let failed = run::<()>("test-fail", Priority::Merge, || Err(Error::Closing)).await;
        assert!(matches!(failed, Err(Error::Closing)));
        let panicked = run::<()>("test-panic", Priority::Merge, || panic!("on purpose")).await;
        assert!(panicked.unwrap_err().to_string().contains("test-panic"));
    }
}
