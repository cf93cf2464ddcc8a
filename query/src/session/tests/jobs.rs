//! Jobs over HTTP: submit, look at, fetch, cancel, and their limits.

use super::*;

const EVERYTHING: &str =
    "SELECT a.value, b.value AS other FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

struct JobServer {
    fixture: Fixture,
    url: String,
    _server: tokio::task::JoinSet<()>,
    spool: tempfile::TempDir,
}

async fn serve(config: Config) -> JobServer {
    let fixture = fixture().await;
    let spool = tempfile::tempdir().unwrap();
    let config = Config { jobs_dir: Some(spool.path().to_owned()), ..config };
    let (url, server) = fixture.serve(config).await;
    JobServer { fixture, url: format!("{url}/jobs"), _server: server, spool }
}

impl JobServer {
    async fn submit(&self, question: Value) -> String {
        let (status, job) = post(&self.url, question).await;
        assert_eq!((status, &job["state"]), (202, &json!("waiting")), "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(format!("{}/{path}", self.url)).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn delete(&self, id: &str) -> u16 {
        reqwest::Client::new().delete(format!("{}/{id}", self.url)).send().await.unwrap().status().as_u16()
    }

    /// The job once `condition` holds.
    async fn until(&self, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let come = async {
            loop {
                let (_, job) = self.get(id).await;
                if condition(&job) {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), come).await.unwrap()
    }

    /// Whoever has just sent a result to its end may hold its file a moment longer.
    async fn until_no_file(&self) {
        let gone = async {
            while self.files() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.spool.path()).unwrap().count()
    }
}

fn is(state: &str) -> impl Fn(&Value) -> bool {
    move |job| job["state"] == state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_fetched_in_its_format_as_often_as_wanted_until_the_job_is_removed() {
    let jobs = serve(Config::default()).await;
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        let question = json!({
            "query": "SELECT value AS n FROM generate_series(1, 25000) WHERE value > $1 ORDER BY value", "params": [5000], "format": format,
        });
        let id = jobs.submit(question).await;
        let job = jobs.until(&id, is("done")).await;
        assert_eq!((&job["rows"], &job["queue_position"], &job["error"]), (&json!(20_000), &Value::Null, &Value::Null));
        assert!(job["expires_in_seconds"].as_u64().unwrap() > 3000, "{job}");
        let path = job["result"].as_str().unwrap();
        assert!(jobs.url.ends_with("/api/v1/sql/jobs") && path.ends_with(&format!("{id}/result")));
        let result = async || reqwest::get(format!("{}/{id}/result", jobs.url)).await.unwrap();
        let response = result().await;
        assert!(response.headers()["content-disposition"].to_str().unwrap().contains(format));
        let bytes = response.bytes().await.unwrap();
        assert_eq!(bytes.len() as u64, job["size_bytes"].as_u64().unwrap());
        assert_eq!(bytes, result().await.bytes().await.unwrap());
        match format {
            "json" => {
                let answer: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!((&answer["row_count"], &answer["rows"][0]), (&json!(20_000), &json!([5001])));
                assert_eq!(answer["columns"], json!([{ "name": "n", "type": "int64" }]));
            }
            "ndjson" => assert!(bytes.starts_with(b"{\"n\":5001}\n")),
            "csv" => assert!(bytes.starts_with(b"n\r\n5001\r\n")),
            "arrow" => assert!(bytes.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])),
            _ => assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")),
        }
        assert_eq!(jobs.files(), 1);
        assert_eq!(jobs.delete(&id).await, 200);
        jobs.until_no_file().await;
        assert_eq!((jobs.get(&id).await.0, jobs.delete(&id).await), (404, 404));
        assert_eq!(jobs.get(&format!("{id}/result")).await.0, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_shows_how_far_it_is_and_stops_when_it_is_removed_or_cancelled() {
    let jobs = serve(Config { concurrency_max: 4, ..Config::default() }).await;
    let running = jobs.submit(json!({ "query": EVERYTHING, "format": "csv" })).await;
    let first = jobs.until(&running, |job| job["rows"].as_u64() > Some(0)).await;
    assert_eq!(first["state"], "running");
    jobs.until(&running, |job| job["rows"].as_u64() > first["rows"].as_u64()).await;
    assert_eq!(jobs.get(&format!("{running}/result")).await.0, 409);
    // One of four slots is for jobs.
    let next = jobs.submit(json!({ "query": "SELECT 1 AS one" })).await;
    let last = jobs.submit(json!({ "query": "SELECT 2 AS two" })).await;
    assert_eq!(jobs.get(&next).await.1["queue_position"], 1);
    assert_eq!(jobs.get(&last).await.1["queue_position"], 2);
    let all = reqwest::get(&jobs.url).await.unwrap().json::<Value>().await.unwrap();
    let ids: Vec<_> = all["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&running, &next, &last]);
    assert_eq!(jobs.delete(&running).await, 200);
    jobs.until(&next, is("done")).await;
    jobs.until(&last, is("done")).await;
    assert_eq!(jobs.files(), 2);
    let killed = jobs.submit(json!({ "query": EVERYTHING, "format": "ndjson" })).await;
    jobs.until(&killed, is("running")).await;
    let id = "SELECT CAST(id AS VARCHAR) FROM system.queries WHERE surface = 'job' AND state = 'running'";
    let id = jobs.fixture.texts(id).await.remove(0);
    let url = jobs.url.replace("sql/jobs", &format!("admin/queries/{id}/cancel"));
    assert_eq!(post(&url, json!({})).await.0, 200);
    let job = jobs.until(&killed, is("cancelled")).await;
    assert_eq!((&job["error"]["kind"], jobs.files()), (&json!("cancelled"), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why() {
    let config = Config { job_timeout: Duration::from_millis(500), job_size_bytes_max: 100_000, ..Config::default() };
    let jobs = serve(config).await;
    for (query, kind, status) in [
        ("SELECT nothing", "invalid", 400),
        ("DROP TABLE metrics", "denied", 403),
        (EVERYTHING, "limit", 429),
        ("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b", "timeout", 504),
    ] {
        let id = jobs.submit(json!({ "query": query, "format": "csv" })).await;
        let job = jobs.until(&id, is("failed")).await;
        assert_eq!(job["error"]["kind"], kind, "{query}: {job}");
        let (found, body) = jobs.get(&format!("{id}/result")).await;
        assert_eq!((found, &body["error"]), (status, &job["error"]), "{query}");
    }
    assert_eq!(jobs.files(), 0);
    for wrong in [
        json!({ "query": "SELECT 1", "format": "xml" }),
        json!({}),
        json!({ "query": "SELECT 1", "explain": "analyze" }),
    ] {
        assert_eq!(post(&jobs.url, wrong.clone()).await.0, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_bounded_in_number_and_forgotten_after_their_time() {
    let jobs = serve(Config { jobs_max: 2, job_keep: Duration::from_millis(300), ..Config::default() }).await;
    let long = jobs.submit(json!({ "query": EVERYTHING, "format": "csv" })).await;
    let short = jobs.submit(json!({ "query": "SELECT 1 AS one" })).await;
    let question = json!({ "query": "SELECT 3 AS three" });
    let response = reqwest::Client::new().post(&jobs.url).body(question.to_string()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (429, true));
    let gone = async {
        while jobs.get(&short).await.0 != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(jobs.files(), 1);
    jobs.submit(question).await;
    assert_eq!(jobs.delete(&long).await, 200);
}
