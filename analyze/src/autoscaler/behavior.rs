//! What time allows: stabilisation windows, policies and bounds.

use super::{Behavior, ControllerSettings, HpaSpec, Policy, PolicyUnit, Reason, ScalingRules, SelectPolicy};

/// Without a behavior at most this many times the replicas are set at once,
const UP_FACTOR: i64 = 2;
/// but as many as this always.
const UP_MIN: i64 = 4;

/// What an autoscaler remembers.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Proposals before windows and policies, with their times.
    proposals: Vec<(f64, i64)>,
    /// Replicas added, with their times.
    added: Vec<(f64, i64)>,
    /// Replicas removed, with their times.
    removed: Vec<(f64, i64)>,
}

/// Replicas that are allowed.
pub(super) struct Limited {
    /// Replicas.
    pub(super) replicas: u32,
    /// What limited them.
    pub(super) reason: Reason,
}

impl History {
    /// The replicas that the autoscaler finds count as its first proposal.
    pub(super) fn start(&mut self, time_s: f64, current: u32) {
        if self.proposals.is_empty() {
            self.proposals.push((time_s, i64::from(current)));
        }
    }

    /// Notes a change for the periods of the policies.
    pub(super) fn record_change(&mut self, time_s: f64, from: u32, to: u32, behavior: &Behavior) {
        let (events, rules) =
            if to > from { (&mut self.added, &behavior.scale_up) } else { (&mut self.removed, &behavior.scale_down) };
        let longest_s = rules.policies.iter().map(|policy| policy.period_s).max().unwrap_or(0);
        let change = i64::from(to.abs_diff(from));
        replace_old(events, (time_s, change), |at_s| at_s < time_s - f64::from(longest_s));
    }

    /// `proposed` within windows, policies and bounds.
    pub(super) fn limit(
        &mut self,
        time_s: f64,
        current: u32,
        proposed: u32,
        spec: &HpaSpec,
        behavior: &Behavior,
    ) -> Limited {
        let (current, proposed) = (i64::from(current), i64::from(proposed));
        let stable = self.stabilize(time_s, current, proposed, behavior);
        let (min, max) = (i64::from(spec.min_replicas), i64::from(spec.max_replicas));
        let (replicas, limit) = if stable > current {
            let policies = self.allowed_up(time_s, current, &behavior.scale_up).max(current);
            let limit = if max > policies { Reason::ScaleUpLimit } else { Reason::TooManyReplicas };
            (stable.min(max.min(policies)), limit)
        } else if stable < current {
            let policies = self.allowed_down(time_s, current, &behavior.scale_down).min(current);
            let limit = if min < policies { Reason::ScaleDownLimit } else { Reason::TooFewReplicas };
            (stable.max(min.max(policies)), limit)
        } else {
            (stable, Reason::DesiredWithinRange)
        };
        let reason = if replicas != stable {
            limit
        } else if stable == proposed {
            Reason::DesiredWithinRange
        } else if proposed >= current {
            Reason::ScaleUpStabilized
        } else {
            Reason::ScaleDownStabilized
        };
        Limited { replicas: replicas as u32, reason }
    }

    /// The controller's own rules: a window down, `max(4, twice)` up.
    pub(super) fn limit_without_behavior(
        &mut self,
        time_s: f64,
        current: u32,
        proposed: u32,
        spec: &HpaSpec,
        settings: &ControllerSettings,
    ) -> Limited {
        let (current, proposed) = (i64::from(current), i64::from(proposed));
        let from_s = time_s - settings.downscale_stabilization_s;
        // Unlike the windows of a behavior, this one holds a proposal that is exactly as old as it is long.
        let recent = self.proposals.iter().filter(|(at_s, _)| *at_s >= from_s).map(|(_, replicas)| *replicas);
        let stable = recent.fold(proposed, i64::max);
        replace_old(&mut self.proposals, (time_s, proposed), |at_s| at_s < from_s);
        let doubled = (UP_FACTOR * current).max(UP_MIN);
        let (min, max) = (i64::from(spec.min_replicas), i64::from(spec.max_replicas));
        let (replicas, reason) = if stable < min {
            (min, Reason::TooFewReplicas)
        } else if stable > max.min(doubled) {
            (max.min(doubled), if max > doubled { Reason::ScaleUpLimit } else { Reason::TooManyReplicas })
        } else if stable == proposed {
            (stable, Reason::DesiredWithinRange)
        } else {
            (stable, Reason::ScaleDownStabilized)
        };
        Limited { replicas: replicas as u32, reason }
    }

    /// `current` moved no further than the least proposal of the window up and the largest of the window down.
    fn stabilize(&mut self, time_s: f64, current: i64, proposed: i64, behavior: &Behavior) -> i64 {
        let up_from_s = time_s - f64::from(behavior.scale_up.stabilization_window_s);
        let down_from_s = time_s - f64::from(behavior.scale_down.stabilization_window_s);
        let (mut least, mut largest) = (proposed, proposed);
        for (at_s, replicas) in &self.proposals {
            if *at_s > up_from_s {
                least = least.min(*replicas);
            }
            if *at_s > down_from_s {
                largest = largest.max(*replicas);
            }
        }
        replace_old(&mut self.proposals, (time_s, proposed), |at_s| at_s < up_from_s && at_s < down_from_s);
        current.max(least).min(largest)
    }

    fn allowed_up(&self, time_s: f64, current: i64, rules: &ScalingRules) -> i64 {
        let allowed = rules.policies.iter().map(|policy| {
            let start = self.at_period_start(time_s, current, policy);
            match policy.unit {
                PolicyUnit::Pods => start + i64::from(policy.value),
                PolicyUnit::Percent => (start as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64,
            }
        });
        let allowed = match rules.select_policy {
            SelectPolicy::Max => allowed.max(),
            SelectPolicy::Min => allowed.min(),
            SelectPolicy::Disabled => None,
        };
        allowed.unwrap_or(current)
    }

    fn allowed_down(&self, time_s: f64, current: i64, rules: &ScalingRules) -> i64 {
        let allowed = rules.policies.iter().map(|policy| {
            let start = self.at_period_start(time_s, current, policy);
            match policy.unit {
                PolicyUnit::Pods => start - i64::from(policy.value),
                PolicyUnit::Percent => (start as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64,
            }
        });
        // The largest change is the smallest number of replicas.
        let allowed = match rules.select_policy {
            SelectPolicy::Max => allowed.min(),
            SelectPolicy::Min => allowed.max(),
            SelectPolicy::Disabled => None,
        };
        allowed.unwrap_or(current)
    }

    fn at_period_start(&self, time_s: f64, current: i64, policy: &Policy) -> i64 {
        let from_s = time_s - f64::from(policy.period_s);
        let within = |events: &[(f64, i64)]| -> i64 {
            events.iter().filter(|(at_s, _)| *at_s > from_s).map(|(_, change)| change).sum()
        };
        current - within(&self.added) + within(&self.removed)
    }
}

/// Puts `new` in the place of the last entry that is old, so that memory stays as small as the windows.
fn replace_old(entries: &mut Vec<(f64, i64)>, new: (f64, i64), is_old: impl Fn(f64) -> bool) {
    match entries.iter().rposition(|(at_s, _)| is_old(*at_s)) {
        Some(index) => entries[index] = new,
        None => entries.push(new),
    }
}
