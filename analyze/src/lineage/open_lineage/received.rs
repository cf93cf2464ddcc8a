//! Events of others, read.

use chrono::DateTime;
use serde_json::{Map, Value};

/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Data sets on one side of one event.
const DATASETS_MAX: usize = 1_000;
/// Characters of a name or namespace.
const NAME_CHARS_MAX: usize = 2_048;

/// Why an event is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Too large.
    #[error("event of {bytes} bytes, more than 1 MiB: leave large facets out")]
    TooLarge {
        /// Bytes of the body.
        bytes: usize,
    },
    /// Not JSON.
    #[error("event is not JSON: {reason}")]
    NotJson {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A required field is not there.
    #[error("{field} is missing: OpenLineage requires it in a run event")]
    Missing {
        /// Path of the field.
        field: String,
    },
    /// A field has another form than the specification says.
    #[error("{field}: expected {expected}")]
    Shape {
        /// Path of the field.
        field: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A job or data set event, which tells no run.
    #[error("no run in the event: only run events are kept, job and dataset events tell nothing about a run")]
    NotARun,
}

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Began.
    Start,
    /// Goes on.
    Running,
    /// Ended well.
    Complete,
    /// Was stopped.
    Abort,
    /// Ended with an error.
    Fail,
    /// More metadata, in any state; also where the event names none.
    Other,
}

/// A data set that a run read or wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dataset {
    /// Where the name is unique, as in `s3://bucket`.
    pub namespace: String,
    /// Name within the namespace.
    pub name: String,
    /// Facet `version`: version of the data set or model.
    pub version: Option<String>,
    /// Facet `schema`: fields as `name` or `name type`.
    pub fields: Vec<String>,
    /// Rows, of the facets `inputStatistics`, `dataQualityMetrics` or `outputStatistics`.
    pub row_count: Option<u64>,
    /// Bytes, of the same facets.
    pub size_bytes: Option<u64>,
    /// Facet `tags`, as key and value.
    pub tags: Vec<(String, String)>,
    /// Facet `dataQualityAssertions`: how many failed, of how many.
    pub assertions_failed: Option<(usize, usize)>,
}

/// A run event, of what is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEvent {
    /// UTC microseconds.
    pub time_us: i64,
    /// State of the run.
    pub state: RunState,
    /// Identity of the run: a UUID, lower case.
    pub run_id: String,
    /// Namespace of the job.
    pub job_namespace: String,
    /// Name of the job.
    pub job_name: String,
    /// URI of the software that sent the event.
    pub producer: String,
    /// Schema that the event names.
    pub schema_url: String,
    /// Facet `nominalTime`: start of the time that the run stands for, UTC microseconds.
    pub nominal_start_us: Option<i64>,
    /// Facet `parent`: the run that started this one.
    pub parent_run_id: Option<String>,
    /// Facet `sourceCodeLocation`: commit or version of the code.
    pub code_version: Option<String>,
    /// Facet `errorMessage`.
    pub error_message: Option<String>,
    /// Data read.
    pub inputs: Vec<Dataset>,
    /// Data written.
    pub outputs: Vec<Dataset>,
    /// Facets that were there and are not kept or not of the documented shape, as paths; sorted.
    pub facets_left_out: Vec<String>,
}

/// Reads the body of one `POST /api/v1/lineage`.
///
/// # Errors
/// [`EventError`] with the field in question.
pub fn read_event(body: &[u8]) -> Result<RunEvent, EventError> {
    if body.len() > EVENT_BYTES_MAX {
        return Err(EventError::TooLarge { bytes: body.len() });
    }
    let event: Value =
        serde_json::from_slice(body).map_err(|error| EventError::NotJson { reason: error.to_string() })?;
    let event = object(&event, "event")?;
    let run = object(event.get("run").ok_or(EventError::NotARun)?, "run")?;
    let job = object(event.get("job").ok_or_else(|| missing("job"))?, "job")?;
    let mut left_out = Vec::new();
    let run_facets = Facets::new(run, "run", &mut left_out)?;
    let nominal_start_us =
        run_facets.text("nominalTime", "nominalStartTime", &mut left_out).and_then(|text| time(&text, "").ok());
    let parent_run_id = run_facets.text_below("parent", "run", "runId", &mut left_out);
    // As `run_id`, with which it is joined.
    let parent_run_id = parent_run_id.map(|id| id.to_ascii_lowercase());
    let error_message = run_facets.text("errorMessage", "message", &mut left_out);
    run_facets.rest(&["nominalTime", "parent", "errorMessage"], &mut left_out);
    let job_facets = Facets::new(job, "job", &mut left_out)?;
    let code_version = job_facets.text("sourceCodeLocation", "version", &mut left_out);
    job_facets.rest(&["sourceCodeLocation"], &mut left_out);
    let inputs = datasets(event, "inputs", &mut left_out)?;
    let outputs = datasets(event, "outputs", &mut left_out)?;
    left_out.sort();
    left_out.dedup();
    Ok(RunEvent {
        time_us: time(&required(event, "eventTime", "eventTime")?, "eventTime")?,
        state: state(event)?,
        run_id: run_id(&required(run, "runId", "run.runId")?)?,
        job_namespace: required(job, "namespace", "job.namespace")?,
        job_name: required(job, "name", "job.name")?,
        producer: required(event, "producer", "producer")?,
        schema_url: schema_url(event)?,
        nominal_start_us,
        parent_run_id,
        code_version,
        error_message,
        inputs,
        outputs,
        facets_left_out: left_out,
    })
}

fn missing(field: &str) -> EventError {
    EventError::Missing { field: field.to_owned() }
}

fn shape(field: &str, expected: &'static str) -> EventError {
    EventError::Shape { field: field.to_owned(), expected }
}

fn object<'a>(value: &'a Value, field: &str) -> Result<&'a Map<String, Value>, EventError> {
    value.as_object().ok_or_else(|| shape(field, "an object"))
}

fn required(object: &Map<String, Value>, key: &str, field: &str) -> Result<String, EventError> {
    let value = object.get(key).ok_or_else(|| missing(field))?;
    let text = value.as_str().filter(|text| !text.trim().is_empty()).ok_or_else(|| shape(field, "text"))?;
    if text.chars().count() > NAME_CHARS_MAX {
        return Err(shape(field, "at most 2 048 characters"));
    }
    Ok(text.to_owned())
}

fn time(text: &str, field: &str) -> Result<i64, EventError> {
    let parsed = DateTime::parse_from_rfc3339(text);
    parsed
        .map(|time| time.timestamp_micros())
        .map_err(|_| shape(field, "a time with its zone, as 2026-01-31T12:00:00Z"))
}

fn state(event: &Map<String, Value>) -> Result<RunState, EventError> {
    let Some(value) = event.get("eventType") else { return Ok(RunState::Other) };
    match value.as_str() {
        Some("START") => Ok(RunState::Start),
        Some("RUNNING") => Ok(RunState::Running),
        Some("COMPLETE") => Ok(RunState::Complete),
        Some("ABORT") => Ok(RunState::Abort),
        Some("FAIL") => Ok(RunState::Fail),
        Some("OTHER") => Ok(RunState::Other),
        _ => Err(shape("eventType", "START, RUNNING, COMPLETE, ABORT, FAIL or OTHER")),
    }
}

fn run_id(text: &str) -> Result<String, EventError> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    if lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(shape("run.runId", "a UUID, as 01941f29-7c00-7087-8940-42b2dbd2b4ea"))
}

fn schema_url(event: &Map<String, Value>) -> Result<String, EventError> {
    let url = required(event, "schemaURL", "schemaURL")?;
    if url.contains("OpenLineage.json") {
        return Ok(url);
    }
    Err(shape("schemaURL", "the address of OpenLineage.json of a version of the specification"))
}

fn datasets(event: &Map<String, Value>, side: &str, left_out: &mut Vec<String>) -> Result<Vec<Dataset>, EventError> {
    let Some(value) = event.get(side) else { return Ok(Vec::new()) };
    let rows = value.as_array().ok_or_else(|| shape(side, "a list"))?;
    if rows.len() > DATASETS_MAX {
        return Err(shape(side, "at most 1 000 data sets"));
    }
    let read = |(index, row): (usize, &Value)| dataset(row, side, &format!("{side}[{index}]"), left_out);
    rows.iter().enumerate().map(read).collect()
}

fn dataset(row: &Value, side: &str, field: &str, left_out: &mut Vec<String>) -> Result<Dataset, EventError> {
    let row = object(row, field)?;
    let facets = Facets::new(row, side, left_out)?;
    let (key, own) =
        if side == "inputs" { ("inputFacets", "inputStatistics") } else { ("outputFacets", "outputStatistics") };
    let statistics = Facets::under(row, key, side, left_out)?;
    let quality = "dataQualityMetrics";
    let number = |name: &str, left_out: &mut Vec<String>| {
        statistics.number(own, name, left_out).or_else(|| statistics.number(quality, name, left_out))
    };
    let row_count = number("rowCount", left_out);
    let size_bytes = statistics.number(own, "size", left_out).or_else(|| statistics.number(quality, "bytes", left_out));
    let assertions_failed = statistics.list("dataQualityAssertions", "assertions", left_out).map(|assertions| {
        let failed = |one: &&Value| one.get("success").and_then(Value::as_bool) == Some(false);
        (assertions.iter().filter(failed).count(), assertions.len())
    });
    statistics.rest(&[own, quality, "dataQualityAssertions"], left_out);
    let name_and_type = |one: &Value| {
        let name = one.get("name")?.as_str()?;
        Some(one.get("type").and_then(Value::as_str).map_or(name.to_owned(), |kind| format!("{name} {kind}")))
    };
    let pair = |one: &Value| Some((one.get("key")?.as_str()?.to_owned(), one.get("value")?.as_str()?.to_owned()));
    let fields = facets.list("schema", "fields", left_out).map(|all| all.iter().filter_map(name_and_type).collect());
    let tags = facets.list("tags", "tags", left_out).map(|all| all.iter().filter_map(pair).collect());
    let version = facets.text("version", "datasetVersion", left_out);
    facets.rest(&["schema", "tags", "version"], left_out);
    Ok(Dataset {
        namespace: required(row, "namespace", &format!("{field}.namespace"))?,
        name: required(row, "name", &format!("{field}.name"))?,
        version,
        fields: fields.unwrap_or_default(),
        row_count,
        size_bytes,
        tags: tags.unwrap_or_default(),
        assertions_failed,
    })
}

/// Facets of one run, job or data set. A field of an odd shape is noted, not refused.
struct Facets<'a> {
    facets: Option<&'a Map<String, Value>>,
    place: &'a str,
}

impl<'a> Facets<'a> {
    fn new(parent: &'a Map<String, Value>, place: &'a str, left_out: &mut Vec<String>) -> Result<Self, EventError> {
        Self::under(parent, "facets", place, left_out)
    }

    fn under(
        parent: &'a Map<String, Value>,
        key: &str,
        place: &'a str,
        left_out: &mut Vec<String>,
    ) -> Result<Self, EventError> {
        let facets = match parent.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Object(facets)) => Some(facets),
            Some(_) => return Err(shape(&format!("{place}.{key}"), "an object")),
        };
        // A facet with this mark takes back what an event before said.
        let deleted = |value: &Value| value.get("_deleted").and_then(Value::as_bool) == Some(true);
        left_out.extend(
            facets.into_iter().flatten().filter(|(_, value)| deleted(value)).map(|(name, _)| format!("{place}.{name}")),
        );
        Ok(Self { facets, place })
    }

    fn value(&self, facet: &str, key: &str) -> Option<&'a Value> {
        self.facets?.get(facet)?.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(&self, facet: &str, found: Option<&Value>, value: Option<T>, left_out: &mut Vec<String>) -> Option<T> {
        if found.is_some() && value.is_none() {
            left_out.push(format!("{}.{facet}", self.place));
        }
        value
    }

    fn text(&self, facet: &str, key: &str, left_out: &mut Vec<String>) -> Option<String> {
        let found = self.value(facet, key);
        self.typed(facet, found, found.and_then(Value::as_str).map(str::to_owned), left_out)
    }

    fn text_below(&self, facet: &str, key: &str, below: &str, left_out: &mut Vec<String>) -> Option<String> {
        let found = self.value(facet, key);
        let text = found.and_then(|value| value.get(below)).and_then(Value::as_str).map(str::to_owned);
        self.typed(facet, found, text, left_out)
    }

    fn number(&self, facet: &str, key: &str, left_out: &mut Vec<String>) -> Option<u64> {
        let found = self.value(facet, key);
        self.typed(facet, found, found.and_then(Value::as_u64), left_out)
    }

    fn list(&self, facet: &str, key: &str, left_out: &mut Vec<String>) -> Option<&'a Vec<Value>> {
        let found = self.value(facet, key);
        self.typed(facet, found, found.and_then(Value::as_array), left_out)
    }

    fn rest(&self, kept: &[&str], left_out: &mut Vec<String>) {
        let names = self.facets.into_iter().flat_map(|facets| facets.keys());
        left_out
            .extend(names.filter(|name| !kept.contains(&name.as_str())).map(|name| format!("{}.{name}", self.place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Value {
        json!({
            "eventType": "COMPLETE", "eventTime": "2026-01-31T13:00:00.25+01:00",
            "producer": "https://example.org/pipeline/1.2",
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": "01941F29-7c00-7087-8940-42b2dbd2b4ea", "facets": {
                "nominalTime": {"nominalStartTime": "2026-01-31T00:00:00Z"},
                "parent": {"run": {"runId": "p1"}, "job": {"namespace": "n", "name": "j"}},
                "spark_properties": {"x": 1}}},
            "job": {"namespace": "training", "name": "fit", "facets": {"sourceCodeLocation": {"type": "git", "version": "c0ffee"}}},
            "inputs": [{"namespace": "s3://data", "name": "train_data_202408_resnet",
                "facets": {"version": {"datasetVersion": "md5:22a1"},
                           "schema": {"fields": [{"name": "image", "type": "bytes"}, {"name": "label"}]}},
                "inputFacets": {"dataQualityMetrics": {"rowCount": 9000, "bytes": 47},
                                "dataQualityAssertions": {"assertions": [
                                    {"assertion": "not_null", "success": true}, {"assertion": "unique", "success": false}]}}}],
            "outputs": [{"namespace": "mlflow", "name": "resnet18",
                "facets": {"version": {"datasetVersion": "12"}, "tags": {"tags": [{"key": "stage", "value": "prod"}]}},
                "outputFacets": {"outputStatistics": {"rowCount": 1, "size": 46800000}}}],
        })
    }

    fn check_refused(change: impl FnOnce(&mut Value), expected: &str) {
        let mut event = event();
        change(&mut event);
        let error = read_event(event.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn an_event_tells_run_job_data_and_code() {
        let read = read_event(event().to_string().as_bytes()).unwrap();
        assert_eq!((read.time_us, read.state), (1_769_860_800_250_000, RunState::Complete));
        assert_eq!(read.run_id, "01941f29-7c00-7087-8940-42b2dbd2b4ea");
        assert_eq!((read.parent_run_id.as_deref(), read.code_version.as_deref()), (Some("p1"), Some("c0ffee")));
        assert_eq!(read.nominal_start_us, Some(1_769_817_600_000_000));
        let input = &read.inputs[0];
        assert_eq!(
            (input.version.as_deref(), input.row_count, input.size_bytes),
            (Some("md5:22a1"), Some(9_000), Some(47))
        );
        assert_eq!((input.fields.join(","), input.assertions_failed), ("image bytes,label".to_owned(), Some((1, 2))));
        let output = &read.outputs[0];
        assert_eq!((output.version.as_deref(), output.size_bytes), (Some("12"), Some(46_800_000)));
        assert_eq!(output.tags, [("stage".to_owned(), "prod".to_owned())]);
        assert_eq!(read.facets_left_out, ["run.spark_properties"]);
    }

    #[test]
    fn a_bad_event_is_refused_with_the_place() {
        check_refused(|event| event["eventType"] = json!("DONE"), "eventType: expected START");
        check_refused(|event| event["eventTime"] = json!("2026-01-31"), "eventTime: expected a time with its zone");
        check_refused(|event| event["run"]["runId"] = json!("7"), "run.runId: expected a UUID");
        check_refused(|event| event["inputs"][0]["name"] = json!(""), "inputs[0].name: expected text");
        check_refused(|event| event["outputs"] = json!({}), "outputs: expected a list");
        check_refused(|event| event["schemaURL"] = json!("https://example.org"), "schemaURL: expected the address");
        check_refused(|event| drop(event.as_object_mut().unwrap().remove("producer")), "producer is missing");
        check_refused(|event| drop(event.as_object_mut().unwrap().remove("run")), "no run in the event");
        check_refused(|event| event["job"]["name"] = json!("x".repeat(3_000)), "at most 2 048 characters");
        assert!(matches!(read_event(b"{"), Err(EventError::NotJson { .. })));
        assert!(matches!(read_event(&vec![b' '; EVENT_BYTES_MAX + 1]), Err(EventError::TooLarge { .. })));
    }

    #[test]
    fn an_odd_facet_is_named_and_the_run_is_kept() {
        let mut event = event();
        event["inputs"][0]["inputFacets"]["dataQualityMetrics"]["rowCount"] = json!("many");
        event["job"]["facets"]["sourceCodeLocation"]["version"] = json!(7);
        let read = read_event(event.to_string().as_bytes()).unwrap();
        assert_eq!((read.inputs[0].row_count, read.code_version), (None, None));
        let expected = ["inputs.dataQualityMetrics", "job.sourceCodeLocation", "run.spark_properties"];
        assert_eq!(read.facets_left_out, expected);
    }
}
