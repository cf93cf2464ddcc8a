//! Requests with flipped, cut, repeated and spliced bytes: an error, or a batch that can be stored.

use driftwatt_store::fuzzing::mutated;
use prost::Message as _;

use super::tests::{decoder, every_kind};
use crate::{config::Limits, fuzzing};

const CASES: u32 = 10_000;

fn count(corpus: &[Vec<u8>], run: impl Fn(&[u8]) -> bool) -> u32 {
    let mut state = 0x5eed;
    (0..CASES).map(|_| u32::from(run(&mutated(&mut state, corpus)))).sum()
}

#[test]
fn mutated_protobuf_is_refused_or_can_be_stored() {
    let decoder = decoder(Limits::default());
    let whole = every_kind().encode_to_vec();
    let half = every_kind().resource_metrics[0].scope_metrics[0].encode_to_vec();
    assert!(fuzzing::protobuf(&decoder, &whole));
    let accepted = count(&[whole, half], |bytes| fuzzing::protobuf(&decoder, bytes));
    assert!(accepted > CASES / 50 && accepted < CASES, "{accepted} accepted: the mutations say little");
}

#[test]
fn mutated_json_is_refused_or_can_be_stored() {
    let decoder = decoder(Limits::default());
    let whole = include_bytes!("testdata/every_kind.json").to_vec();
    assert!(fuzzing::json(&decoder, &whole));
    let accepted = count(&[whole], |bytes| fuzzing::json(&decoder, bytes));
    assert!(accepted > CASES / 50 && accepted < CASES, "{accepted} accepted: the mutations say little");
}
