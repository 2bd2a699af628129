//! libFuzzer's entry to the target of the same name.
#![no_main]

#[path = "../../bgpd/core/tests/fuzz/sessions.rs"]
mod sessions;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sessions::run(data));
