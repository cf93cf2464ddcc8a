//! Jobs: weekly report, idle examination, drift.
