//! Mail over SMTP: HTML and text of the same content, with attachments.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use lettre::{
    Address, Message, SmtpTransport, Transport as _,
    address::Envelope,
    message::{Attachment as AttachmentPart, Mailbox, MultiPart, SinglePart, header::ContentType},
    transport::smtp::{
        authentication::Credentials as SmtpCredentials,
        client::{Certificate, Tls, TlsParameters},
    },
};

use super::{
    Clock, DeliveryAttempt, DeliveryError, MailConfig, RetryPolicy, Security,
    retry::{self, Failure, Label, Retry},
};

/// Largest message, all attachments encoded; many servers refuse more. Leave attachments out to get below it.
const MESSAGE_BYTES_MAX: usize = 20 << 20;

/// A file of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name the recipient sees, such as `report.html`.
    pub file_name: String,
    /// Media type, such as `text/csv; charset=utf-8`.
    pub content_type: String,
    /// The file.
    pub content: Vec<u8>,
}

/// A mail to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Recipients; all are named in the header `To`.
    pub to: Vec<String>,
    /// One line.
    pub subject: String,
    /// For readers without HTML; the same content.
    pub text: String,
    /// A whole HTML page.
    pub html: String,
    /// Files.
    pub attachments: Vec<Attachment>,
}

/// Sends mail through one SMTP server.
#[derive(Debug)]
pub struct Mailer {
    transport: SmtpTransport,
    from: Mailbox,
    retry: RetryPolicy,
}

fn client_error(source: lettre::transport::smtp::Error) -> DeliveryError {
    DeliveryError::Client { what: "the SMTP client", source: Box::new(source) }
}

fn message_error(reason: impl Into<String>) -> DeliveryError {
    DeliveryError::Message { reason: reason.into() }
}

impl Mailer {
    /// A mailer of `config`; nothing is connected yet.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`] for a `ca_file` without certificates, [`DeliveryError::Client`] if TLS cannot be set up.
    pub fn new(config: &MailConfig, retry: RetryPolicy) -> Result<Self, DeliveryError> {
        let mut parameters = TlsParameters::builder(config.host.clone());
        if let Some(pem) = &config.ca_pem {
            let refused = |reason: String| DeliveryError::Setting { setting: "delivery.mail.ca_file".into(), reason };
            let certificate = Certificate::from_pem(pem)
                .map_err(|error| refused(format!("holds no certificate in PEM ({error}); write the authority's")))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let tls = match config.security {
            Security::None => Tls::None,
            Security::StartTls => Tls::Required(parameters.build_rustls().map_err(client_error)?),
            Security::Tls => Tls::Wrapper(parameters.build_rustls().map_err(client_error)?),
        };
        let mut builder = SmtpTransport::builder_dangerous(config.host.clone())
            .port(config.port)
            .timeout(Some(config.timeout))
            .tls(tls);
        if let Some(credentials) = &config.credentials {
            let password = credentials.password.reveal().to_owned();
            builder = builder.credentials(SmtpCredentials::new(credentials.user.clone(), password));
        }
        Ok(Self { transport: builder.build(), from: config.from.clone(), retry })
    }

    /// Sends `mail` to each recipient and returns every try, in order; one that was reached is never sent to again.
    ///
    /// # Errors
    /// [`DeliveryError::Message`] if no server would take it: no or a bad recipient, a subject of several lines, too large.
    pub async fn send(&self, mail: &Mail, clock: &dyn Clock) -> Result<Vec<DeliveryAttempt>, DeliveryError> {
        let recipients = mail
            .to
            .iter()
            .map(|to| {
                to.parse::<Mailbox>().map_err(|error| message_error(format!("{to:?} is no mail address ({error})")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let message = build(mail, &self.from, &recipients, clock.unix_us())?;
        let mut attempts = Vec::new();
        for recipient in &recipients {
            attempts.extend(self.send_to(&recipient.email, &mail.subject, &message, clock).await?);
        }
        Ok(attempts)
    }

    /// One SMTP transaction per recipient: a server that refuses one address keeps the mail from no other.
    async fn send_to(
        &self,
        recipient: &Address,
        subject: &str,
        message: &[u8],
        clock: &dyn Clock,
    ) -> Result<Vec<DeliveryAttempt>, DeliveryError> {
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![recipient.clone()])
            .map_err(|error| message_error(error.to_string()))?;
        let label = Label { channel: "mail", recipient: recipient.as_ref(), subject };
        let message: Arc<[u8]> = message.into();
        let attempts = retry::deliver(self.retry, clock, label, || async {
            let (transport, envelope, message) = (self.transport.clone(), envelope.clone(), Arc::clone(&message));
            // The client waits for the server with its thread; its asynchronous form would turn on features of `futures` for
            // every crate of the build, and be no faster for one mail an hour.
            let sent = tokio::task::spawn_blocking(move || transport.send_raw(&envelope, &message));
            match sent.await {
                Ok(sent) => sent.map(drop).map_err(|error| failure(&error)),
                Err(stopped) => Err(Failure { reason: stopped.to_string(), retry: Retry::Later }),
            }
        });
        Ok(attempts.await)
    }
}

/// RFC 5321, 4.2.1: 4yz is for now, 5yz for ever. Without an answer (refused, cut, timed out) the next try may get one; what
/// the client itself refuses, certificates included, stays as it is.
fn failure(error: &lettre::transport::smtp::Error) -> Failure {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.contains(&text) {
            reason += &format!(": {text}");
        }
        source = cause.source();
    }
    let forever = error.is_permanent() || error.is_client() || error.is_tls();
    Failure { reason, retry: if forever { Retry::Never } else { Retry::Later } }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of the mail: the same for the same content, sender, recipients and second.
fn build(mail: &Mail, from: &Mailbox, to: &[Mailbox], unix_us: i64) -> Result<Vec<u8>, DeliveryError> {
    if to.is_empty() {
        return Err(message_error("has no recipient; set delivery.mail.to"));
    }
    if mail.subject.trim().is_empty() || mail.subject.contains(char::is_control) {
        return Err(message_error("the subject must be one line that is not empty"));
    }
    let seconds = u64::try_from(unix_us / 1_000_000).unwrap_or(0);
    let mut digest = digest::Context::new(&digest::SHA256);
    for part in [&mail.subject, &mail.text, &mail.html, &from.to_string(), &mail.to.join(","), &seconds.to_string()] {
        digest.update(&(part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    for attachment in &mail.attachments {
        digest.update(&attachment.content);
    }
    let identity = hex(&digest.finish().as_ref()[..16]);
    let mut builder = Message::builder()
        .from(from.clone())
        .subject(mail.subject.clone())
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .message_id(Some(format!("<{identity}@{}>", from.email.domain())));
    for recipient in to {
        builder = builder.to(recipient.clone());
    }
    let alternative = MultiPart::alternative()
        .boundary(format!("alternative-{identity}"))
        .singlepart(SinglePart::plain(mail.text.clone()))
        .singlepart(SinglePart::html(mail.html.clone()));
    let body = if mail.attachments.is_empty() {
        alternative
    } else {
        let mut mixed = MultiPart::mixed().boundary(format!("mixed-{identity}")).multipart(alternative);
        for attachment in &mail.attachments {
            let content_type = ContentType::parse(&attachment.content_type).map_err(|error| {
                message_error(format!(
                    "{:?} of {} is no media type: {error}",
                    attachment.content_type, attachment.file_name
                ))
            })?;
            let part = AttachmentPart::new(attachment.file_name.clone());
            mixed = mixed.singlepart(part.body(attachment.content.clone(), content_type));
        }
        mixed
    };
    let bytes = builder.multipart(body).map_err(|error| message_error(error.to_string()))?.formatted();
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(message_error(format!(
            "is {} MiB, more than {} MiB; leave attachments out",
            bytes.len() >> 20,
            MESSAGE_BYTES_MAX >> 20
        )));
    }
    Ok(bytes)
}
