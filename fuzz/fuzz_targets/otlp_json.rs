#![no_main]

use std::sync::LazyLock;

use driftwatt_ingest::{Config, Decoder, fuzzing};
use libfuzzer_sys::fuzz_target;

static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(&Config::default()));

fuzz_target!(|bytes: &[u8]| {
    fuzzing::json(&DECODER, bytes);
});
