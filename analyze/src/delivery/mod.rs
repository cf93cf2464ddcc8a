//! Delivery of reports and alerts: mail over SMTP and signed webhooks, with bounded retries.
//!
//! Nothing is lost in silence: every try becomes a [`DeliveryAttempt`], which is a row of the table `deliveries`. A
//! recipient that took a message never gets it again, whatever happens to the others. Secrets come from a file or an
//! environment variable and are in no message, error or `Debug`.

mod clock;
#[cfg(test)]
mod gate_mail_tests;
mod lineage_post;
mod mail;
mod outbox;
mod retry;
pub(crate) mod secret;
mod settings;
#[cfg(test)]
mod smtp_server;
#[cfg(test)]
mod tests;
mod webhook;

pub use clock::Clock;
pub use lineage_post::{LineagePost, RawOpenLineage};
pub use mail::{Attachment, Mail, Mailer};
pub use outbox::{Letter, Outbox};
pub use retry::{DeliveryAttempt, Outcome, RetryPolicy};
pub use secret::Secret;
pub(crate) use settings::is_this_machine;
pub use settings::{
    Credentials, DeliveryConfig, MailConfig, RawDelivery, RawMail, RawRetry, RawWebhook, Security, WebhookConfig,
};
pub use webhook::{Webhook, sign};

/// What keeps a delivery from being tried at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// A setting that cannot be used.
    #[error("setting {setting}: {reason}")]
    Setting {
        /// Its name.
        setting: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A message that no server would take.
    #[error("mail: {reason}")]
    Message {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The client could not be set up.
    #[error("set up {what}")]
    Client {
        /// Which one.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
