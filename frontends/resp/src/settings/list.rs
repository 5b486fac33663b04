//! [`List`]: parameters whose value is several words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ferrokit_redis::integer::parse_integer;

use super::cell::{Hint, Problem, Typed};

/// A value of several words.
pub(crate) trait ListValue: Sized + Send + Sync {
    const HINT: &'static str;
    fn parse(words: &[&[u8]]) -> Result<Self, Problem>;
    /// As CONFIG GET shows it: words with spaces between.
    fn show(&self) -> String;
}

/// The cell of such a value.
pub(crate) struct List<T>(ArcSwap<T>);

impl<T: ListValue> List<T> {
    pub(super) fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.0.load_full()
    }
}

impl<T: ListValue> Typed for List<T> {
    type Value = T;
    const IS_LIST: bool = true;

    fn parse(&self, words: &[&[u8]]) -> Result<T, Problem> {
        T::parse(words)
    }

    fn store(&self, value: T) {
        self.0.store(Arc::new(value));
    }

    fn text(&self) -> Vec<u8> {
        self.0.load().show().into_bytes()
    }

    fn value_hint(&self) -> Hint {
        Hint::Name(T::HINT)
    }
}

/// An address to listen on, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindAddress {
    pub(crate) address: IpAddr,
    /// Written with a minus: the machine need not have it.
    pub(crate) is_optional: bool,
    written: String,
}

/// `bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind(pub(crate) Vec<BindAddress>);

impl Bind {
    /// This machine alone.
    pub(super) fn local() -> Self {
        let words: [&[u8]; 2] = [b"127.0.0.1", b"-::1"];
        Self::parse(&words).unwrap_or(Self(Vec::new()))
    }
}

/// More addresses than a machine has.
const ADDRESSES_MAX: usize = 16;

impl ListValue for Bind {
    const HINT: &'static str = "ADDR";

    fn parse(words: &[&[u8]]) -> Result<Self, Problem> {
        if words.len() > ADDRESSES_MAX {
            return Err("Too many bind addresses specified.".into());
        }
        if let [b""] = words {
            return Ok(Self(Vec::new()));
        }
        let parsed = words.iter().map(|word| {
            let written = String::from_utf8_lossy(word).into_owned();
            let (is_optional, name) = match written.strip_prefix('-') {
                Some(name) => (true, name),
                None => (false, written.as_str()),
            };
            let address = match name {
                "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                name => name.parse().map_err(|_| {
                    Problem::from(format!("'{name}' is no IP address, nor '*' or '::*'"))
                })?,
            };
            Ok(BindAddress { address, is_optional, written })
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        let words: Vec<&str> = self.0.iter().map(|it| it.written.as_str()).collect();
        words.join(" ")
    }
}

/// When a checkpoint is taken: after so many seconds, if so much was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SavePoint {
    pub(crate) secs: u64,
    pub(crate) changes: u64,
}

/// `save`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavePoints(pub(crate) Vec<SavePoint>);

/// More than anybody writes.
const SAVE_POINTS_MAX: usize = 64;

impl ListValue for SavePoints {
    const HINT: &'static str = "SECONDS CHANGES";

    fn parse(words: &[&[u8]]) -> Result<Self, Problem> {
        const INVALID: Problem = Problem::Borrowed("Invalid save parameters");
        if let [] | [b""] = words {
            return Ok(Self(Vec::new()));
        }
        let (pairs, []) = words.as_chunks::<2>() else { return Err(INVALID) };
        if pairs.len() > SAVE_POINTS_MAX {
            return Err(INVALID);
        }
        let point = |[secs, changes]: &[&[u8]; 2]| {
            let secs = u64::try_from(parse_integer(secs)?).ok().filter(|secs| *secs > 0)?;
            let changes = u64::try_from(parse_integer(changes)?).ok()?;
            Some(SavePoint { secs, changes })
        };
        pairs.iter().map(point).collect::<Option<_>>().map(Self).ok_or(INVALID)
    }

    fn show(&self) -> String {
        let words: Vec<String> =
            self.0.iter().map(|point| format!("{} {}", point.secs, point.changes)).collect();
        words.join(" ")
    }
}

/// `latency-tracking-info-percentiles`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Percentiles(pub(crate) Vec<f64>);

const PERCENTILES_MAX: usize = 64;

impl ListValue for Percentiles {
    const HINT: &'static str = "PERCENTILE";

    fn parse(words: &[&[u8]]) -> Result<Self, Problem> {
        if let [] | [b""] = words {
            return Ok(Self(Vec::new()));
        }
        if words.len() > PERCENTILES_MAX {
            return Err("too many percentiles".into());
        }
        let percentile = |word: &&[u8]| -> Result<f64, Problem> {
            let value: Option<f64> = std::str::from_utf8(word).ok().and_then(|it| it.parse().ok());
            let value = value.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&value) {
                return Err("latency-tracking-info-percentiles parameters should sit between \
                            [0.0,100.0]"
                    .into());
            }
            Ok(value)
        };
        words.iter().map(percentile).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        words.join(" ")
    }
}

/// `notify-keyspace-events`: which events are published, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyEvents(pub(crate) u32);

impl KeyEvents {
    /// Letters and their bits, in the order they are shown: classes, then the rest.
    const CLASSES: &'static [(u8, u32)] = &[
        (b'g', 1 << 2),
        (b'$', 1 << 3),
        (b'l', 1 << 4),
        (b's', 1 << 5),
        (b'h', 1 << 6),
        (b'z', 1 << 7),
        (b'x', 1 << 8),
        (b'e', 1 << 9),
        (b't', 1 << 10),
        (b'd', 1 << 13),
    ];
    const NEW: (u8, u32) = (b'n', 1 << 14);
    const OTHERS: &'static [(u8, u32)] = &[(b'K', 1), (b'E', 1 << 1), (b'm', 1 << 11)];
    /// `A`: all but misses and new keys.
    const ALL: u32 = 0b10_0111_1111_1100;
}

impl ListValue for KeyEvents {
    const HINT: &'static str = "CLASSES";

    fn parse(words: &[&[u8]]) -> Result<Self, Problem> {
        let mut bits = 0;
        let known = || Self::CLASSES.iter().chain(Self::OTHERS).chain([&Self::NEW]);
        for &letter in super::cell::only(words)? {
            bits |= match known().find(|(known, _)| *known == letter) {
                Some((_, bit)) => *bit,
                None if letter == b'A' => Self::ALL,
                None => {
                    return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into());
                }
            };
        }
        Ok(Self(bits))
    }

    fn show(&self) -> String {
        let is_all = self.0 & Self::ALL == Self::ALL;
        let classes = if is_all { &[(b'A', Self::ALL)] } else { Self::CLASSES };
        let letters = classes.iter().chain([&Self::NEW]).chain(Self::OTHERS);
        letters.filter(|(_, bit)| self.0 & bit != 0).map(|(it, _)| char::from(*it)).collect()
    }
}
