//! A batch that is held back, told to its owner at an SMTP server: what, where, how much, what to do.

use chrono::{DateTime, Utc};
use mail_parser::{MessageParser, MimeHeaders as _};

use super::{
    Outbox, RawDelivery,
    clock::TestClock,
    smtp_server::{Setup, SmtpServer},
};
use crate::gates::{BatchPlace, CheckInputs, Contract, ContractTag, Notice, check_file};

const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: training-data
version: 2.0.0
status: active
team:
  members: [{ username: \"@data-team\", role: owner }]
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
    let place = BatchPlace::Held("/held/train_data_202408_resnet.csv".into());
    let notice = Notice { checked: &checked, contract: &tag, place: &place, now_us: now.timestamp_micros() };

    let server = SmtpServer::start(Setup::default(), vec![]).await;
    let settings = format!(
        "[mail]\nhost = \"localhost\"\nport = {}\nsecurity = \"none\"\nfrom = \"driftwatt@example.com\"\n\
         to = [\"ops@example.com\"]\n[owners]\n\"@data-team\" = \"keeper@example.com\"",
        server.port
    );
    let raw: RawDelivery = toml::from_str(&settings).unwrap();
    let outbox = Outbox::new(raw.validate(&|_| None).unwrap()).unwrap();
    let to = notice.owner().and_then(|owner| outbox.address_of(owner)).into_iter().collect();
    let letter = notice.letter(to, outbox.webhook_names());
    let attempts = outbox.send(&letter, &TestClock::at(now.timestamp_micros())).await;
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
        &format!(
            "To release it as it is: driftwatt release /held/train_data_202408_resnet.csv --reason WHY, which moves it back to {file}."
        ),
    ] {
        assert!(text.contains(words), "{words}\n---\n{text}");
    }
    let report = message.attachments().next().unwrap();
    assert_eq!(report.attachment_name(), Some("report.html"));
    let page = String::from_utf8(report.contents().to_vec()).unwrap();
    assert!(page.contains("may not be used") && page.contains("latency.missingValues"), "{page}");
    assert_eq!((&letter.result["broken"][0]["rows_failed"], &letter.result["status"]), (&100.into(), &"fail".into()));
}
