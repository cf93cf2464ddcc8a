//! Tests of the whole workspace, in one binary so that it is linked once.

// `cfg(test)` tells clippy that helpers in here may unwrap, as the tests may.
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod bad_grpc;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod buffer;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod counters;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_ledger;
#[cfg(test)]
mod crash_matrix;
#[cfg(test)]
mod crash_tables;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod delta;
#[cfg(test)]
mod delta_histograms;
#[cfg(test)]
mod diagnose;
#[cfg(test)]
mod doubtful_values;
#[cfg(test)]
mod drift;
#[cfg(test)]
mod drift_bad_input;
#[cfg(test)]
mod drift_states;
#[cfg(test)]
mod exporter;
#[cfg(test)]
mod failing_disk;
#[cfg(test)]
mod flight;
#[cfg(test)]
mod flight_access;
#[cfg(test)]
mod flight_metadata;
#[cfg(test)]
mod gate_watch;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod golden_sql;
#[cfg(test)]
mod grafana_postgres;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod hand_runs;
#[cfg(test)]
mod import;
#[cfg(test)]
mod inlets;
#[cfg(test)]
mod large_files;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod lineage_events;
#[cfg(test)]
mod lineage_sources;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod memory;
#[cfg(test)]
#[cfg(unix)]
mod mlflow;
#[cfg(test)]
mod object_storage;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod points;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod recommend;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod remote_write;
#[cfg(test)]
mod remote_write_rules;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod scrape;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod sdk_instruments;
#[cfg(test)]
mod server;
#[cfg(test)]
mod smtp;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod soak;
#[cfg(test)]
mod stream_gates;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod version_card;
#[cfg(test)]
mod weekly_report;
#[cfg(test)]
mod write_request;
