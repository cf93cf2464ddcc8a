use super::*;

fn choice(time: &str) -> ColumnChoice {
    ColumnChoice { time: time.into(), ..ColumnChoice::default() }
}

struct Read {
    survey: Survey,
    rows: Vec<DatedRows>,
}

async fn read(name: &str, text: &str, choice: &ColumnChoice) -> Result<Read> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let file = DatedFile::open(&path, choice).await?;
    let survey = file.survey(|_| {}).await?;
    let rows = file.rows(&survey).await?.try_collect().await?;
    Ok(Read { survey, rows })
}

const DAY: i64 = 86_400_000_000;

#[tokio::test]
async fn rows_of_one_day_are_set_apart_by_their_number() {
    let text = "day,tokens,language\n2026-11-02,10,en\n2026-11-02,20,\n2026-11-03,,de\n";
    let labelled = ColumnChoice { categories: vec!["language".into()], ..choice("day") };
    let read = read("rows.csv", text, &labelled).await.unwrap();
    let first = 1_793_577_600_000_000;
    assert_eq!((read.survey.unit_us(), read.survey.apart_us(), read.survey.may_collide()), (DAY, Some(DAY), false));
    assert_eq!(read.rows[0].times_us, [Some(first), Some(first + 1), Some(first + DAY + 2)]);
    assert_eq!(read.rows[0].values, [[Cell::Integer(10), Cell::Integer(20), Cell::Missing]]);
    assert_eq!(read.rows[0].categories, [[Some("en".to_owned()), None, Some("de".to_owned())]]);
}

#[tokio::test]
async fn times_that_rise_are_left_as_they_are_whatever_they_are_written_in() {
    let expected = [Some(1_793_577_601_000_000), Some(1_793_577_602_000_000)];
    let seconds = ColumnChoice { epoch_unit: Some(EpochUnit::Seconds), ..choice("t") };
    for (name, text, choice) in [
        ("a.csv", "t,x\n2026-11-02T00:00:01Z,1\n2026-11-02T00:00:02Z,2\n", choice("t")),
        ("a.csv", "t,x\n2026-11-02 00:00:01,1\n2026-11-02 00:00:02,2\n", choice("t")),
        ("a.csv", "t,x\n2026-11-02T01:00:01+01:00,1\n2026-11-02T01:00:02+01:00,2\n", choice("t")),
        (
            "a.jsonl",
            "{\"t\":\"2026-11-02T00:00:01Z\",\"x\":1}\n{\"t\":\"2026-11-02T00:00:02Z\",\"x\":2}\n",
            choice("t"),
        ),
        ("a.csv", "t,x\n1793577601,1\n1793577602,2\n", seconds.clone()),
    ] {
        let read = read(name, text, &choice).await.unwrap();
        assert_eq!(read.rows[0].times_us, expected, "{text}");
        assert_eq!(read.survey.apart_us(), None, "{text}");
    }
}

#[tokio::test]
async fn rows_without_a_time_are_counted_and_columns_that_do_not_fit_are_named() {
    let text = "t,x,note\n2026-11-02T00:00:01Z,1,a\nsoon,2,b\n,3,c\n";
    let survey = read("a.csv", text, &choice("t")).await.unwrap().survey;
    assert_eq!((survey.row_count, survey.undated_count, survey.first_undated), (3, 2, Some(1)));
    for (choice, words) in [
        (choice("time"), "which has t, x, note"),
        (ColumnChoice { values: vec!["note".into()], ..choice("t") }, "--category"),
        (ColumnChoice { labels: vec!["x".into()], values: vec!["x".into()], ..choice("t") }, "twice"),
        (ColumnChoice { epoch_unit: Some(EpochUnit::Seconds), ..choice("t") }, "leave --time-unit out"),
        (choice("x"), "--time-unit"),
    ] {
        let error = read("a.csv", text, &choice).await.map(|read| read.survey).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[tokio::test]
async fn a_broken_file_says_line_and_column() {
    let good: String = (0..200_000).map(|row| format!("{},{row},{}\n", 1_793_577_600 + row, row % 7)).collect();
    let seconds = ColumnChoice { epoch_unit: Some(EpochUnit::Seconds), ..choice("t") };
    // Past the rows that types are guessed from.
    let text = format!("t,x,y\n{good}1793877600,seven,1\n");
    let error = read("a.csv", &text, &seconds).await.map(|read| read.survey).unwrap_err().to_string();
    assert!(error.contains("line 200002, column 2 (x): \"seven\" is no Int64"), "{error}");
    let text = format!("t,x,y\n{good}1793877600,7\n");
    let error = read("a.csv", &text, &seconds).await.map(|read| read.survey).unwrap_err().to_string();
    assert!(error.contains("200002") && error.contains("expected 3"), "{error}");
}
