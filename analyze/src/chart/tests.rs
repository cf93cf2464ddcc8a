use super::*;

fn caption(id: &str, simulated: bool) -> Caption {
    Caption { id: id.into(), title: "Busy <GPUs>".into(), description: "What & why".into(), simulated }
}

fn line(values: Vec<Option<f64>>, simulated: bool) -> String {
    let series = vec![Series { name: "GPU".into(), values }];
    let ticks = vec![(0, "Mon".into())];
    LineChart { caption: caption("week", simulated), unit: "GPUs".into(), ticks, series }.to_svg().0
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn a_chart_says_what_it_is_and_escapes() {
    let svg = line(vec![Some(1.0)], true);
    assert!(svg.contains("role=\"img\" aria-labelledby=\"week-title week-desc\""), "{svg}");
    assert!(svg.contains("<title id=\"week-title\">Busy &lt;GPUs&gt; (simulated data)</title>"), "{svg}");
    assert!(svg.contains("<desc id=\"week-desc\">What &amp; why</desc>"));
    assert!(svg.contains(">SIMULATED<"));
    assert!(!line(vec![Some(1.0)], false).to_lowercase().contains("simulated"));
    assert_eq!(svg, line(vec![Some(1.0)], true), "the same bytes every time");
}

#[test]
fn what_is_unknown_is_a_gap_and_never_zero() {
    let svg = line(vec![Some(4.0), Some(4.0), None, None, Some(2.0), Some(f64::NAN), Some(0.0)], false);
    let path = svg.split("d=\"").find(|part| part.starts_with("M56") || part.starts_with("M1")).unwrap();
    let path = path.split('"').next().unwrap();
    // Three stretches: two values, one value, one value.
    assert_eq!(count(path, "M"), 3, "{path}");
    assert_eq!(count(&svg, "fill=\"url(#week-none)\""), 2, "one hatched area per gap");
    assert!(svg.contains("hatched: no data"));
    assert!(line(vec![None, None], false).contains("GPU (no data)"));
    assert!(line(vec![], false).contains("GPU (no data)"));
}

#[test]
fn a_bar_with_an_unknown_part_has_no_total() {
    let bar = |name: &str, parts: Vec<Option<f64>>| Bar { name: name.into(), parts };
    let long = "a-very-long-service-name-that-does-not-fit-beside-its-bar";
    let svg = StackedBars {
        caption: caption("states", false),
        unit: "h".into(),
        parts: vec!["busy".into(), "idle-held".into()],
        bars: vec![
            bar(long, vec![Some(10.0), Some(30.0)]),
            bar("b", vec![Some(5.0), None]),
            bar("c", vec![None, None]),
            bar("d", vec![]),
        ],
    };
    let svg = svg.to_svg().0;
    assert!(svg.contains(">40 h<") && svg.contains(">≥ 5 h, rest unknown<"), "{svg}");
    assert_eq!(count(&svg, ">unknown<"), 2);
    assert!(svg.contains(&format!("<title>{long}</title>…")), "cut, with all of it in the tooltip");
    // The second part is hatched, in the legend and in the bar that has it.
    assert_eq!(count(&svg, "url(#states-p1)"), 2);
}

#[test]
fn a_waterfall_shows_unknown_steps_and_money() {
    let rung = |name: &str, value, money, coverage| Rung { name: name.into(), value, money, coverage };
    let svg = Waterfall {
        caption: caption("waterfall", false),
        unit: "GPU-hours".into(),
        currency: "EUR".into(),
        rungs: vec![
            rung("paid", Some(1_000.0), Some(3_500.0), Some(1.0)),
            rung("held", None, None, None),
            rung("busy", Some(250.0), Some(875.0), Some(0.9999)),
        ],
    };
    let svg = svg.to_svg().0;
    assert!(svg.contains("EUR 3\u{202f}500") && svg.contains(">unknown · cost unknown · coverage unknown<"), "{svg}");
    assert!(svg.contains("250 GPU-hours (25 % of the step before)"));
    assert!(svg.contains("coverage 99.9 %"), "never rounded up to all");
}

#[test]
fn a_heat_map_prints_its_values() {
    let svg = HeatMap {
        caption: caption("heat", false),
        unit: "GPUs".into(),
        max: 10.0,
        columns: (0..24).map(|hour| hour.to_string()).collect(),
        rows: vec![HeatRow { name: "Mon".into(), values: vec![Some(0.0), Some(5.0), Some(99.0), None] }],
    };
    let svg = svg.to_svg().0;
    for cell in ["mid x0", "mid x2", "mid x4"] {
        assert_eq!(count(&svg, &format!("class=\"{cell}\"")), 1, "{cell}");
    }
    assert_eq!(count(&svg, "url(#heat-none)"), 21, "one gap, and 20 columns that the row lacks");
}

#[test]
fn a_sparkline_breaks_at_gaps() {
    let svg = sparkline("GPU \"0\"", &[Some(1.0), None, Some(0.0)]).0;
    assert!(svg.contains("aria-label=\"GPU &quot;0&quot;\"") && svg.contains("d=\"M"), "{svg}");
    assert_eq!(count(&svg, "M"), 2);
    assert!(sparkline("a", &[None]).0.contains("a: no data"));
}

#[test]
fn numbers_keep_three_digits_and_ticks_are_round() {
    let texts: Vec<String> = [0.0, -0.0, -0.001, -0.123, 0.123, 1.0, 9.99, 9.996, 12.34, 99.96, 1_234.0, -1_234_567.0]
        .into_iter()
        .map(number)
        .collect();
    assert_eq!(
        texts,
        ["0", "0", "0", "-0.12", "0.12", "1", "9.99", "10", "12.3", "100", "1\u{202f}234", "-1\u{202f}234\u{202f}567"]
    );
    let steps: Vec<f64> = [0.0, 1.0, 7.0, 10.0, 33.0, 1e6].into_iter().map(tick_step).collect();
    assert_eq!(steps, [1.0, 0.2, 2.0, 2.0, 10.0, 200_000.0]);
}
