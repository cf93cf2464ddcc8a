//! The driftwatt binary.
fn main() {}
