//! OTLP over gRPC and HTTP, decoded to columnar batches.
