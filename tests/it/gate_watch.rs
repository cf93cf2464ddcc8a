//! Watched folders: files are checked once they are whole, once each, moved to where they belong, and their owner is told.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    server::{Server, driftwatt, eventually},
    smtp::SmtpServer,
};

const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 1.2.0
status: active
team: { members: [{ username: media, role: owner }] }
schema:
  - name: train
    properties:
      - { name: id, logicalType: integer, primaryKey: true }
      - name: value
        logicalType: number
        quality:
          - { metric: nullValues, mustBeLessThan: 2, unit: percent }
";

struct Folders {
    dir: tempfile::TempDir,
    config: String,
}

impl Folders {
    fn new(smtp: &SmtpServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        ["in", "kept"].into_iter().for_each(|name| fs::create_dir(path(name)).unwrap());
        fs::write(path("contract.yaml"), CONTRACT).unwrap();
        let text = format!(
            "[delivery.mail]\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\nfrom = \"driftwatt@example.com\"\n\
             to = [\"ops@example.com\"]\n[delivery.owners]\nmedia = \"media@example.com\"\n\
             [[gates.watch]]\nname = \"training\"\nfolder = {inbox:?}\npattern = \"*.csv\"\ncontract = {contract:?}\n\
             destination = {ready:?}\nquarantine = {held:?}\nsettle = \"2s\"\ninterval = \"1s\"\n\
             [[gates.watch]]\nname = \"kept\"\nfolder = {kept:?}\ncontract = {contract:?}\nsettle = \"1s\"\ninterval = \"1s\"\n",
            port = smtp.port,
            inbox = path("in"),
            contract = path("contract.yaml"),
            ready = path("ready"),
            held = path("held"),
            kept = path("kept"),
        );
        let config = path("driftwatt.toml");
        fs::write(&config, text).unwrap();
        Self { config: config.display().to_string(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self) -> Server {
        Server::start_configured(&self.path("data"), &self.config)
    }
}

/// `count` rows; of each twenty `missing` have no value.
fn rows(count: usize, missing: usize) -> String {
    let line = |id: usize| if id % 20 < missing { format!("{id},\n") } else { format!("{id},{}.5\n", id * 37 % 101) };
    format!("id,value\n{}", (0..count).map(line).collect::<String>())
}

const ENDED: &str =
    "SELECT schedule, job, started_by, outcome, summary FROM reports.runs WHERE finished IS NOT NULL ORDER BY summary";

#[tokio::test(flavor = "multi_thread")]
async fn files_are_checked_when_they_are_whole_and_go_where_they_belong() {
    let smtp = SmtpServer::start(0).await;
    let folders = Folders::new(&smtp);
    let server = folders.start();
    // A slow writer: what is there at any moment before the end would pass as well, and is not all of it.
    let slow = folders.path("in/train_data_202407_resnet.csv");
    let writer = std::thread::spawn(move || {
        let text = rows(3_000, 0);
        let mut file = File::create(slow).unwrap();
        for part in text.as_bytes().chunks(text.len() / 16 + 1) {
            file.write_all(part).unwrap();
            file.sync_all().unwrap();
            std::thread::sleep(Duration::from_millis(250));
        }
    });
    fs::write(folders.path("in/train_data_202408_resnet.csv"), rows(2_000, 0)).unwrap();
    fs::write(folders.path("in/train_data_202409_resnet.csv"), rows(2_000, 1)).unwrap();
    fs::write(folders.path("in/train_data_202410_resnet.csv.part"), rows(2_000, 0)).unwrap();
    fs::write(folders.path("in/train_data_202411_resnet.csv"), "id,value\n1,2\n3,4,5\n").unwrap();
    let ended = eventually(&server, ENDED, |rows| rows.len() == 4).await;
    writer.join().unwrap();
    let [held, ready] = ["held", "ready"].map(|name| folders.path(name).display().to_string());
    let of = |outcome: &str, summary: Value| json!(["training", "check", "arrival", outcome, summary]);
    assert_eq!(
        json!(ended),
        json!([
            of(
                "succeeded",
                json!(format!(
                    "check of train_data_202407_resnet.csv: pass, 3000 rows, moved to {ready}/train_data_202407_resnet.csv"
                ))
            ),
            of(
                "succeeded",
                json!(format!(
                    "check of train_data_202408_resnet.csv: pass, 2000 rows, moved to {ready}/train_data_202408_resnet.csv"
                ))
            ),
            of(
                "succeeded",
                json!(format!(
                    "check of train_data_202409_resnet.csv: fail, 2000 rows, moved to {held}/train_data_202409_resnet.csv"
                ))
            ),
            of("failed", Value::Null),
        ]),
        "{}",
        server.log()
    );
    let broken = "SELECT error FROM reports.runs WHERE outcome = 'failed'";
    let error = server.rows(broken).await[0][0].as_str().unwrap().to_owned();
    assert!(error.contains("line 3"), "{error}");
    let left: Vec<String> = names(&folders.path("in"));
    assert_eq!(left, ["train_data_202410_resnet.csv.part", "train_data_202411_resnet.csv"]);
    assert_eq!(names(&folders.path("ready")), ["train_data_202407_resnet.csv", "train_data_202408_resnet.csv"]);
    assert_eq!(fs::read_to_string(folders.path("ready/train_data_202407_resnet.csv")).unwrap(), rows(3_000, 0));
    assert!(folders.path("held/train_data_202409_resnet.csv.report.json").exists());
    // The owner of the contract has one mail, about the one that is held back.
    let taken = smtp.taken();
    assert!(taken.len() == 1 && taken[0].to[0].contains("media@example.com"), "{taken:?}");
    let letter = taken[0].data.replace("=\r\n", "");
    for words in ["train_data_202409_resnet.csv", "missingValues", "held back at"] {
        assert!(letter.contains(words), "{words}: {letter}");
    }
    can_be_repeated(&server, &folders).await;
}

/// What a run rests on is there: the very bytes, the rules, the past.
async fn can_be_repeated(server: &Server, folders: &Folders) {
    let rests = "SELECT parameters, table_versions, finished > started FROM reports.runs \
                 WHERE finished IS NOT NULL AND summary LIKE '%202409%'";
    let rests = server.rows(rests).await.remove(0);
    let parameters: Value = serde_json::from_str(rests[0].as_str().unwrap()).unwrap();
    assert_eq!((&parameters["contract"], &rests[2]), (&json!(CONTRACT), &json!(true)));
    assert_eq!(parameters["compared_with"].as_array().unwrap().len(), 1, "{parameters}");
    assert!(rests[1].as_str().unwrap().contains("\"runs\""), "{rests:?}");
    let again = driftwatt()
        .args(["check", parameters["moved_to"].as_str().unwrap(), "--contract"])
        .arg(folders.path("contract.yaml"))
        .args(["--format", "json", "--server", &format!("http://{}", server.http)])
        .output()
        .unwrap();
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["digest"], &again["status"]), (&parameters["digest"], &json!("fail")));
    let listed = driftwatt()
        .args(["schedule", "list", "--format", "json", "--server", &format!("http://{}", server.http)])
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["job"]), (&json!("training"), &json!("check")), "{listed}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with(".report.json"))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_checked_once_also_over_a_restart_and_again_when_it_is_another() {
    let smtp = SmtpServer::start(0).await;
    let folders = Folders::new(&smtp);
    let server = folders.start();
    fs::write(folders.path("kept/a.csv"), rows(1_500, 0)).unwrap();
    fs::write(folders.path("kept/b.csv"), rows(1_500, 5)).unwrap();
    eventually(&server, ENDED, |rows| rows.len() == 2).await;
    assert_eq!(smtp.taken().len(), 1, "nobody is told of what passes");
    server.kill();
    let server = folders.start();
    // What comes later is noticed, and what was checked before has no second run by then.
    fs::write(folders.path("kept/c.csv"), rows(1_600, 0)).unwrap();
    let ended = eventually(&server, ENDED, |rows| rows.len() >= 3).await;
    let summaries: Vec<&str> = ended.iter().map(|row| row[4].as_str().unwrap()).collect();
    let expected =
        ["check of a.csv: pass, 1500 rows", "check of b.csv: fail, 1500 rows", "check of c.csv: pass, 1600 rows"];
    assert_eq!(summaries, expected);
    fs::write(folders.path("kept/a.csv"), rows(1_700, 0)).unwrap();
    let ended = eventually(&server, ENDED, |rows| rows.len() >= 4).await;
    assert_eq!(ended[1][4], "check of a.csv: pass, 1700 rows");
    assert_eq!((names(&folders.path("kept")).len(), smtp.taken().len()), (3, 1));
    assert_eq!(server.rows("SELECT count(*) FROM reports.datasets").await, [[json!(4)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_taken_loses_nothing_and_wrong_settings_end_the_start() {
    let smtp = SmtpServer::start(0).await;
    let folders = Folders::new(&smtp);
    fs::create_dir(folders.path("ready")).unwrap();
    fs::write(folders.path("ready/train.csv"), "older").unwrap();
    let server = folders.start();
    fs::write(folders.path("in/train.csv"), rows(1_500, 0)).unwrap();
    let ended = eventually(&server, ENDED, |rows| rows.len() == 1).await;
    assert_eq!(ended[0][3], "failed");
    let error = server.rows("SELECT error FROM reports.runs WHERE outcome = 'failed'").await;
    assert!(error[0][0].as_str().unwrap().contains("nothing is overwritten"), "{error:?}");
    assert_eq!(fs::read_to_string(folders.path("ready/train.csv")).unwrap(), "older");
    assert_eq!(fs::read_to_string(folders.path("in/train.csv")).unwrap(), rows(1_500, 0));
    assert_eq!(
        server.rows("SELECT status FROM reports.datasets").await,
        [[json!("pass")]],
        "it may be used all the same"
    );
    server.terminate();
    for (from, to, words) in [
        ("name = \"kept\"", "name = \"training\"", "used twice"),
        ("settle = \"2s\"", "settle = \"soon\"", "gates.watch.settle"),
        ("contract.yaml", "none.yaml", "none.yaml"),
    ] {
        let text = fs::read_to_string(&folders.config).unwrap().replace(from, to);
        let config = folders.path("wrong.toml");
        fs::write(&config, text).unwrap();
        let output = driftwatt()
            .args(["serve", "--http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"])
            .args(["--postgres", "127.0.0.1:0", "--flight", "127.0.0.1:0", "--data"])
            .arg(folders.path("other"))
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(words), "{words}: {error}");
    }
}
