//! Events of our own jobs, so that a report can be traced to the tables and the code that made it.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::RUN_EVENT_SCHEMA_URL;
use super::received::{Dataset, RunState};

/// One run of a job of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    /// UUID that all events of the run share.
    pub run_id: String,
    /// Namespace of our jobs, as in `driftwatt://production`.
    pub namespace: String,
    /// Name of the job, as in `weekly_report`.
    pub job: String,
    /// URI of this program at its version.
    pub producer: String,
    /// The time that the run was meant for, UTC microseconds; none where nothing but a person set it off.
    pub nominal_us: Option<i64>,
    /// Tables read.
    pub inputs: Vec<Dataset>,
    /// Tables or files written.
    pub outputs: Vec<Dataset>,
}

/// A UUID (RFC 9562, version 8) that is the same for the same `name`.
pub fn run_uuid(name: &str) -> String {
    let mut bytes = xxh3_128(name.as_bytes()).to_be_bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The event that `run` is in `state` since `time_us`, UTC microseconds; `error` belongs to a failed run.
///
/// `None` for a time that no calendar has. Of data sets, name, version, rows and bytes are told.
pub fn run_event(run: &JobRun, state: RunState, time_us: i64, error: Option<&str>) -> Option<Value> {
    let producer = &run.producer;
    let facet = |name: &str, schema: &str, mut fields: Value| {
        fields["_producer"] = producer.clone().into();
        fields["_schemaURL"] = format!("https://openlineage.io/spec/facets/{schema}").into();
        json!({ name: fields })
    };
    let mut run_facets = json!({});
    if let Some(nominal_us) = run.nominal_us {
        let fields = json!({"nominalStartTime": rfc3339(nominal_us)?});
        merge(&mut run_facets, facet("nominalTime", "1-0-1/NominalTimeRunFacet.json", fields));
    }
    let engine = json!({"name": "driftwatt", "version": env!("CARGO_PKG_VERSION")});
    merge(&mut run_facets, facet("processing_engine", "1-1-1/ProcessingEngineRunFacet.json", engine));
    if let Some(message) = error {
        let fields = json!({"message": message, "programmingLanguage": "Rust"});
        merge(&mut run_facets, facet("errorMessage", "1-0-1/ErrorMessageRunFacet.json", fields));
    }
    let dataset = |dataset: &Dataset, output: bool| {
        let mut row = json!({"namespace": dataset.namespace, "name": dataset.name});
        if let Some(version) = &dataset.version {
            let fields = json!({"datasetVersion": version});
            row["facets"] = facet("version", "1-0-1/DatasetVersionDatasetFacet.json", fields);
        }
        let (place, name, schema) = if output {
            ("outputFacets", "outputStatistics", "1-0-2/OutputStatisticsOutputDatasetFacet.json")
        } else {
            ("inputFacets", "inputStatistics", "1-0-0/InputStatisticsInputDatasetFacet.json")
        };
        let counts = [("rowCount", dataset.row_count), ("size", dataset.size_bytes)];
        let known: serde_json::Map<String, Value> =
            counts.into_iter().filter_map(|(key, count)| Some((key.to_owned(), count?.into()))).collect();
        if !known.is_empty() {
            row[place] = facet(name, schema, Value::Object(known));
        }
        row
    };
    let all = |datasets: &[Dataset], output: bool| datasets.iter().map(|one| dataset(one, output)).collect::<Vec<_>>();
    Some(json!({
        "eventType": state_name(state),
        "eventTime": rfc3339(time_us)?,
        "producer": producer,
        "schemaURL": RUN_EVENT_SCHEMA_URL,
        "run": {"runId": run.run_id, "facets": run_facets},
        "job": {"namespace": run.namespace, "name": run.job, "facets": facet("jobType", "2-0-3/JobTypeJobFacet.json", json!({
            "processingType": "BATCH", "integration": "DRIFTWATT", "jobType": "JOB",
        }))},
        "inputs": all(&run.inputs, false),
        "outputs": all(&run.outputs, true),
    }))
}

fn merge(facets: &mut Value, more: Value) {
    if let (Value::Object(facets), Value::Object(more)) = (facets, more) {
        facets.extend(more);
    }
}

fn rfc3339(time_us: i64) -> Option<String> {
    Some(DateTime::from_timestamp_micros(time_us)?.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Start => "START",
        RunState::Running => "RUNNING",
        RunState::Complete => "COMPLETE",
        RunState::Abort => "ABORT",
        RunState::Fail => "FAIL",
        RunState::Other => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_event;
    use super::*;

    fn run() -> JobRun {
        let table = |name: &str, version: Option<&str>| Dataset {
            namespace: "driftwatt://production".to_owned(),
            name: name.to_owned(),
            version: version.map(str::to_owned),
            row_count: Some(7),
            ..Dataset::default()
        };
        JobRun {
            run_id: "01941f29-7c00-7087-8940-42b2dbd2b4ea".to_owned(),
            namespace: "driftwatt://production".to_owned(),
            job: "weekly_report".to_owned(),
            producer: "https://example.org/driftwatt/0.1.0".to_owned(),
            nominal_us: Some(1_769_817_600_000_000),
            inputs: vec![table("gpu", Some("41"))],
            outputs: vec![table("reports", None)],
        }
    }

    #[test]
    fn our_own_events_are_read_back_as_any_other() {
        let event = run_event(&run(), RunState::Fail, 1_770_422_401_000_000, Some("no telemetry")).unwrap();
        let read = read_event(event.to_string().as_bytes()).unwrap();
        assert_eq!((read.state, read.time_us), (RunState::Fail, 1_770_422_401_000_000));
        assert_eq!((read.job_name.as_str(), read.error_message.as_deref()), ("weekly_report", Some("no telemetry")));
        assert_eq!(read.nominal_start_us, Some(1_769_817_600_000_000));
        assert_eq!((&read.inputs, &read.outputs), (&run().inputs, &run().outputs));
        assert_eq!(read.facets_left_out, ["job.jobType", "run.processing_engine"]);
        assert_eq!(read.schema_url, RUN_EVENT_SCHEMA_URL);
    }

    #[test]
    fn every_facet_names_its_producer_and_schema() {
        let event = run_event(&run(), RunState::Start, 1_770_422_401_000_000, None).unwrap();
        let facet = &event["run"]["facets"]["nominalTime"];
        assert!(facet["_producer"].as_str().unwrap().ends_with("/0.1.0"));
        assert!(facet["_schemaURL"].as_str().unwrap().ends_with("NominalTimeRunFacet.json"));
        assert_eq!(event["eventType"], "START");
        assert_eq!(run_event(&run(), RunState::Start, i64::MAX, None), None);
        let by_hand = run_event(&JobRun { nominal_us: None, ..run() }, RunState::Start, 1, None).unwrap();
        assert!(by_hand["run"]["facets"].get("nominalTime").is_none(), "{by_hand}");
        let uuid = run_uuid("weekly@2026");
        assert_eq!((uuid.len(), &uuid[14..15], uuid == run_uuid("weekly@2027")), (36, "8", false));
    }
}
