#![no_main]

use std::sync::LazyLock;

use driftwatt_ingest::{Config, Decoder, fuzzing};
use libfuzzer_sys::fuzz_target;

static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(&Config::default()));

fuzz_target!(|input: (bool, &[u8])| {
    let (second, bytes) = input;
    fuzzing::remote_write(&DECODER, bytes, second);
});
