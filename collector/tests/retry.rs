//! The export against a server that answers with an error, over the real wire.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use driftwatt_collector::{Collector, Config, Error, Protocol, RawConfig};

/// Answers the first `failures` requests with `status`, later ones with 200; counts them all.
fn server(status: &'static str, failures: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).expect("a header") > 2 {
                let header = line.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            assert!(!body.is_empty());
            let status = if counted.fetch_add(1, Ordering::SeqCst) < failures { status } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).expect("the client waits");
        }
    });
    (endpoint, requests)
}

fn config(endpoint: String) -> Config {
    let raw = RawConfig {
        endpoint: Some(endpoint),
        protocol: Some(Protocol::Http),
        interval: Some("1h".into()),
        gpu: Some(false),
        retries_max: Some(2),
        ..RawConfig::default()
    };
    raw.validate().expect("the settings are in range")
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_until_it_accepts() {
    let (endpoint, requests) = server("503 Service Unavailable", 2);
    let collector = Collector::start(config(endpoint)).unwrap();
    collector.flush().await.unwrap();
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    collector.shutdown().await.unwrap();
    assert_eq!(requests.load(Ordering::SeqCst), 4, "shutdown exports once more");
}

#[tokio::test]
async fn retries_stop_at_the_bound() {
    let (endpoint, requests) = server("503 Service Unavailable", usize::MAX);
    let collector = Collector::start(config(endpoint)).unwrap();
    assert!(matches!(collector.flush().await, Err(Error::Export { .. })));
    assert_eq!(requests.load(Ordering::SeqCst), 3, "one attempt and two retries");
}

#[tokio::test]
async fn a_refused_request_is_not_repeated() {
    let (endpoint, requests) = server("400 Bad Request", usize::MAX);
    let collector = Collector::start(config(endpoint)).unwrap();
    assert!(matches!(collector.flush().await, Err(Error::Export { .. })));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_within_the_time_for_an_export() {
    for (protocol, endpoint) in
        [(Protocol::Grpc, "http://127.0.0.1:9"), (Protocol::Http, "http://127.0.0.1:9/v1/metrics")]
    {
        let config = Config { protocol, endpoint: endpoint.into(), ..config("http://unused".into()) };
        let collector = Collector::start(config).unwrap();
        let Err(Error::Export { reason }) = collector.flush().await else {
            panic!("{protocol:?} reached a closed port")
        };
        assert!(!reason.contains("Failed to flush"), "the reason is that of the transport: {reason}");
    }
}
