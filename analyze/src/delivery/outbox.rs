//! One result on its way to everybody who gets it, by mail and by webhook.

use serde_json::{Value, json};

use super::{
    Attachment, Clock, DeliveryAttempt, DeliveryConfig, DeliveryError, Mail, Mailer, Outcome, Webhook,
    settings::{MailConfig, mailbox},
};

/// What is told, in every form.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Mail addresses.
    pub to: Vec<String>,
    /// Webhooks by name.
    pub webhooks: Vec<String>,
    /// What happened, for receivers of webhooks: `weekly-report`.
    pub event: &'static str,
    /// One line.
    pub subject: String,
    /// For readers without HTML; the same content.
    pub text: String,
    /// A whole HTML page.
    pub html: String,
    /// Files of the mail.
    pub attachments: Vec<Attachment>,
    /// The result for programs.
    pub result: Value,
}

/// All ways out.
#[derive(Debug)]
pub struct Outbox {
    mail: Option<(Mailer, MailConfig)>,
    webhooks: Vec<(String, Webhook)>,
    config: DeliveryConfig,
}

impl Outbox {
    /// The ways out of `config`; nothing is connected yet.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`] for a `ca_file` without certificates, [`DeliveryError::Client`] if TLS cannot be set up.
    pub fn new(config: DeliveryConfig) -> Result<Self, DeliveryError> {
        let mail = match &config.mail {
            Some(mail) => Some((Mailer::new(mail, config.retry)?, mail.clone())),
            None => None,
        };
        let named = config
            .webhooks
            .iter()
            .map(|webhook| Webhook::new(webhook.clone(), config.retry).map(|client| (webhook.name.clone(), client)));
        Ok(Self { mail, webhooks: named.collect::<Result<_, _>>()?, config })
    }

    /// Who gets mail that names nobody; empty without mail.
    pub fn usual_recipients(&self) -> Vec<String> {
        let usual = self.mail.iter().flat_map(|(_, config)| &config.to);
        usual.map(|mailbox| mailbox.email.to_string()).collect()
    }

    /// The names of all webhooks.
    pub fn webhook_names(&self) -> Vec<String> {
        self.webhooks.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The addresses of `to` without names, as attempts and deliveries have them.
    pub fn addresses(to: &[String]) -> Vec<String> {
        let address = |text: &String| {
            text.parse::<lettre::message::Mailbox>().map_or_else(|_| text.clone(), |mailbox| mailbox.email.to_string())
        };
        to.iter().map(address).collect()
    }

    /// Checks recipients before anything is due: `setting` is what the error names.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`] for mail without `[delivery.mail]`, a bad address, and a webhook that is not configured.
    pub fn check(&self, setting: &str, to: &[String], webhooks: &[String]) -> Result<(), DeliveryError> {
        let refuse = |reason: String| Err(DeliveryError::Setting { setting: setting.to_owned(), reason });
        if !to.is_empty() && self.mail.is_none() {
            return refuse("names recipients, and there is no [delivery.mail] to send by; add it".into());
        }
        for address in to {
            mailbox(setting, address)?;
        }
        match webhooks.iter().find(|name| self.webhooks.iter().all(|(known, _)| known != *name)) {
            Some(name) => refuse(format!("{name:?} is no [[delivery.webhook]]; add it or correct the name")),
            None => Ok(()),
        }
    }

    /// The mail address of `owner`, a name or an address as telemetry or a contract gives it; none if mail must not go there.
    ///
    /// Whoever may send metrics or change a contract could name any address in them, so besides `[delivery.owners]` only addresses in the domain of
    /// the sender or of a configured recipient count.
    pub fn address_of(&self, owner: &str) -> Option<String> {
        let owner = owner.trim();
        if let Some(address) = self.config.owners.get(&owner.to_lowercase()) {
            return Some(address.clone());
        }
        let (_, mail) = self.mail.as_ref()?;
        let found = owner.parse::<lettre::Address>().ok()?;
        let mut ours = mail.to.iter().chain([&mail.from]).map(|mailbox| mailbox.email.domain());
        ours.any(|domain| domain.eq_ignore_ascii_case(found.domain())).then(|| found.to_string())
    }

    /// Sends `letter` to all it names and returns every try; what no server would take is one failed try.
    pub async fn send(&self, letter: &Letter, clock: &dyn Clock) -> Vec<DeliveryAttempt> {
        let mut attempts = Vec::new();
        if let Some((mailer, _)) = self.mail.as_ref().filter(|_| !letter.to.is_empty()) {
            let mail = Mail {
                to: letter.to.clone(),
                subject: letter.subject.clone(),
                text: letter.text.clone(),
                html: letter.html.clone(),
                attachments: letter.attachments.clone(),
            };
            match mailer.send(&mail, clock).await {
                Ok(tries) => attempts.extend(tries),
                Err(error) => attempts.extend(letter.to.iter().map(|to| DeliveryAttempt {
                    time_unix_us: clock.unix_us(),
                    channel: "mail",
                    recipient: to.clone(),
                    subject: letter.subject.clone(),
                    attempt: 1,
                    outcome: Outcome::Failed,
                    error: Some(error.to_string()),
                })),
            }
        }
        let body =
            json!({ "event": letter.event, "subject": letter.subject, "text": letter.text, "result": letter.result });
        for (name, webhook) in self.webhooks.iter().filter(|(name, _)| letter.webhooks.contains(name)) {
            tracing::debug!(webhook = name, "posting");
            attempts.extend(webhook.send(letter.event, &body, clock).await);
        }
        attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::RawDelivery;

    fn outbox(text: &str) -> Outbox {
        let raw: RawDelivery = toml::from_str(text).unwrap();
        Outbox::new(raw.validate(&|_| None).unwrap()).unwrap()
    }

    #[test]
    fn telemetry_names_no_address_outside_of_what_is_configured() {
        let outbox = outbox(
            "[mail]\nhost = \"localhost\"\nsecurity = \"none\"\nfrom = \"d@corp.example\"\nto = [\"Ops <ops@example.com>\"]\n\
             [owners]\nMedia = \"media@other.example\"",
        );
        let of = |owner: &str| outbox.address_of(owner);
        assert_eq!(of("media").as_deref(), Some("media@other.example"));
        assert_eq!(of(" ada@Corp.example").as_deref(), Some("ada@Corp.example"));
        for owner in ["victim@elsewhere.example", "search", "", "ada@corp.example\r\nBcc: x@corp.example"] {
            assert_eq!(of(owner), None, "{owner}");
        }
        assert_eq!(outbox.usual_recipients(), ["ops@example.com"]);
        let refused = |to: &[&str], webhooks: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            outbox.check("schedule \"a\"", &owned(to), &owned(webhooks)).map_err(|error| error.to_string())
        };
        assert_eq!(refused(&["a@b.example"], &[]), Ok(()));
        assert!(refused(&["nobody"], &[]).unwrap_err().contains("mail address"));
        assert!(refused(&[], &["chat"]).unwrap_err().contains("[[delivery.webhook]]"));
    }
}
