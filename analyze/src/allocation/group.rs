//! The bill by a label.

use std::collections::BTreeMap;

use super::{Line, Resource};
use crate::{
    money::{Money, round_parts},
    price_book::Cost,
};

/// Name of the group of lines that have no such label.
pub const UNALLOCATED: &str = "(unallocated)";

/// The lines with one value of a label.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// The value, or [`UNALLOCATED`].
    pub name: String,
    /// Cost of all its lines.
    pub cost: Cost,
    /// GPU-hours allocated, vCPU-hours and GB-hours, idle ones included.
    pub hours: BTreeMap<Resource, f64>,
}

/// Groups `lines` by the label `dimension`, by name, with [`UNALLOCATED`] last and always there; the costs sum to those
/// of the lines.
pub fn group_by(lines: &[Line], dimension: &str) -> Vec<Group> {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    let mut unallocated = Group { name: UNALLOCATED.to_owned(), ..Group::default() };
    for line in lines {
        // An empty label says nothing.
        let group = match line.labels.get(dimension).filter(|value| !value.is_empty()) {
            Some(value) => groups.entry(value).or_insert_with(|| Group { name: value.clone(), ..Group::default() }),
            None => &mut unallocated,
        };
        group.cost += line.cost;
        if let Some(resource) = line.resource {
            *group.hours.entry(resource).or_default() += line.hours;
        }
    }
    groups.into_values().chain([unallocated]).collect()
}

/// What each group pays, rounded to `digits` decimals so that the rounded costs sum to the rounded bill; none where a
/// part of a group has no price.
pub fn round_groups(groups: &[Group], digits: u32) -> Vec<Option<Money>> {
    let paid: Vec<Money> = groups.iter().map(|group| group.cost.effective).collect();
    let rounded = round_parts(&paid, digits);
    groups.iter().zip(rounded).map(|(group, rounded)| group.cost.total().map(|_| rounded)).collect()
}
