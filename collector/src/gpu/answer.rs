//! One sample as one line of JSON, the answer of the reading process.
//!
//! Values travel as text: the shortest decimal that reads back as the same bits, which JSON numbers do not promise.

use opentelemetry::{KeyValue, Value as AttributeValue};
use serde::{Deserialize, Serialize};

use super::value::{ERROR_TYPES, READINGS};
use crate::{
    catalog::CATALOG,
    reading::{Failure, Reading, Sample},
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    readings: Vec<Value>,
    failures: Vec<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    metric: String,
    value: String,
    attributes: Vec<(String, Attribute)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Attribute {
    Integer(i64),
    Text(String),
}

impl From<&AttributeValue> for Attribute {
    fn from(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::I64(number) => Self::Integer(*number),
            value => Self::Text(value.to_string()),
        }
    }
}

impl From<Attribute> for AttributeValue {
    fn from(attribute: Attribute) -> Self {
        match attribute {
            Attribute::Integer(number) => number.into(),
            Attribute::Text(text) => text.into(),
        }
    }
}

/// The sample as a line with its end.
pub(super) fn encode(sample: &Sample) -> serde_json::Result<String> {
    let value = |reading: &Reading| Value {
        metric: reading.metric.to_owned(),
        value: reading.value.to_string(),
        attributes: reading.attributes.iter().map(|a| (a.key.to_string(), (&a.value).into())).collect(),
    };
    let failure = |failure: &Failure| (failure.reading.to_owned(), failure.error_type.to_owned());
    let answer = Answer {
        readings: sample.readings.iter().map(value).collect(),
        failures: sample.failures.iter().map(failure).collect(),
    };
    Ok(serde_json::to_string(&answer)? + "\n")
}

/// The sample, or `None` if the line is no answer or has a name that is not in our lists.
pub(super) fn decode(line: &str) -> Option<Sample> {
    let answer: Answer = serde_json::from_str(line).ok()?;
    let readings = answer.readings.into_iter().map(Value::reading).collect::<Option<_>>()?;
    let failure = |(reading, error_type): (String, String)| {
        let metric = CATALOG.iter().map(|metric| metric.name).find(|name| *name == reading);
        let reading = metric.or_else(|| READINGS.into_iter().find(|name| *name == reading))?;
        let error_type = ERROR_TYPES.into_iter().find(|name| *name == error_type)?;
        Some(Failure { reading, error_type })
    };
    let failures = answer.failures.into_iter().map(failure).collect::<Option<_>>()?;
    Some(Sample { readings, failures, ..Sample::default() })
}

impl Value {
    fn reading(self) -> Option<Reading> {
        let metric = CATALOG.iter().find(|metric| metric.name == self.metric)?.name;
        let value = self.value.parse::<f64>().ok().filter(|value| value.is_finite())?;
        let attributes = self.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
        Some(Reading { metric, value, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_reads_back_bit_by_bit() {
        let mut sample = Sample::default();
        let gpu = [
            KeyValue::new("hw.id", "GPU-\"1\"\n"),
            KeyValue::new("process.pid", 4242_i64),
            KeyValue::new("driftwatt.gpu.mig.id", "7"),
        ];
        for value in [0.1 + 0.2, 1e300, 5e-324, 85_520_809_984.0, 0.0] {
            sample.push("hw.power", value, &gpu);
        }
        sample.fail("hw.energy", "not_supported");
        sample.fail("device", "gpu_lost");
        let line = encode(&sample).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
        let read = decode(&line).unwrap();
        for (read, written) in read.readings.iter().zip(&sample.readings) {
            assert_eq!((read.metric, read.value.to_bits()), (written.metric, written.value.to_bits()));
            assert_eq!(read.attributes, written.attributes);
        }
        assert_eq!(read.readings.len(), sample.readings.len());
        assert_eq!(read.failures, sample.failures);
    }

    #[test]
    fn a_line_of_other_things_is_refused_whole() {
        for line in [
            "",
            "NVML: warning\n",
            r#"{"readings":[{"metric":"hw.power","value":"NaN","attributes":[]}],"failures":[]}"#,
            r#"{"readings":[{"metric":"hw.unknown","value":"1","attributes":[]}],"failures":[]}"#,
            r#"{"readings":[],"failures":[["hw.power","because"]]}"#,
            r#"{"readings":[],"failures":[]"#,
        ] {
            assert!(decode(line).is_none(), "{line}");
        }
    }
}
