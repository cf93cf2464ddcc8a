//! Telling whoever owns a batch that it may not be used.

use anyhow::ensure;
use driftwatt_analyze::{
    delivery::{DeliveryAttempt, Outbox, Outcome},
    gates::Notice,
};

use super::args::GateArgs;
use crate::{clock::SystemClock, config::RawConfig};

/// The ways out, set up before the batch is looked at.
pub(super) struct Notifier {
    outbox: Outbox,
}

impl Notifier {
    /// Those of `[delivery]`; none unless `--notify` asks for them.
    ///
    /// # Errors
    /// A setting that cannot be used, or no way out at all.
    pub(super) fn new(args: &GateArgs) -> anyhow::Result<Option<Self>> {
        if !args.notify {
            return Ok(None);
        }
        let raw = RawConfig::read(args.log.config.as_ref())?.delivery;
        let config = raw.validate(&|name| std::env::var(name).ok())?;
        ensure!(
            config.mail.is_some() || !config.webhooks.is_empty(),
            "--notify needs [delivery.mail] or [[delivery.webhook]] in the file of --config (docs/delivery.md)"
        );
        Ok(Some(Self { outbox: Outbox::new(config)? }))
    }

    /// Sends the mail to the owner that the contract names, where `[delivery]` knows an address of that name, else to
    /// `delivery.mail.to`, and posts to every webhook.
    ///
    /// # Errors
    /// Somebody was not reached, after all tries.
    pub(super) async fn tell(&self, notice: &Notice<'_>) -> anyhow::Result<()> {
        let owner = notice.owner().and_then(|owner| self.outbox.address_of(owner));
        let to = owner.map_or_else(|| self.outbox.usual_recipients(), |owner| vec![owner]);
        let letter = notice.letter(to, self.outbox.webhook_names());
        let attempts = self.outbox.send(&letter, &SystemClock).await;
        let count = |outcome: Outcome| attempts.iter().filter(|attempt| attempt.outcome == outcome).count();
        eprintln!("driftwatt: told {} recipients", count(Outcome::Delivered));
        let failed = |attempt: &&DeliveryAttempt| attempt.outcome == Outcome::Failed;
        let reason = |attempt: &DeliveryAttempt| {
            let error = attempt.error.as_deref().unwrap_or("unknown");
            format!("{} {}: {error}", attempt.channel, attempt.recipient)
        };
        let reasons: Vec<String> = attempts.iter().filter(failed).map(reason).collect();
        ensure!(reasons.is_empty(), "{} recipients were not told: {}", reasons.len(), reasons.join("; "));
        Ok(())
    }
}
