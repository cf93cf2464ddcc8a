//! Tests of the whole workspace, in one binary so that it is linked once.

// `cfg(test)` tells clippy that helpers in here may unwrap, as the tests may.
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod delta;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod server;
