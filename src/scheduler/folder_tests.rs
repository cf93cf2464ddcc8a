//! What a kill leaves of a watched folder, over a real store, with a clock that a test moves.

use std::fs;

use super::tests::{MovedClock, open};
use super::*;

const CONTRACT: &str = "apiVersion: v3.1.0\nkind: DataContract\nid: 53581432-6c55-4ba2-a65f-72344a91553a\nversion: 1.0.0\n\
                        status: active\nschema:\n  - name: train\n    properties:\n      - { name: id, logicalType: integer }\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_broke_off_is_begun_again_while_its_file_is_there_and_ended_where_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("in")).unwrap();
    fs::write(path("contract.yaml"), CONTRACT).unwrap();
    let rows: String = (0..1_200).map(|id| format!("{id}\n")).collect();
    fs::write(path("in/a.csv"), format!("id\n{rows}")).unwrap();
    let settings = format!(
        "[[gates.watch]]\nname = \"training\"\nfolder = {:?}\ncontract = {:?}\nsettle = \"30s\"\n",
        path("in"),
        path("contract.yaml")
    );
    let opened = open(&path("data"), &settings).await;
    let clock = MovedClock::at("2026-11-23T06:30:00Z");
    let scheduler = opened.scheduler(&clock);
    // As a process leaves them that is killed in the middle: one whose file is there, and one whose file was moved.
    let there = scheduler.folders[0].look().unwrap().remove(0).to_string();
    for content in [there.as_str(), "b.csv 5 bytes of 1.000000000"] {
        let left = Run::on_arrival("training", "check", content, scheduler.now());
        left.record(&opened.store, Step::Started, scheduler.now().timestamp_micros()).await.unwrap();
    }
    let (_handle, work) = scheduler.start();
    let running = opened.queries.handle().spawn(work);
    let seen = "SELECT split_part(run_id, ' ', 1) AS file, outcome, coalesce(note, error) FROM reports.runs ORDER BY 1, time, step";
    // It has to rest for half a minute.
    clock.move_to("2026-11-23T06:30:20Z", 1).await;
    let early = opened.texts(seen).await;
    assert_eq!(early[0], "training:a.csv started", "{early:?}");
    assert!(early.len() == 3 && early[2].starts_with("training:b.csv interrupted the run broke off"), "{early:?}");
    clock.move_to("2026-11-23T06:32:00Z", 1).await;
    running.abort();
    assert!(running.await.is_err());
    let later = opened.texts(seen).await;
    assert_eq!(
        later[..3],
        [
            "training:a.csv started",
            "training:a.csv started the run before broke off in the middle",
            "training:a.csv succeeded the run before broke off in the middle"
        ],
        "{later:?}"
    );
    assert_eq!(later[3..], early[1..]);
    opened.store.close().await.unwrap();
}
