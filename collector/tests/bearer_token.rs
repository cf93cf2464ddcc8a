//! A scrape with a token, over the real wire.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use driftwatt_collector::{Collector, Config, Protocol, RawConfig, RawScrapeJob};

/// An HTTP server that answers everything with an empty page, and tells the path and the authorization of each request.
fn server() -> (String, Receiver<(String, Option<String>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (seen, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            let mut first = String::new();
            reader.read_line(&mut first).expect("a request");
            let (mut line, mut authorization) = (String::new(), None);
            while reader.read_line(&mut line).expect("a header") > 2 {
                if line.to_ascii_lowercase().starts_with("authorization:") {
                    authorization = Some(line["authorization:".len()..].trim().to_owned());
                }
                line.clear();
            }
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            reader.get_mut().write_all(answer.as_bytes()).ok();
            if seen.send((path, authorization)).is_err() {
                return;
            }
        }
    });
    (url, requests)
}

fn config(url: &str, token_file: &std::path::Path) -> Config {
    let job = RawScrapeJob {
        targets: vec![format!("{url}/metrics")],
        interval: Some("1s".into()),
        bearer_token_file: Some(token_file.to_owned()),
        ..RawScrapeJob::default()
    };
    let raw = RawConfig {
        // Nobody there: what is sent does not matter.
        endpoint: Some("http://127.0.0.1:9/v1/metrics".into()),
        protocol: Some(Protocol::Http),
        interval: Some("1h".into()),
        gpu: Some(false),
        retries_max: Some(0),
        scrape: vec![job],
        ..RawConfig::default()
    };
    raw.validate().expect("the settings are in range")
}

/// Until the exporter sees a request with `authorization`; every one before must be `before`.
fn until(requests: &Receiver<(String, Option<String>)>, authorization: &str, before: Option<&str>) {
    loop {
        let (path, seen) = requests.recv_timeout(Duration::from_secs(10)).expect("a scrape");
        assert_eq!(path, "/metrics");
        if seen.as_deref() == Some(authorization) {
            return;
        }
        assert_eq!(seen.as_deref(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_carries_the_token_that_is_in_the_file_then() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "first-token\n").unwrap();
    let (url, requests) = server();
    let _collector = Collector::start(config(&url, &file)).unwrap();
    until(&requests, "Bearer first-token", Some("Bearer first-token"));
    // At once, so that no scrape sees half of it.
    fs::write(folder.path().join("new"), "second-token").unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    until(&requests, "Bearer second-token", Some("Bearer first-token"));

    // Without a token there is no request, rather than one without authorization.
    fs::write(folder.path().join("new"), "\n").unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    let mut under_way = 0;
    while let Ok((_, authorization)) = requests.recv_timeout(Duration::from_millis(2500)) {
        under_way += 1;
        assert_eq!((authorization.as_deref(), under_way), (Some("Bearer second-token"), 1));
    }
}
