//! A configuration file is read, in both syntaxes, or refused; rewritten, it says the same.
#![no_main]

use ferrokit_server::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for name in ["redis.conf", "server.toml"] {
        let settings = Settings::default();
        if settings.read(name, text).is_err() {
            continue;
        }
        // A password need not be UTF-8, and TOML cannot hold it then.
        let Ok(rewritten) = settings.rewritten(name, text) else { continue };
        let again = Settings::default();
        again.read(name, &rewritten).expect("what was written is read");
        assert_eq!(again.all(), settings.all(), "{rewritten:?}");
    }
});
