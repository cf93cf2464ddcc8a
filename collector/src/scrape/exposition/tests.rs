//! Pages in the shape that exporters give them.

use super::*;

fn sample(line: &str, format: Format) -> Sample {
    let page = parse(line, format);
    assert_eq!((page.first_error, page.sample_count), (None, 1), "{line}");
    page.families[0].samples[0].clone()
}

fn labels(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn samples_are_read_with_their_labels_value_and_time() {
    let check = |line: &str, format, name: &str, expected: &[(&str, &str)], value: f64, time_ms| {
        let sample = sample(line, format);
        assert_eq!((sample.name.as_str(), sample.labels), (name, labels(expected)), "{line}");
        assert!(sample.value == value || sample.value.is_nan() && value.is_nan(), "{line}: {}", sample.value);
        assert_eq!(sample.time_ms, time_ms, "{line}");
    };
    check("up 1", Format::Text, "up", &[], 1.0, None);
    check(
        "vllm:num_requests_running{engine=\"0\",} 2.0",
        Format::Text,
        "vllm:num_requests_running",
        &[("engine", "0")],
        2.0,
        None,
    );
    check(
        "a { b = \"c\" , d=\"\" }\t+Inf 1700000000123",
        Format::Text,
        "a",
        &[("b", "c")],
        f64::INFINITY,
        Some(1_700_000_000_123),
    );
    check("a{p=\"C:\\\\dir\\n\\\"x\\\"}, é\"} NaN", Format::Text, "a", &[("p", "C:\\dir\n\"x\"}, é")], f64::NAN, None);
    check("a_total 5e3 1700000000.25", Format::OpenMetrics, "a_total", &[], 5000.0, Some(1_700_000_000_250));
    check(
        "b_bucket{le=\"1.0\"} 8 # {trace_id=\"x\"} 0.5 17.0",
        Format::OpenMetrics,
        "b_bucket",
        &[("le", "1.0")],
        8.0,
        None,
    );
    check("{\"http.requests\",\"net.peer\"=\"a\"} 3", Format::Text, "http.requests", &[("net.peer", "a")], 3.0, None);
}

#[test]
fn a_bad_line_is_counted_and_the_rest_is_kept() {
    for line in [
        "1up 1",
        "up",
        "up one",
        "up 1 soon",
        "up 1 2 3",
        "up{a=\"1\" 1",
        "up{a=1} 1",
        "up{a} 1",
        "up{a=\"1} 1",
        "up{a=\"1\",a=\"2\"} 1",
        "up-time 1",
        "{a=\"1\"} 1",
        "# TYPE good counter",
        "# TYPE other thing",
        "# TYPE",
    ] {
        let page = parse(&format!("good 1\n{line}\nlast 2\n"), Format::Text);
        assert_eq!((page.error_count, page.first_error.map(|error| error.0)), (1, Some(2)), "{line}");
        assert_eq!(page.sample_count, 2, "{line}");
    }
    let page = parse("# a comment\n#HELP too\n#\n\r\n   \n", Format::Text);
    assert_eq!((page.error_count, page.sample_count), (0, 0));
}

#[test]
fn an_open_metrics_page_without_its_end_is_half_a_page() {
    let page = "# TYPE a gauge\na 1\n# EOF\n";
    assert!(parse(page, Format::OpenMetrics).is_complete);
    for length in 0..page.len() - 1 {
        assert!(!parse(&page[..length], Format::OpenMetrics).is_complete, "{length}");
    }
    let page = parse("a 1\n# EOF\nb 2\n", Format::OpenMetrics);
    assert_eq!((page.sample_count, page.error_count), (1, 1));
    assert!(parse("a 1", Format::Text).is_complete, "text does not say where it ends");
}

#[test]
fn samples_find_their_family() {
    let page = parse(
        "# HELP h How long.\\nIn seconds.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n\
         # TYPE h_count gauge\n# TYPE c counter\n# UNIT c bytes\nc_total 1\nc_created 1\nc_other 1\n# TYPE t_total counter\nt_total 1\n# EOF",
        Format::OpenMetrics,
    );
    let found: Vec<_> =
        page.families.iter().map(|family| (&*family.name, family.family_type, family.samples.len())).collect();
    use FamilyType::{Counter, Gauge, Histogram, Unknown};
    let expected = [
        ("h", Histogram, 3),
        ("h_count", Gauge, 0),
        ("c", Counter, 2),
        ("c_other", Unknown, 1),
        ("t_total", Counter, 1),
    ];
    assert_eq!(found, expected);
    assert_eq!((&*page.families[0].help, &*page.families[2].unit), ("How long.\nIn seconds.", "bytes"));
}

#[test]
fn any_text_is_read_without_a_panic() {
    let page = include_str!("../testdata/vllm.txt");
    let mut state = 0x5eed_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..2000 {
        let mut bytes = page.as_bytes().to_vec();
        for _ in 0..=random(6) {
            let at = random(bytes.len());
            bytes[at] = b"{}\"\\#=, \n\xff\xc3x9"[random(13)];
        }
        bytes.truncate(random(bytes.len()) + 1);
        let text = String::from_utf8_lossy(&bytes);
        for format in [Format::Text, Format::OpenMetrics] {
            let page = parse(&text, format);
            let kept: usize = page.families.iter().map(|family| family.samples.len()).sum();
            assert_eq!(kept, page.sample_count);
        }
    }
}
