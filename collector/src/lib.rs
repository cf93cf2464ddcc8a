//! Edge collector: host and GPU metrics over OTLP.
