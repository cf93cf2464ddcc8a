use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
};
use mail_parser::{MessageParser, MimeHeaders as _};

use super::{
    clock::TestClock,
    smtp_server::{Fault, PASSWORD, Setup, SmtpServer, TLS_DIR, USER},
    *,
};

/// 2026-11-23T07:00:00Z.
const NOW_US: i64 = 1_795_417_200_000_000;

fn config(port: u16, security: Security, login: bool) -> MailConfig {
    MailConfig {
        host: "localhost".into(),
        port,
        security,
        ca_pem: Some(std::fs::read(format!("{TLS_DIR}/cert.pem")).unwrap()),
        from: "Driftwatt <driftwatt@example.com>".parse().unwrap(),
        to: vec!["ops@example.com".parse().unwrap()],
        credentials: login.then(|| Credentials { user: USER.into(), password: Secret::new(PASSWORD) }),
        timeout: Duration::from_secs(10),
    }
}

fn mail(to: &[&str]) -> Mail {
    Mail {
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        subject: "Week 47: 12 GPUs idle – 1 234 €".into(),
        text: "Two services\n.a line that begins with a dot\n.\nstill the same mail\n".into(),
        html: "<!doctype html><p>Zwei Dienste: größer &amp; kleiner</p>".into(),
        attachments: vec![
            Attachment {
                file_name: "report.html".into(),
                content_type: "text/html; charset=utf-8".into(),
                content: b"<!doctype html><title>report</title>".to_vec(),
            },
            Attachment {
                file_name: "gpus.csv".into(),
                content_type: "text/csv; charset=utf-8".into(),
                content: b"gpu,hours\r\nnode-a/0,168\r\n".to_vec(),
            },
        ],
    }
}

async fn send_with(config: &MailConfig, mail: &Mail, clock: &TestClock) -> Vec<DeliveryAttempt> {
    let retry = RetryPolicy { attempts_max: 4, ..RetryPolicy::default() };
    Mailer::new(config, retry).unwrap().send(mail, clock).await.unwrap()
}

fn outcomes(attempts: &[DeliveryAttempt]) -> Vec<(u32, &'static str)> {
    attempts.iter().map(|attempt| (attempt.attempt, attempt.outcome.as_str())).collect()
}

#[tokio::test]
async fn a_mail_arrives_over_starttls_and_tls_with_html_text_and_attachments() {
    for (setup, security) in [
        (Setup { starttls: true, tls: false, auth: Some("PLAIN") }, Security::StartTls),
        (Setup { starttls: true, tls: false, auth: Some("LOGIN") }, Security::StartTls),
        (Setup { starttls: false, tls: true, auth: Some("PLAIN") }, Security::Tls),
    ] {
        let server = SmtpServer::start(setup, vec![]).await;
        let clock = TestClock::at(NOW_US);
        let attempts = send_with(&config(server.port, security, true), &mail(&["Ada <ada@example.com>"]), &clock).await;
        assert_eq!(outcomes(&attempts), [(1, "delivered")], "{attempts:?}");
        assert_eq!(attempts[0].recipient, "ada@example.com");
        let taken = server.taken();
        assert_eq!(taken.len(), 1);
        assert!(taken[0].encrypted && taken[0].user.as_deref() == Some(USER));
        assert_eq!(taken[0].from, "MAIL FROM:<driftwatt@example.com>", "no display name in the envelope");
        let parsed = MessageParser::default().parse(&taken[0].data).unwrap();
        assert_eq!(parsed.subject(), Some("Week 47: 12 GPUs idle – 1 234 €"));
        assert_eq!(parsed.date().unwrap().to_timestamp(), NOW_US / 1_000_000);
        assert_eq!(parsed.to().unwrap().first().unwrap().name(), Some("Ada"));
        assert_eq!((parsed.text_body_count(), parsed.html_body_count()), (1, 1));
        assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n"), mail(&[]).text);
        assert_eq!(parsed.body_html(0).unwrap(), mail(&[]).html);
        let files: Vec<_> = parsed
            .attachments()
            .map(|part| (part.attachment_name().unwrap().to_owned(), part.contents().to_vec()))
            .collect();
        assert_eq!(files[0], ("report.html".into(), b"<!doctype html><title>report</title>".to_vec()));
        assert_eq!(files[1].0, "gpus.csv");
        assert_eq!(files[1].1, b"gpu,hours\r\nnode-a/0,168\r\n");
        // The two lines of the text that begin with a dot were doubled on the wire.
        assert_eq!(taken[0].stuffed_count, 2);
    }
}

#[tokio::test]
async fn the_bytes_of_a_mail_are_the_same_every_time() {
    let server = SmtpServer::start(Setup::default(), vec![]).await;
    for _ in 0..2 {
        let config = config(server.port, Security::None, false);
        send_with(&config, &mail(&["ops@example.com"]), &TestClock::at(NOW_US)).await;
    }
    let taken = server.taken();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0].data, taken[1].data);
}

#[tokio::test]
async fn a_server_that_fails_first_is_tried_again() {
    for fault in [
        Fault::Greeting("421 4.3.2 too many connections"),
        Fault::Data("451 4.3.0 try again later"),
        Fault::Recipient("ops@example.com", "450 4.2.1 greylisted"),
        Fault::Hangup,
    ] {
        let server = SmtpServer::start(Setup::default(), vec![fault.clone(), fault.clone(), Fault::None]).await;
        let clock = TestClock::at(NOW_US);
        let attempts =
            send_with(&config(server.port, Security::None, false), &mail(&["ops@example.com"]), &clock).await;
        assert_eq!(outcomes(&attempts), [(1, "retried"), (2, "retried"), (3, "delivered")], "{attempts:?}");
        assert_eq!(clock.slept_s(), [10, 20]);
        assert_eq!(attempts[2].time_unix_us - attempts[0].time_unix_us, 30_000_000);
        assert_eq!(server.taken().len(), 1, "{fault:?}");
        if let Fault::Data(_) = fault {
            assert!(attempts[0].error.as_ref().unwrap().contains("451"), "{attempts:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_always_fails_is_given_up_and_reported() {
    let server = SmtpServer::start(Setup::default(), vec![Fault::Greeting("421 4.3.2 shutting down")]).await;
    let clock = TestClock::at(NOW_US);
    let attempts = send_with(&config(server.port, Security::None, false), &mail(&["ops@example.com"]), &clock).await;
    assert_eq!(outcomes(&attempts), [(1, "retried"), (2, "retried"), (3, "retried"), (4, "failed")]);
    assert!(attempts.iter().all(|attempt| attempt.error.as_ref().unwrap().contains("421")), "{attempts:?}");
    assert_eq!(server.session_count(), 4);
}

#[tokio::test]
async fn no_server_at_all_is_tried_again_and_reported() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let clock = TestClock::at(NOW_US);
    let attempts = send_with(&config(port, Security::None, false), &mail(&["ops@example.com"]), &clock).await;
    assert_eq!(attempts.len(), 4);
    assert_eq!(attempts[3].outcome, Outcome::Failed);
    assert!(attempts[3].error.as_ref().unwrap().contains("refused"), "{attempts:?}");
}

#[tokio::test]
async fn a_refused_recipient_is_not_tried_again_and_the_others_get_the_mail_once() {
    let fault = Fault::Recipient("gone@example.com", "550 5.1.1 no such user");
    let server = SmtpServer::start(Setup::default(), vec![fault]).await;
    let clock = TestClock::at(NOW_US);
    let to = ["ada@example.com", "gone@example.com", "ops@example.com"];
    let attempts = send_with(&config(server.port, Security::None, false), &mail(&to), &clock).await;
    assert_eq!(outcomes(&attempts), [(1, "delivered"), (1, "failed"), (1, "delivered")]);
    assert!(attempts[1].error.as_ref().unwrap().contains("550"), "{attempts:?}");
    assert!(clock.slept_s().is_empty());
    let recipients: Vec<_> = server.taken().into_iter().flat_map(|taken| taken.to).collect();
    assert_eq!(recipients, ["RCPT TO:<ada@example.com>", "RCPT TO:<ops@example.com>"]);
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_again_and_is_in_no_message() {
    let setup = Setup { starttls: true, tls: false, auth: Some("PLAIN") };
    let server = SmtpServer::start(setup, vec![]).await;
    let mut config = config(server.port, Security::StartTls, true);
    config.credentials = Some(Credentials { user: USER.into(), password: Secret::new("hunter2-wrong") });
    let clock = TestClock::at(NOW_US);
    let attempts = send_with(&config, &mail(&["ops@example.com"]), &clock).await;
    assert_eq!(outcomes(&attempts), [(1, "failed")]);
    assert!(attempts[0].error.as_ref().unwrap().contains("535"));
    assert!(server.taken().is_empty());
    let mailer = Mailer::new(&config, RetryPolicy::default()).unwrap();
    assert!(!format!("{attempts:?} {config:?} {mailer:?}").contains("hunter2-wrong"));
}

#[tokio::test]
async fn nothing_is_sent_in_clear_text_or_to_a_stranger() {
    // The server has no STARTTLS, as when somebody in between takes it out.
    let server = SmtpServer::start(Setup { auth: Some("PLAIN"), ..Setup::default() }, vec![]).await;
    let clock = TestClock::at(NOW_US);
    let attempts = send_with(&config(server.port, Security::StartTls, true), &mail(&["ops@example.com"]), &clock).await;
    assert_eq!(attempts.last().unwrap().outcome, Outcome::Failed);
    assert!(server.taken().is_empty());
    // A certificate that no trusted authority signed.
    let server = SmtpServer::start(Setup { starttls: true, ..Setup::default() }, vec![]).await;
    let mut config = config(server.port, Security::StartTls, false);
    // With another authority in its place, and so also where the system has none.
    config.ca_pem = None;
    if let Ok(mailer) = Mailer::new(&config, RetryPolicy { attempts_max: 1, ..RetryPolicy::default() }) {
        let attempts = mailer.send(&mail(&["ops@example.com"]), &clock).await.unwrap();
        assert_eq!(attempts.last().unwrap().outcome, Outcome::Failed);
        assert!(attempts.last().unwrap().error.as_ref().unwrap().contains("certificate"), "{attempts:?}");
    }
    assert!(server.taken().is_empty());
}

#[tokio::test]
async fn a_message_that_no_server_would_take_is_refused_at_once() {
    let mailer = Mailer::new(&config(1, Security::None, false), RetryPolicy::default()).unwrap();
    let clock = TestClock::at(NOW_US);
    let refused = async |mail: Mail| mailer.send(&mail, &clock).await.unwrap_err().to_string();
    assert!(refused(mail(&[])).await.contains("delivery.mail.to"));
    assert!(refused(mail(&["nobody"])).await.contains("nobody"));
    let injected = Mail { subject: "a\r\nBcc: x@example.com".into(), ..mail(&["ops@example.com"]) };
    assert!(refused(injected).await.contains("one line"));
    let mut large = mail(&["ops@example.com"]);
    large.attachments[0].content = vec![b'a'; 25 << 20];
    assert!(refused(large).await.contains("leave attachments out"));
}

/// What a webhook receiver got.
#[derive(Debug, Clone)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

/// An HTTP server that gives the answers in order, then the last one for ever.
async fn receiver(answers: Vec<(u16, Option<&'static str>)>) -> (String, Arc<Mutex<Vec<Received>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let of_server = Arc::clone(&received);
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let answer = move |headers: HeaderMap, body: Bytes| async move {
        of_server.lock().unwrap().push(Received { headers, body });
        let mut answers = answers.lock().unwrap();
        let (status, retry_after) =
            if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() }.unwrap();
        let mut response = StatusCode::from_u16(status).unwrap().into_response();
        if let Some(value) = retry_after {
            response.headers_mut().insert("retry-after", value.parse().unwrap());
        }
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        response
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=sesame", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (url, received)
}

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn post(url: &str, timeout: Duration, clock: &TestClock) -> Vec<DeliveryAttempt> {
    let config = WebhookConfig { name: "chat".into(), url: Secret::new(url), key: Secret::new(KEY), timeout };
    let retry = RetryPolicy { attempts_max: 3, ..RetryPolicy::default() };
    let webhook = Webhook::new(config, retry).unwrap();
    let body = serde_json::json!({ "week": "2026-W47", "gpu_cost": null });
    webhook.send("weekly_report", &body, clock).await
}

#[test]
fn signatures_are_those_of_standard_webhooks() {
    // The example of the specification's reference libraries.
    let signature = sign(&Secret::new(KEY), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
    assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    assert_eq!(sign(&Secret::new("plain"), "a", 0, b""), None);
}

#[tokio::test]
async fn a_webhook_is_signed_and_delivered() {
    let (url, received) = receiver(vec![(204, None)]).await;
    let attempts = post(&url, Duration::from_secs(10), &TestClock::at(NOW_US)).await;
    assert_eq!(outcomes(&attempts), [(1, "delivered")]);
    assert_eq!((attempts[0].recipient.as_str(), attempts[0].subject.as_str()), ("chat", "weekly_report"));
    let received = received.lock().unwrap();
    let header = |name: &str| received[0].headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("webhook-timestamp"), "1795417200");
    let signature = sign(&Secret::new(KEY), header("webhook-id"), 1_795_417_200, &received[0].body).unwrap();
    assert_eq!(header("webhook-signature"), signature);
    let body: serde_json::Value = serde_json::from_slice(&received[0].body).unwrap();
    assert_eq!(body["week"], "2026-W47");
}

#[tokio::test]
async fn a_busy_receiver_is_tried_again_when_it_says() {
    let date = "Mon, 23 Nov 2026 07:02:00 GMT";
    let (url, received) = receiver(vec![(429, Some("45")), (503, Some(date)), (200, None)]).await;
    let clock = TestClock::at(NOW_US);
    let attempts = post(&url, Duration::from_secs(10), &clock).await;
    assert_eq!(outcomes(&attempts), [(1, "retried"), (2, "retried"), (3, "delivered")]);
    // 45 s, and from 07:00:45 to 07:02:00.
    assert_eq!(clock.slept_s(), [45, 75]);
    let received = received.lock().unwrap();
    assert!(received.iter().all(|request| request.headers["webhook-id"] == received[0].headers["webhook-id"]));
    assert_ne!(received[0].headers["webhook-signature"], received[1].headers["webhook-signature"], "signed anew");
}

#[tokio::test]
async fn a_failing_receiver_is_given_up_and_reported_without_its_address() {
    let (url, received) = receiver(vec![(500, None)]).await;
    let clock = TestClock::at(NOW_US);
    let attempts = post(&url, Duration::from_secs(10), &clock).await;
    assert_eq!(outcomes(&attempts), [(1, "retried"), (2, "retried"), (3, "failed")]);
    assert_eq!((clock.slept_s(), received.lock().unwrap().len()), (vec![10, 20], 3));
    for (status, hint) in [(400, "400"), (410, "410"), (302, "302")] {
        let (url, received) = receiver(vec![(status, None)]).await;
        let attempts = post(&url, Duration::from_secs(10), &clock).await;
        assert_eq!(outcomes(&attempts), [(1, "failed")]);
        assert!(attempts[0].error.as_ref().unwrap().contains(hint));
        assert_eq!(received.lock().unwrap().len(), 1, "no redirect is followed");
    }
    let (url, _received) = receiver(vec![(503, Some("7200"))]).await;
    let attempts = post(&url, Duration::from_secs(10), &clock).await;
    assert_eq!(outcomes(&attempts), [(1, "failed")]);
    assert!(attempts[0].error.as_ref().unwrap().contains("7200 s"), "{attempts:?}");
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let attempts = post(&format!("http://127.0.0.1:{port}/?token=sesame"), Duration::from_secs(10), &clock).await;
    assert_eq!(attempts.len(), 3);
    assert!(!format!("{attempts:?}").contains("sesame"));
}

#[tokio::test]
async fn a_receiver_that_never_answers_runs_into_the_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/?token=sesame", listener.local_addr().unwrap());
    let attempts = post(&url, Duration::from_millis(50), &TestClock::at(NOW_US)).await;
    assert_eq!(outcomes(&attempts), [(1, "retried"), (2, "retried"), (3, "failed")]);
    let error = attempts[2].error.as_ref().unwrap();
    assert!(error.contains("timed out") && !error.contains("sesame"), "{error}");
}

fn environment(name: &str) -> Option<String> {
    match name {
        "SMTP_PASSWORD" => Some("hunter2\n".into()),
        "HOOK_SECRET" => Some(KEY.into()),
        "HOOK_URL" => Some("https://chat.example.com/hook/sesame".into()),
        _ => None,
    }
}

fn validate(text: &str) -> Result<DeliveryConfig, String> {
    let raw: RawDelivery = toml::from_str(text).map_err(|error| error.to_string())?;
    raw.validate(&environment).map_err(|error| error.to_string())
}

const GOOD: &str = "
[mail]
host = \"smtp.example.com\"
from = \"Driftwatt <driftwatt@example.com>\"
to = [\"ops@example.com\"]
user = \"reports\"
password_env = \"SMTP_PASSWORD\"
[[webhook]]
name = \"chat\"
url_env = \"HOOK_URL\"
secret_env = \"HOOK_SECRET\"
";

#[test]
fn good_settings_have_documented_defaults_and_show_no_secret() {
    let config = validate(GOOD).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("sesame") && !shown.contains("MfKQ9"), "{shown}");
    assert_eq!(config.retry, RetryPolicy::default());
    let mail = config.mail.unwrap();
    assert_eq!((mail.port, mail.security, mail.timeout), (587, Security::StartTls, Duration::from_secs(30)));
    assert_eq!(mail.credentials.unwrap().password, Secret::new("hunter2"), "without the line feed");
    assert!(validate("").unwrap().mail.is_none());
}

#[test]
fn a_password_is_read_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "from a file\r\n").unwrap();
    let text = GOOD.replace("password_env = \"SMTP_PASSWORD\"", &format!("password_file = {file:?}"));
    let password = validate(&text).unwrap().mail.unwrap().credentials.unwrap().password;
    assert_eq!(password, Secret::new("from a file"));
    std::fs::write(&file, "\n").unwrap();
    assert!(validate(&text).unwrap_err().contains("delivery.mail.password: is empty"));
}

#[test]
fn bad_settings_say_what_to_do() {
    let check = |from: &str, to: &str, hint: &str| {
        assert!(GOOD.contains(from));
        let error = validate(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.contains(hint) && !error.contains("sesame") && !error.contains("hunter2"), "{error}");
    };
    check("host =", "hots =", "hots");
    check("\"smtp.example.com\"", "\"\"", "delivery.mail.host");
    check("host =", "security = \"ssl\"\nhost =", "starttls, tls or none");
    check("host =", "security = \"none\"\nhost =", "clear text");
    check("\"Driftwatt <driftwatt@example.com>\"", "\"driftwatt\"", "name@example.com");
    check("[\"ops@example.com\"]", "[]", "delivery.mail.to");
    check("SMTP_PASSWORD", "NOT_SET", "NOT_SET");
    check("user = \"reports\"\n", "", "delivery.mail.user");
    check("password_env = \"SMTP_PASSWORD\"\n", "", "password_file");
    check("password_env", "password_file", "read SMTP_PASSWORD");
    check("to =", "timeout_seconds = 0\nto =", "1 to 600");
    check("secret_env = \"HOOK_SECRET\"", "", "secret_file");
    check("secret_env = \"HOOK_SECRET\"", "secret_env = \"SMTP_PASSWORD\"", "openssl rand");
    check("url_env = \"HOOK_URL\"", "url = \"http://chat.example.com/sesame\"", "not https");
    check("url_env = \"HOOK_URL\"", "url = \"sesame\"", "no address");
    check("url_env = \"HOOK_URL\"", "", "url_file");
    check("url_env", "url = \"https://a.example.com\"\nurl_env", "twice");
    check("[mail]", "[retry]\nattempts_max = 0\n[mail]", "1 to 20");
    check("[mail]", "[retry]\ndelay_first_seconds = 700\n[mail]", "delay_max_seconds");
    let twice = format!("{GOOD}[[webhook]]\nname = \"chat\"\nurl_env = \"HOOK_URL\"\nsecret_env = \"HOOK_SECRET\"\n");
    assert!(validate(&twice).unwrap_err().contains("used twice"));
}
