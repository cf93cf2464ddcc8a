//! Slots, the queue, the time limit, `system.queries` and cancelling.

use super::*;

const EVERYTHING: &str =
    "SELECT a.value, b.value AS other FROM generate_series(1, 100000) a, generate_series(1, 100000) b";

#[tokio::test(flavor = "multi_thread")]
async fn too_many_queries_are_refused_until_a_client_leaves() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config { concurrency_max: 1, queue_max: 0, ..Config::default() }).await;
    let get = async |sql: &str| {
        let query = [("query", sql), ("format", "ndjson")];
        reqwest::Client::new().get(&url).query(&query).send().await.unwrap()
    };
    let mut endless = get(EVERYTHING).await;
    assert!(endless.chunk().await.unwrap().is_some());
    let refused = get("SELECT 1").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["kind"], "limit");
    drop(endless);
    assert!(answered_within(&url, Duration::from_secs(10)).await, "the query goes on without its client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_holds_its_slot_until_the_time_limit_only() {
    let fixture = fixture().await;
    let timeout = Duration::from_millis(300);
    let (url, _server) = fixture.serve(Config { concurrency_max: 1, queue_max: 0, timeout, ..Config::default() }).await;
    let query = [("query", EVERYTHING), ("format", "csv")];
    let mut stalled = reqwest::Client::new().get(&url).query(&query).send().await.unwrap();
    assert!(stalled.chunk().await.unwrap().is_some());
    assert!(answered_within(&url, Duration::from_secs(10)).await, "the stalled client holds the only slot");
    let rest = async {
        while stalled.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    assert!(rest.await.is_err(), "a cut answer must not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_of_two_tables_ends_at_the_time_limit() {
    let fixture = fixture().await;
    let timeout = Duration::from_millis(300);
    let (url, _server) = fixture.serve(Config { timeout, ..Config::default() }).await;
    let tables = "generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    for sql in [
        format!("SELECT count(*) FROM {tables}"),
        format!("SELECT count(*) FROM {tables} WHERE a.value % 7 = b.value % 7"),
        format!("SELECT max(a.value) FROM {tables} WHERE a.value > b.value"),
    ] {
        let asked = tokio::time::timeout(Duration::from_secs(20), post(&url, json!({ "query": sql })));
        let (status, body) = asked.await.unwrap_or_else(|_| panic!("not stopped: {sql}"));
        assert_eq!((status, &body["error"]["kind"]), (504, &json!("timeout")), "{sql}: {body}");
    }
}

async fn answered_within(url: &str, limit: Duration) -> bool {
    let asked = async {
        while post(url, json!({ "query": "SELECT 1" })).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, asked).await.is_ok()
}

/// One value of `system.queries`, of the question that has `EVERYTHING` as its statement.
async fn seen(fixture: &Fixture, column: &str) -> Vec<String> {
    let cast = format!("SELECT CAST({column} AS VARCHAR) FROM system.queries WHERE statement = '{EVERYTHING}'");
    fixture.texts(&cast).await
}

async fn until(fixture: &Fixture, column: &str, expected: &[&str]) {
    let come = async {
        while seen(fixture, column).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), come).await.is_err() {
        panic!("{:?} is not {expected:?}", seen(fixture, column).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_wait_for_a_slot_and_can_be_stopped_while_they_wait_and_while_they_run() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config { concurrency_max: 1, queue_max: 1, ..Config::default() }).await;
    let ask = |sql: &str| {
        let (url, query) = (url.clone(), [("query", sql.to_owned()), ("format", "ndjson".to_owned())]);
        async move { reqwest::Client::new().get(url).query(&query).send().await.unwrap() }
    };
    let mut running = ask(EVERYTHING).await;
    assert!(running.chunk().await.unwrap().is_some());
    until(&fixture, "state", &["running"]).await;
    assert_eq!(seen(&fixture, "surface").await, ["http"]);
    assert_ne!(seen(&fixture, "rows").await, ["0"]);
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(ask(EVERYTHING));
    until(&fixture, "state", &["running", "waiting"]).await;
    assert_eq!(ask("SELECT 1").await.status(), 429);
    let ids = seen(&fixture, "id").await;
    let cancel = async |id: &str| {
        let url = url.replace("/sql", &format!("/admin/queries/{id}/cancel"));
        reqwest::Client::new().post(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!(cancel(&ids[1]).await, 200);
    let cancelled = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(cancelled.status(), 409);
    assert_eq!(cancelled.json::<Value>().await.unwrap()["error"]["kind"], "cancelled");
    waiting.spawn(ask("SELECT 2 AS two"));
    assert_eq!(cancel(&ids[0]).await, 200);
    let rest = async {
        while running.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    assert!(rest.await.is_err(), "a cut answer must not look whole");
    let answered = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(answered.text().await.unwrap(), "{\"two\":2}\n", "who waited has the slot now");
    assert_eq!(cancel(&ids[0]).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_question_is_shown_after_its_end() {
    let fixture = fixture().await;
    let timeout = Duration::from_millis(1200);
    let (url, _server) = fixture.serve(Config { timeout, ..Config::default() }).await;
    let query = [("query", EVERYTHING), ("format", "csv")];
    let mut stalled = reqwest::Client::new().get(&url).query(&query).send().await.unwrap();
    assert!(stalled.chunk().await.unwrap().is_some());
    until(&fixture, "state", &["timeout"]).await;
    let elapsed: f64 = seen(&fixture, "elapsed_ms").await[0].parse().unwrap();
    assert!(elapsed >= 1200.0, "{elapsed}");
}
