//! A batch that is held back, told to its owner at an SMTP server: what, where, how much, what to do.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mail_parser::{MessageParser, MimeHeaders as _};

use super::{
    MailConfig, Mailer, RetryPolicy, Security,
    clock::TestClock,
    smtp_server::{Setup, SmtpServer},
};
use crate::gates::{CheckInputs, Contract, ContractTag, Notice, check_file};

const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: training-data
version: 2.0.0
status: active
team:
  members: [{ username: keeper@example.com, role: owner }]
schema:
  - name: train
    properties:
      - { name: id, logicalType: integer, primaryKey: true }
      - name: latency
        logicalType: number
        quality:
          - { metric: nullValues, mustBeLessThan: 1, unit: percent }
";

#[tokio::test]
async fn the_owner_of_a_batch_with_missing_values_is_told_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train_data_202408_resnet.csv");
    let line = |id: usize| if id.is_multiple_of(20) { format!("{id},\n") } else { format!("{id},{id}.5\n") };
    std::fs::write(&path, format!("id,latency\n{}", (0..2_000).map(line).collect::<String>())).unwrap();
    let contract = Contract::from_odcs("contract.yaml", CONTRACT).unwrap();
    let now = DateTime::<Utc>::from_timestamp(1_795_417_200, 0).unwrap();
    let inputs = CheckInputs { now, ..CheckInputs::default() };
    let checked = check_file(&path, contract.table(None).unwrap(), &inputs).await.unwrap();
    assert!(!checked.accepts());
    let tag =
        ContractTag { id: contract.id.clone(), version: Some(contract.version.clone()), owner: contract.owner.clone() };
    let held_at = Some("/held/train_data_202408_resnet.csv");
    let notice = Notice { checked: &checked, contract: &tag, held_at, now_us: now.timestamp_micros() };

    let server = SmtpServer::start(Setup::default(), vec![]).await;
    let config = MailConfig {
        host: "localhost".into(),
        port: server.port,
        security: Security::None,
        ca_pem: None,
        from: "driftwatt@example.com".parse().unwrap(),
        to: vec!["ops@example.com".parse().unwrap()],
        credentials: None,
        timeout: Duration::from_secs(10),
    };
    let to = notice.owner().map(str::to_owned).into_iter().collect();
    let mail = notice.mail(to);
    let mailer = Mailer::new(&config, RetryPolicy::default()).unwrap();
    let attempts = mailer.send(&mail, &TestClock::at(now.timestamp_micros())).await.unwrap();
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    let taken = server.taken();
    assert!(taken[0].to[0].contains("keeper@example.com"), "{taken:?}");
    let message = MessageParser::new().parse(&taken[0].data).unwrap();
    assert_eq!(message.subject(), Some("Held back: train_data_202408_resnet.csv – 1 of 8 rules failed"));
    let text = message.body_text(0).unwrap().replace("\r\n", "\n");
    let file = path.display().to_string();
    for words in [
        "What: 2000 rows of the data set train_data do not keep the contract training-data (2.0.0), table train.",
        &format!("Where: held back at /held/train_data_202408_resnet.csv, with its report beside it (was {file})."),
        "Content: sha256:",
        "- fail latency.missingValues: 100 of 2000 rows (5 %); expected null values < 1 % of rows; first rows 0, 20, 40, 60, 80",
        "Ask the source why the values are missing",
        &format!("To release it as it is: move /held/train_data_202408_resnet.csv back to {file}."),
    ] {
        assert!(text.contains(words), "{words}\n---\n{text}");
    }
    let report = message.attachments().next().unwrap();
    assert_eq!(report.attachment_name(), Some("report.html"));
    let page = String::from_utf8(report.contents().to_vec()).unwrap();
    assert!(page.contains("may not be used") && page.contains("latency.missingValues"), "{page}");
    let webhook = notice.webhook();
    assert_eq!((&webhook["broken"][0]["rows_failed"], &webhook["status"]), (&100.into(), &"fail".into()));
}
