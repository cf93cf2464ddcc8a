//! Tests of the whole workspace, in one binary so that it is linked once.

mod architecture;
