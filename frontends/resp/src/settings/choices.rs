//! The alternatives of parameters that are one of a few names, in the order Redis names them.

use ferrokit_redis::EvictionPolicy;

use super::cell::Alternatives;
use crate::config::AppendFsync;

/// Declares an enumeration with the names of its values.
macro_rules! alternatives {
    ($($(#[$attribute:meta])* $name:ident { $($(#[$note:meta])* $value:ident = $text:literal,)+ })+) => {
        $(
            $(#[$attribute])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub(crate) enum $name { $($(#[$note])* $value,)+ }

            impl Alternatives for $name {
                const ALL: &'static [Self] = &[$(Self::$value,)+];
                const NAMES: &'static [&'static str] = &[$($text,)+];
            }
        )+
    };
}

impl Alternatives for AppendFsync {
    const ALL: &'static [Self] = &[Self::EverySecond, Self::Always, Self::No];
    const NAMES: &'static [&'static str] = &["everysec", "always", "no"];
}

impl Alternatives for EvictionPolicy {
    const ALL: &'static [Self] = &[
        Self::VolatileLru,
        Self::VolatileLfu,
        Self::VolatileRandom,
        Self::VolatileTtl,
        Self::AllKeysLru,
        Self::AllKeysLfu,
        Self::AllKeysRandom,
        Self::NoEviction,
    ];
    const NAMES: &'static [&'static str] = &[
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ];
}

alternatives! {
    /// `loglevel`.
    LogLevel {
        Debug = "debug",
        Verbose = "verbose",
        Notice = "notice",
        Warning = "warning",
        Nothing = "nothing",
    }
    /// `log-format`.
    LogFormat {
        Text = "text",
        Json = "json",
    }
    /// `io`: how files are reached.
    Io {
        Auto = "auto",
        Uring = "uring",
        Threads = "threads",
    }
    /// `supervised`: whether systemd is told of readiness.
    Supervised {
        /// If it asks for it.
        Auto = "auto",
        Systemd = "systemd",
        No = "no",
    }
    /// Who may use what can do harm: `enable-debug-command`, `enable-protected-configs`.
    Access {
        No = "no",
        Yes = "yes",
        /// Connections from this machine.
        Local = "local",
    }
}
