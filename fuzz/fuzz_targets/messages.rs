//! libFuzzer's entry to the target of the same name.
#![no_main]

#[path = "../../bgpd/core/tests/fuzz/messages.rs"]
mod messages;

libfuzzer_sys::fuzz_target!(|data: &[u8]| messages::run(data));
