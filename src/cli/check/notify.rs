//! Telling whoever owns a batch that it is held back.

use anyhow::{Context as _, ensure};
use driftwatt_analyze::{
    delivery::{DeliveryAttempt, DeliveryConfig, Mailer, Outcome, Webhook},
    gates::{BATCH_HELD, Notice},
};

use super::super::GateArgs;
use crate::{clock::SystemClock, config::RawConfig};

/// The ways out, set up before the batch is looked at.
pub(super) struct Notifier {
    config: DeliveryConfig,
    mailer: Option<Mailer>,
    webhooks: Vec<Webhook>,
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
        let raw = RawConfig::read(args.config.as_ref())?.delivery;
        let config = raw.validate(&|name| std::env::var(name).ok())?;
        ensure!(
            config.mail.is_some() || !config.webhooks.is_empty(),
            "--notify needs [delivery.mail] or [[delivery.webhook]] in the file of --config (docs/delivery.md)"
        );
        let mailer = config.mail.as_ref().map(|mail| Mailer::new(mail, config.retry)).transpose()?;
        let webhooks = config
            .webhooks
            .iter()
            .map(|webhook| Webhook::new(webhook.clone(), config.retry))
            .collect::<Result<_, _>>()?;
        Ok(Some(Self { config, mailer, webhooks }))
    }

    /// Sends the mail to the owner that the contract names by address, else to `delivery.mail.to`, and posts to every webhook.
    ///
    /// # Errors
    /// Somebody was not reached, after all tries.
    pub(super) async fn tell(&self, notice: &Notice<'_>) -> anyhow::Result<()> {
        let mut attempts: Vec<DeliveryAttempt> = vec![];
        if let (Some(mailer), Some(mail)) = (&self.mailer, &self.config.mail) {
            let to = match notice.owner().filter(|owner| owner.contains('@')) {
                Some(owner) => vec![owner.to_owned()],
                None => mail.to.iter().map(ToString::to_string).collect(),
            };
            attempts.extend(mailer.send(&notice.mail(to), &SystemClock).await.context("tell the owner")?);
        }
        for webhook in &self.webhooks {
            attempts.extend(webhook.send(BATCH_HELD, &notice.webhook(), &SystemClock).await);
        }
        let failed = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Failed);
        let reasons: Vec<String> = failed
            .filter_map(|attempt| {
                Some(format!("{} {}: {}", attempt.channel, attempt.recipient, attempt.error.as_ref()?))
            })
            .collect();
        ensure!(reasons.is_empty(), "{} recipients were not told: {}", reasons.len(), reasons.join("; "));
        let told = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Delivered).count();
        eprintln!("driftwatt: told {told} recipients");
        Ok(())
    }
}
