//! Any bytes as a native entry: no panic, nothing lost, and what is written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::format;
use modsec_core_fuzz::check_native;

fuzz_target!(|bytes: &[u8]| {
    if format::detect(bytes).is_some() && !bytes.starts_with(b"--") {
        // JSON has a target of its own.
        return;
    }
    check_native(bytes);
});
