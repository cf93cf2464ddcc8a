//! False alarms, power and real traffic: a short run of `examples/drift_calibration.rs`, whose tables are in `docs/drift.md`.

/// What the trials use, by one path in the example and in the tests.
mod decision_api {
    pub(crate) use super::super::{
        comparison::{ColumnOptions, Comparison},
        decision::{Decision, Evidence, Gate, Level, Status, Thresholds, decide, leave_one_out_psi},
        feature_state::{ExplicitPoint, FeatureState},
        numeric::reference_cuts,
        sort::sort_values,
        statistics::bin_counts,
    };
}
#[path = "../../examples/drift_calibration/trials.rs"]
mod trials;

use trials::{Basis, Trace};

#[test]
fn unchanged_pairs_seldom_alarm() {
    for n in [200, 1_000] {
        let share = trials::unchanged(n, 300);
        assert!(share.alarm <= 0.01, "n {n}: {share:?}");
    }
}

#[test]
fn half_a_deviation_is_found() {
    let share = trials::shifted(1_000, 0.5, 100);
    assert!(share.alarm >= 0.95, "{share:?}");
}

#[test]
fn one_outlier_hides_nothing() {
    for outlier in [None, Some(1e4), Some(1e6)] {
        let scores = trials::outlier(outlier);
        assert!(scores.psi > 5.0 && scores.ks > 0.8 && scores.wasserstein_scaled > 2.0, "{outlier:?}: {scores:?}");
        assert_eq!(scores.status, super::decision::Status::Critical);
    }
}

#[test]
fn code_is_not_chat() {
    let trace = Trace::read();
    for column in [0, 1] {
        for basis in Basis::ALL {
            assert_eq!(
                trials::code_against_chat(&trace, column, basis),
                super::decision::Status::Critical,
                "{column} {basis:?}"
            );
        }
    }
}

#[test]
fn replays_are_quiet_and_a_mix_is_not() {
    let trace = Trace::read();
    for service in [0, 1] {
        for column in [0, 1] {
            for basis in Basis::ALL {
                let replay = trials::replay(&trace, service, column, basis, 0.0, 6);
                let mixed = trials::replay(&trace, service, column, basis, 0.6, 6);
                assert!(replay.alarm <= 0.02, "{service} {column} {basis:?}: {replay:?}");
                assert!(mixed.alarm >= 0.95, "{service} {column} {basis:?}: {mixed:?}");
            }
        }
    }
}
