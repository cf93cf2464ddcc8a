//! Tests of the whole workspace, in one binary so that it is linked once.

// `cfg(test)` tells clippy that helpers in here may unwrap, as the tests may.
#[cfg(test)]
mod architecture;
