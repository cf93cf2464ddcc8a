//! `driftwatt check` with what it remembers: past batches, other tables, images, and the report as a page.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
    thread,
};

use serde_json::{Value, json};

use crate::server::{Server, driftwatt};

const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 1.2.0
status: active
schema:
  - name: train
    properties:
      - { name: id, logicalType: integer, primaryKey: true }
      - name: label
        logicalType: string
        relationships: [{ to: labels.name }]
        quality:
          - { type: custom, engine: driftwatt, implementation: { rule: distinctOfPast } }
    quality:
      - { type: custom, engine: driftwatt, implementation: { rule: rowCountOfPast } }
  - name: pictures
    quality:
      - { metric: rowCount, mustBeGreaterThan: 0 }
      - { type: custom, engine: driftwatt, implementation: { rule: images, sizes: [64x48], channels: [3] } }
";

/// `count` rows with three labels.
fn rows(count: usize) -> String {
    let labels = ["cat", "dog", "owl"];
    let line = |id: usize| format!("{id},{}\n", labels[id % 3]);
    format!("id,label\n{}", (0..count).map(line).collect::<String>())
}

struct Desk {
    dir: tempfile::TempDir,
    /// `--server URL` or `--data DIR`.
    log: [String; 2],
}

impl Desk {
    fn new(log: [String; 2]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("contract.yaml"), CONTRACT).unwrap();
        fs::write(dir.path().join("labels.csv"), "name\ncat\ndog\nowl\n").unwrap();
        Self { dir, log }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Checks a batch of the table `table`, with what it remembers.
    fn check(&self, batch: &str, table: &str, more: &[&str]) -> Output {
        let mut command = driftwatt();
        command.current_dir(self.dir.path()).args(["check", batch, "--contract", "contract.yaml", "--table", table]);
        command.args(&self.log).args(more).output().unwrap()
    }

    fn report(&self, batch: &str, more: &[&str]) -> Value {
        let output = self.check(batch, "train", &[&["--format", "json"], more].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

fn status_of<'a>(report: &'a Value, metric: &str) -> &'a Value {
    let results = report["results"].as_array().unwrap();
    &results.iter().find(|result| result["metric"] == metric).unwrap()["status"]
}

fn png(path: &Path, width: u32, height: u32) {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"\0\0\0\0IEND\xae\x42\x60\x82");
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_compared_with_those_before_and_recorded() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(&data.path().join("data"));
    let desk = Desk::new(["--server".into(), format!("http://{}", server.http)]);
    for month in 5..9 {
        fs::write(desk.path(&format!("train_data_20240{month}_resnet.csv")), rows(2_000 + month)).unwrap();
    }
    let first = desk.report("train_data_202405_resnet.csv", &["--reference", "labels=labels.csv"]);
    assert_eq!(
        (status_of(&first, "rowCountOfPast"), status_of(&first, "reference")),
        (&"skipped".into(), &"pass".into())
    );
    assert_eq!(first["status"], "pass", "{first}");
    for month in 6..9 {
        let next = desk.report(&format!("train_data_20240{month}_resnet.csv"), &[]);
        assert_eq!(
            (status_of(&next, "rowCountOfPast"), status_of(&next, "distinctOfPast")),
            (&"pass".into(), &"pass".into())
        );
    }
    // Half of the export is missing, and all labels but one.
    fs::write(desk.path("train_data_202409_resnet.csv"), format!("id,label\n{}", "1,cat\n".repeat(900))).unwrap();
    let cut = desk.report("train_data_202409_resnet.csv", &["--quarantine", "held"]);
    assert_eq!(
        (status_of(&cut, "rowCountOfPast"), status_of(&cut, "distinctOfPast")),
        (&"fail".into(), &"fail".into())
    );
    let past: Vec<_> = cut["compared_with"].as_array().unwrap().iter().map(|past| past["batch"].clone()).collect();
    assert_eq!(past, ["2024-05", "2024-06", "2024-07", "2024-08"]);
    // What was held back is no measure for later ones, and a batch is none for itself.
    fs::write(desk.path("train_data_202410_resnet.csv"), rows(2_100)).unwrap();
    for _ in 0..2 {
        let mended = desk.report("train_data_202410_resnet.csv", &[]);
        assert_eq!(mended["compared_with"].as_array().unwrap().len(), 4, "{mended}");
        assert_eq!(mended["compared_with"][3]["batch"], "2024-08");
    }
    // An integer column came as text.
    fs::write(desk.path("train_data_202411_resnet.jsonl"), r#"{"id":"x","label":"cat"}"#.to_owned() + "\n").unwrap();
    let turned = desk.report("train_data_202411_resnet.jsonl", &[]);
    assert_eq!(status_of(&turned, "type"), "fail", "{turned}");
    let sql = "SELECT dataset, period, model, row_count, contract_version, status, accepted, rules_failed, held_at IS NOT NULL, \
               starts_with(digest, 'sha256:') FROM reports.datasets WHERE period IN ('2024-05', '2024-09') ORDER BY period";
    assert_eq!(
        json!(server.rows(sql).await),
        json!([
            ["train_data", "2024-05", "resnet", 2005, "1.2.0", "pass", true, 0, false, true],
            ["train_data", "2024-09", "resnet", 900, "1.2.0", "fail", false, 4, true, true],
        ])
    );
    // Nobody writes rows that no check makes.
    let client = reqwest::Client::new();
    let url = format!("http://{}/api/v1/datasets", server.http);
    let refused = client.post(url).body("{\"file\":\"x\"}").send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("missing field"));
}

#[test]
fn a_data_directory_remembers_too_and_images_are_checked_by_their_headers() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    Server::start(&data).terminate();
    let desk = Desk::new(["--data".into(), data.display().to_string()]);
    let folder = desk.path("pictures_202408_resnet");
    fs::create_dir(&folder).unwrap();
    (0..3).for_each(|at| png(&folder.join(format!("{at}.png")), 64, 48));
    let good = desk.check("pictures_202408_resnet", "pictures", &["--format", "text"]);
    assert!(good.status.success(), "{good:?}");
    png(&folder.join("wide.png"), 128, 48);
    fs::write(folder.join("empty.png"), "").unwrap();
    let page = desk.path("report.html");
    let arguments = ["--quarantine", "held", "--format", "html", "--output", "report.html"];
    let bad = desk.check("pictures_202408_resnet", "pictures", &arguments);
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    assert!(!folder.exists() && desk.path("held/pictures_202408_resnet/wide.png").exists());
    let page = fs::read_to_string(page).unwrap();
    for words in ["may not be used", "images.imageSize", "empty.png", "1 of 4 images", "Held back at", "What is wrong"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let row = "SELECT kind, row_count, status FROM reports.datasets ORDER BY time";
    let found = driftwatt().args(["sql", "--data", &data.display().to_string(), row]).output().unwrap();
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["rows"], json!([["images", 3, "pass"], ["images", 5, "fail"]]));
    for (arguments, words) in [
        (&["--reference", "labels"][..], "TABLE=FILE"),
        (&["--reference", "people=labels.csv"], "no rule refers to the table"),
    ] {
        fs::write(desk.path("rows.csv"), rows(2_000)).unwrap();
        let refused = desk.check("rows.csv", "train", arguments);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(words), "{refused:?}");
    }
}

#[test]
fn a_held_batch_is_released_with_a_reason_and_counts_from_then_on() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    Server::start(&data).terminate();
    let desk = Desk::new(["--data".into(), data.display().to_string()]);
    let sql = |query: &str| {
        let found = driftwatt().args(["sql", "--data", &data.display().to_string(), query]).output().unwrap();
        serde_json::from_slice::<Value>(&found.stdout).unwrap()["rows"].clone()
    };
    let release = |more: &[&str]| {
        let mut command = driftwatt();
        command.current_dir(desk.dir.path()).args(["release", "held/train_data_202405_resnet.csv"]).args(&desk.log);
        command.args(more).output().unwrap()
    };
    let name = "train_data_202405_resnet.csv";
    fs::write(desk.path(name), rows(900)).unwrap();
    let held = desk.report(name, &["--quarantine", "held"]);
    assert_eq!((&held["status"], desk.path(name).exists()), (&"fail".into(), false));
    // What is there must be what was checked, and where it goes nothing may be.
    let held = desk.path("held").join(name);
    fs::write(&held, rows(901)).unwrap();
    fs::write(desk.path("taken.csv"), "").unwrap();
    for (batch, arguments, words) in [
        (rows(901), &["--reason", "small month"][..], "is not what was checked"),
        (rows(900), &["--reason", " "], "say why"),
        (rows(900), &["--reason", "small month", "--to", "taken.csv"], "is there already"),
    ] {
        fs::write(&held, batch).unwrap();
        let refused = release(arguments);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(words), "{refused:?}");
        assert!(held.exists(), "{words}");
    }
    let released = release(&["--reason", "small month"]);
    assert!(released.status.success(), "{released:?}");
    assert_eq!((fs::read_to_string(desk.path(name)).unwrap(), held.exists()), (rows(900), false));
    let report: Value =
        serde_json::from_str(&fs::read_to_string(desk.path(&format!("held/{name}.report.json"))).unwrap()).unwrap();
    assert_eq!((&report["released"]["reason"], &report["status"]), (&"small month".into(), &"fail".into()));
    assert_eq!(
        sql("SELECT status, accepted, held_at IS NOT NULL, release_reason FROM reports.datasets ORDER BY time"),
        json!([["fail", false, true, null], ["fail", true, false, "small month"]])
    );
    // It is a measure for later ones now.
    fs::write(desk.path("train_data_202406_resnet.csv"), rows(2_000)).unwrap();
    let next = desk.report("train_data_202406_resnet.csv", &[]);
    assert_eq!(next["compared_with"][0]["batch"], "2024-05", "{next}");
    // A folder of images goes back as it came.
    let folder = desk.path("pictures_202408_resnet");
    fs::create_dir(&folder).unwrap();
    png(&folder.join("wide.png"), 128, 48);
    desk.check("pictures_202408_resnet", "pictures", &["--quarantine", "held"]);
    assert!(!folder.exists());
    let mut command = driftwatt();
    command.current_dir(desk.dir.path()).args([
        "release",
        "held/pictures_202408_resnet/",
        "--reason",
        "wide on purpose",
    ]);
    let released = command.output().unwrap();
    assert!(released.status.success() && folder.join("wide.png").exists(), "{released:?}");
}

#[test]
fn a_manifest_is_released_only_while_its_images_are_what_was_checked() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    Server::start(&data).terminate();
    let desk = Desk::new(["--data".into(), data.display().to_string()]);
    fs::create_dir_all(desk.path("in/images")).unwrap();
    png(&desk.path("in/images/wide.png"), 128, 48);
    fs::write(desk.path("in/pictures_202408_resnet.lst"), "images/wide.png\n").unwrap();
    let checked = desk.check("in/pictures_202408_resnet.lst", "pictures", &["--quarantine", "held"]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let release = || {
        let mut command = driftwatt();
        command.current_dir(desk.dir.path()).args(["release", "held/pictures_202408_resnet.lst"]).args(&desk.log);
        command.args(["--reason", "wide on purpose"]).output().unwrap()
    };
    // The images stay where they are, and so may change while their list is held back.
    png(&desk.path("in/images/wide.png"), 4_000, 48);
    let refused = release();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("its images included"), "{refused:?}");
    fs::remove_file(desk.path("in/images/wide.png")).unwrap();
    assert!(!release().status.success());
    png(&desk.path("in/images/wide.png"), 128, 48);
    let released = release();
    assert!(released.status.success() && desk.path("in/pictures_202408_resnet.lst").exists(), "{released:?}");
}

#[test]
fn what_fails_after_a_verdict_keeps_nothing_else_from_being_done() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    Server::start(&data).terminate();
    let desk = Desk::new(["--data".into(), data.display().to_string()]);
    fs::write(desk.path("train_data_202405_resnet.csv"), rows(900)).unwrap();
    // The quarantine is a file, and the folder of the report is not there.
    let more = ["--quarantine", "contract.yaml", "--output", "gone/report.json"];
    let checked = desk.check("train_data_202405_resnet.csv", "train", &more);
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("is still where it was") && said.contains("write gone/report.json"), "{said}");
    assert!(desk.path("train_data_202405_resnet.csv").exists());
    let row = "SELECT status, held_at FROM reports.datasets";
    let found = driftwatt().args(["sql", "--data", &data.display().to_string(), row]).output().unwrap();
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["rows"], json!([["fail", null]]));
}

/// Takes one mail at a socket of this machine (RFC 5321 without extensions).
fn take_mail(listener: &TcpListener) -> String {
    let (stream, _) = listener.accept().unwrap();
    let mut answers = stream.try_clone().unwrap();
    let mut say = |line: &str| answers.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    say("220 localhost");
    let (mut taken, mut in_data) = (String::new(), false);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        taken += &format!("{line}\n");
        match line.get(..4).unwrap_or_default() {
            _ if in_data && line == "." => {
                in_data = false;
                say("250 taken");
            }
            _ if in_data => {}
            "DATA" => {
                in_data = true;
                say("354 end with a dot");
            }
            "QUIT" => {
                say("221 bye");
                break;
            }
            _ => say("250 ok"),
        }
    }
    taken
}

#[test]
fn the_owner_of_a_batch_with_missing_values_gets_a_mail() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let contract = "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nteam:\n  members: [{ username: \
                    \"@data-team\", role: owner }]\nschema:\n  - name: train\n    properties:\n      - name: latency\n        \
                    logicalType: number\n        quality: [{ metric: nullValues, mustBeLessThan: 1, unit: percent }]\n      \
                    - { name: id, logicalType: integer }\n";
    fs::write(path("contract.yaml"), contract).unwrap();
    let line = |id: usize| if id.is_multiple_of(20) { format!(",{id}\n") } else { format!("{id}.5,{id}\n") };
    let rows = format!("latency,id\n{}", (0..2_000).map(line).collect::<String>());
    fs::write(path("train_data_202408_resnet.csv"), &rows).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = format!(
        "[delivery.mail]\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\nfrom = \"driftwatt@example.com\"\n\
         to = [\"ops@example.com\"]\n[delivery.owners]\n\"@data-team\" = \"keeper@example.com\"\n"
    );
    fs::write(path("driftwatt.toml"), settings).unwrap();
    let mail = thread::spawn(move || take_mail(&listener));
    let arguments = ["check", "train_data_202408_resnet.csv", "--contract", "contract.yaml", "--quarantine", "held"];
    let check = |more: &[&str]| driftwatt().current_dir(dir.path()).args(arguments).args(more).output().unwrap();
    let unset = check(&["--notify"]);
    assert_eq!(unset.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unset.stderr).contains("[delivery.mail]"), "{unset:?}");
    assert!(path("train_data_202408_resnet.csv").exists(), "nothing is moved before it is clear who is told");
    let held = check(&["--notify", "--config", "driftwatt.toml"]);
    assert_eq!(held.status.code(), Some(1), "{held:?}");
    assert!(path("held/train_data_202408_resnet.csv").exists());
    let mail = mail.join().unwrap();
    // Words of the text part that no encoding of a mail cuts.
    for words in
        ["keeper@example.com", "100 of 2000 rows", "missingValues", "What to do", "report.html", "train_data_202408"]
    {
        assert!(mail.contains(words), "{words}: {mail}");
    }
}
