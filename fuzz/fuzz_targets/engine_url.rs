//! A URL is parsed and its options taken, generally and by the LSM engine, or refused.
#![no_main]

use ferrokit_engine::EngineUrl;
use ferrokit_lsm::LsmConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(url) = EngineUrl::parse(text) else { return };
    assert!(!url.engine().is_empty(), "an engine without a name");
    assert!(!url.path().contains('\0'), "a path no system call can take");
    let _ = LsmConfig::from_url(&url.clone());
    let _ = url.take_number("n");
    let _ = url.take_bytes("b");
    let _ = url.take_duration("d");
    let _ = url.take_bool("f");
    let _ = url.take_choice("c", &[("one", 1), ("two", 2)]);
    for option in ["n", "b", "d", "f", "c"] {
        assert_eq!(url.take(option), None, "an option is taken once");
    }
    let _ = url.finish();
});
