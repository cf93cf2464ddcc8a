//! How often and how far apart a delivery is tried, and what came of every try.

use std::{future::Future, time::Duration};

use super::clock::Clock;

/// Bounded tries with doubling pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, at least 1.
    pub attempts_max: u32,
    /// Pause after the first failure; doubled after each further one.
    pub delay_first: Duration,
    /// No pause is longer.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts_max: 5, delay_first: Duration::from_secs(10), delay_max: Duration::from_secs(600) }
    }
}

impl RetryPolicy {
    /// Pause after failed attempt number `attempt` (from 1).
    fn delay(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.delay_first.saturating_mul(factor).min(self.delay_max)
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server took it.
    Delivered,
    /// It failed and is tried again.
    Retried,
    /// It failed and is not tried again.
    Failed,
}

impl Outcome {
    /// The word in the column `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Failed => "failed",
        }
    }
}

/// One try to deliver to one recipient: a row of the table `deliveries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// When the try ended, microseconds since 1970 in UTC.
    pub time_unix_us: i64,
    /// `mail` or `webhook`.
    pub channel: &'static str,
    /// Mail address, or name of the webhook.
    pub recipient: String,
    /// What was delivered: the subject of the mail, the event of the webhook.
    pub subject: String,
    /// Number of the try, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    pub error: Option<String>,
}

impl DeliveryAttempt {
    /// The error for tables and logs: servers repeat the address in it.
    pub fn masked_error(&self) -> Option<String> {
        Some(self.error.as_ref()?.replace(&self.recipient, &self.masked_recipient()))
    }

    /// The recipient for tables and logs: of a mail address the first letter and the domain, `a…@example.com`.
    pub fn masked_recipient(&self) -> String {
        match self.recipient.rsplit_once('@') {
            Some((local, domain)) => format!("{}…@{domain}", local.chars().take(1).collect::<String>()),
            None => self.recipient.clone(),
        }
    }
}

/// Why one try failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) retry: Retry,
}

/// Whether another try can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Later,
    /// The server said when.
    After(Duration),
}

/// What is delivered to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label<'a> {
    pub(super) channel: &'static str,
    pub(super) recipient: &'a str,
    pub(super) subject: &'a str,
}

/// Tries until it is delivered, cannot be, or the tries are used up. Every try is in the answer.
pub(super) async fn deliver<F>(
    policy: RetryPolicy,
    clock: &dyn Clock,
    label: Label<'_>,
    mut send: impl FnMut() -> F,
) -> Vec<DeliveryAttempt>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut attempts = Vec::new();
    for attempt in 1..=policy.attempts_max.max(1) {
        let result = send().await;
        let mut row = DeliveryAttempt {
            time_unix_us: clock.unix_us(),
            channel: label.channel,
            recipient: label.recipient.to_owned(),
            subject: label.subject.to_owned(),
            attempt,
            outcome: Outcome::Delivered,
            error: None,
        };
        let Err(Failure { mut reason, retry }) = result else {
            attempts.push(row);
            break;
        };
        let mut pause = match retry {
            Retry::Never => None,
            Retry::Later => Some(policy.delay(attempt)),
            Retry::After(wait) if wait > policy.delay_max => {
                // To come back earlier than asked would be refused again, and counts against the sender.
                reason += &format!(
                    "; the server asks to wait {} s, longer than delay_max of {} s",
                    wait.as_secs(),
                    policy.delay_max.as_secs()
                );
                None
            }
            Retry::After(wait) => Some(wait.max(policy.delay(attempt))),
        };
        if attempt == policy.attempts_max.max(1) {
            pause = None;
        }
        row.outcome = if pause.is_some() { Outcome::Retried } else { Outcome::Failed };
        row.error = Some(reason);
        attempts.push(row);
        match pause {
            Some(pause) => clock.sleep(pause).await,
            None => break,
        }
    }
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = RetryPolicy::default();
        let seconds: Vec<u64> = (1..9).map(|attempt| policy.delay(attempt).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(policy.delay(u32::MAX), policy.delay_max);
    }
}
