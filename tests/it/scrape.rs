//! `driftwatt collect --scrape` against pages that a server of the test's own gives out, into the real server.

use serde_json::json;

use crate::{
    exporter::{Exporter, collect, until},
    server::{Server, driftwatt, start},
    write_request::now_ms,
};

const DCGM: &str = include_str!("../../collector/src/scrape/testdata/dcgm.txt");
const VLLM: &str = include_str!("../../collector/src/scrape/testdata/vllm.txt");
const OPEN_METRICS: &str = include_str!("../../collector/src/scrape/testdata/openmetrics.txt");

fn once(server: &Server, protocol: &str, urls: &[String]) -> std::process::Output {
    let endpoint = if protocol == "grpc" { &server.otlp_grpc } else { &server.otlp_http };
    let mut command = driftwatt();
    command.args(["collect", "--once", "--endpoint", &format!("http://{endpoint}")]);
    urls.iter().for_each(|url| _ = command.args(["--scrape", url]));
    command.env("DRIFTWATT_COLLECTOR__GPU", "false").env("DRIFTWATT_COLLECTOR__PROTOCOL", protocol).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_exporters_become_points_with_the_names_of_their_pages() {
    let (_dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/dcgm", DCGM);
    exporter.put("/vllm", VLLM);
    exporter.put("/openmetrics", OPEN_METRICS);
    let urls = ["/dcgm", "/vllm", "/openmetrics", "/not-there"].map(|path| exporter.url(path));
    for protocol in ["grpc", "http"] {
        let output = once(&server, protocol, &urls);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let used = "SELECT DISTINCT value, kind, gpu_id, gpu_model, host_name, k8s_pod, service_name, service_instance_id \
                FROM metrics WHERE metric = 'DCGM_FI_DEV_FB_USED'";
    let texts = ["GPU-aaaa", "NVIDIA H100 80GB HBM3", "node-1", "resnet-0", "scrape", exporter.address.as_str()];
    let mut expected = vec![json!(40960.0), json!("gauge")];
    expected.extend(texts.map(|text| json!(text)));
    assert_eq!(server.rows(used).await, [expected]);
    let counters = "SELECT DISTINCT metric, value FROM metrics WHERE kind = 'sum' AND metric IN \
                    ('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', 'vllm:prompt_tokens_total', 'app_requests_total') ORDER BY 1";
    let row = |name: &str, value: f64| vec![json!(name), json!(value)];
    let expected = [
        row("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 123_456_789.0),
        row("app_requests_total", 12.0),
        row("vllm:prompt_tokens_total", 12000.0),
    ];
    assert_eq!(server.rows(counters).await, expected);
    let latency =
        "SELECT DISTINCT count, sum, bounds, bucket_counts, unit FROM histograms WHERE metric = 'app_latency_seconds'";
    let expected = [json!(10), json!(4.5), json!([0.1, 1.0]), json!([3, 6, 1]), json!("s")];
    assert_eq!(server.rows(latency).await, [expected]);
    let start = "SELECT DISTINCT CAST(start_time AS VARCHAR) FROM raw.samples WHERE metric = 'app_requests_total'";
    assert_eq!(server.rows(start).await, [[json!("2023-11-14T22:13:20Z")]]);
    // Four targets of one job and instance, told apart by nothing but what they show: three of each run are up.
    let up = "SELECT value, count(*) FROM raw.samples WHERE metric = 'up' GROUP BY value ORDER BY value";
    let up = server.rows(up).await;
    assert!(up.iter().any(|row| row[0] == json!(1.0)), "{up:?}");
    assert_eq!(server.rows("SELECT count(*) FROM rejections").await, [[json!(0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_that_vanishes_and_a_target_that_fails_leave_markers() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/metrics", "# TYPE kept gauge\nkept 1\n# TYPE goes gauge\ngoes 2\n");
    let scrape = format!("[[collector.scrape]]\njob = \"ns/app\"\ntargets = [\"{}\"]\n", exporter.url("/metrics"));
    let _collector = collect(&dir, &server, &scrape);
    until(
        &server,
        "SELECT count(DISTINCT metric) FROM raw.samples WHERE metric IN ('kept', 'goes')",
        &[vec![json!(2)]],
    )
    .await;
    exporter.put("/metrics", "# TYPE kept gauge\nkept 1\nnot a line\n");
    let markers = "SELECT metric, count(*) FROM raw.samples WHERE value IS NULL GROUP BY metric ORDER BY metric";
    until(&server, markers, &[vec![json!("goes"), json!(1)]]).await;
    let errors = "SELECT max(value) FROM raw.samples WHERE metric = 'driftwatt.collector.scrape.page.errors'";
    until(&server, errors, &[vec![json!(1.0)]]).await;
    exporter.clear();
    until(&server, markers, &[vec![json!("goes"), json!(1)], vec![json!("kept"), json!(1)]]).await;
    // From its marker on nothing is missing of a series: the target is gone, which `up` says, and not the series in part.
    let ended =
        "SELECT metric, ended_time IS NOT NULL FROM system.coverage WHERE metric IN ('goes', 'kept') ORDER BY 1";
    until(&server, ended, &[vec![json!("goes"), json!(true)], vec![json!("kept"), json!(true)]]).await;
    let up = "SELECT value, service_name FROM metrics WHERE metric = 'up' ORDER BY time DESC LIMIT 1";
    until(&server, up, &[vec![json!(0.0), json!("app")]]).await;
    let log = std::fs::read_to_string(dir.path().join("collect.log")).unwrap();
    assert!(log.contains("target cannot be scraped") && log.contains("404"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_page_is_not_used() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/openmetrics", OPEN_METRICS.strip_suffix("# EOF\n").unwrap());
    let scrape = format!("[[collector.scrape]]\ntargets = [\"{}\"]\n", exporter.url("/openmetrics"));
    let _collector = collect(&dir, &server, &scrape);
    until(&server, "SELECT DISTINCT value FROM raw.samples WHERE metric = 'up'", &[vec![json!(0.0)]]).await;
    assert_eq!(server.rows("SELECT count(*) FROM raw.series WHERE metric LIKE 'app_%'").await, [[json!(0)]]);
    exporter.put("/openmetrics", OPEN_METRICS);
    until(&server, "SELECT max(value) FROM raw.samples WHERE metric = 'up'", &[vec![json!(1.0)]]).await;
    until(&server, "SELECT DISTINCT value FROM raw.samples WHERE metric = 'app_build_info'", &[vec![json!(1.0)]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_breaks_off_is_not_used_however_its_end_is_told() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    // The value was 12345.
    let cut = "# TYPE cut gauge\ncut 12";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n";
    exporter.put("/length", format!("{head}content-length: {}\r\n\r\n{cut}", cut.len() + 4));
    exporter.put("/chunked", format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{cut}\r\n", cut.len()));
    exporter.put("/closed", format!("{head}connection: close\r\n\r\n{cut}"));
    exporter.put("/whole", format!("{head}connection: close\r\n\r\n# TYPE whole gauge\nwhole 1\n"));
    exporter.put("/no_newline", "# TYPE whole gauge\nwhole 2");
    let paths = ["/length", "/chunked", "/closed", "/whole", "/no_newline"];
    let targets = paths.map(|path| {
        format!("[[collector.scrape]]\njob = \"{}\"\ntargets = [\"{}\"]\n", &path[1..], exporter.url(path))
    });
    let _collector = collect(&dir, &server, &targets.concat());
    let up = "SELECT service_name, max(value) FROM metrics WHERE metric = 'up' GROUP BY 1 ORDER BY 1";
    let row = |job: &str, value: f64| vec![json!(job), json!(value)];
    let expected =
        [row("chunked", 0.0), row("closed", 0.0), row("length", 0.0), row("no_newline", 1.0), row("whole", 1.0)];
    until(&server, up, &expected).await;
    let values = "SELECT DISTINCT metric, value FROM raw.samples WHERE metric IN ('cut', 'whole') ORDER BY value";
    until(&server, values, &[row("whole", 1.0), row("whole", 2.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_a_page_is_counted_and_the_log_names_the_line() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    let page = "# TYPE good gauge\ngood 1\n# TYPE odd enumeration\nodd{a=\"1\",a=\"2\"} 1\nodd one\n\
                # TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 3\nh_count 3\nh_sum 1\ngood 2\nlast 3\n";
    exporter.put("/metrics", page);
    let scrape = format!("[[collector.scrape]]\njob = \"app\"\ntargets = [\"{}\"]\n", exporter.url("/metrics"));
    let _collector = collect(&dir, &server, &scrape);
    // Three lines, the four parts of the histogram whose counts fall, and a series that came before.
    let errors =
        "SELECT DISTINCT service_name, value FROM metrics WHERE metric = 'driftwatt.collector.scrape.page.errors'";
    until(&server, errors, &[vec![json!("app"), json!(8.0)]]).await;
    let kept =
        "SELECT DISTINCT metric, value FROM raw.samples WHERE metric IN ('good', 'odd', 'last', 'h_count') ORDER BY 1";
    until(&server, kept, &[vec![json!("good"), json!(1.0)], vec![json!("last"), json!(3.0)]]).await;
    until(&server, "SELECT count(*) >= 3 FROM raw.samples WHERE metric = 'up'", &[vec![json!(true)]]).await;
    let log = std::fs::read_to_string(dir.path().join("collect.log")).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("part of the page was left out")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("TYPE names no type that there is") && lines[0].contains('3'), "{}", lines[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_times_of_a_wrong_clock_is_refused_by_the_server_and_counted() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    let future_ms = now_ms() + 3_600_000;
    exporter.put("/metrics", format!("# TYPE ahead gauge\nahead 1 {future_ms}\n# TYPE good gauge\ngood 1\n"));
    let scrape = format!("[[collector.scrape]]\ntargets = [\"{}\"]\n", exporter.url("/metrics"));
    let _collector = collect(&dir, &server, &scrape);
    let counted = "SELECT DISTINCT reason, metric, count FROM rejections";
    until(&server, counted, &[vec![json!("timestamp_too_new"), json!("ahead"), json!(1)]]).await;
    until(&server, "SELECT DISTINCT value FROM raw.samples WHERE metric = 'good'", &[vec![json!(1.0)]]).await;
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples WHERE metric = 'ahead'").await, [[json!(0)]]);
    let log = std::fs::read_to_string(dir.path().join("collect.log")).unwrap();
    assert!(log.contains("the server refused some of the points") && log.contains("set the sender's clock"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_come_and_go_with_their_file() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/metrics", "found 1\n");
    let file = dir.path().join("targets.json");
    std::fs::write(&file, "[]").unwrap();
    let scrape = format!("[[collector.scrape]]\njob = \"files\"\nfiles = [\"{}\"]\n", file.display());
    let _collector = collect(&dir, &server, &scrape);
    let groups = json!([{ "targets": [exporter.address], "labels": { "rack": "7", "job": "renamed" } }]);
    std::fs::write(&file, groups.to_string()).unwrap();
    let found = "SELECT DISTINCT service_name, attributes['rack'] FROM metrics WHERE metric = 'found'";
    until(&server, found, &[vec![json!("renamed"), json!("7")]]).await;
    std::fs::write(&file, "[ ]").unwrap();
    until(&server, "SELECT count(*) FROM raw.samples WHERE metric = 'found' AND value IS NULL", &[vec![json!(1)]])
        .await;
}
