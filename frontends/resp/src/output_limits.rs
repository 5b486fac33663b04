//! [`OutputLimits`]: how much output may wait, by class of client (`client-output-buffer-limit`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ferrokit_redis::integer::parse_integer;

use crate::settings::cell::{Hint, Problem, Typed};
use crate::settings::units::memory_bytes;

/// A class of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Normal,
    Replica,
    PubSub,
}

impl Class {
    const ALL: [Self; 3] = [Self::Normal, Self::Replica, Self::PubSub];

    /// The class of that name; `slave` is the replicas' old one.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(Self::Normal),
            b"replica" | b"slave" => Some(Self::Replica),
            b"pubsub" => Some(Self::PubSub),
            _ => None,
        }
    }

    /// The name CONFIG GET shows.
    const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Replica => "slave",
            Self::PubSub => "pubsub",
        }
    }
}

/// A soft limit: more bytes than this may wait for so many seconds. 0 bytes is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SoftLimit {
    pub(crate) bytes: usize,
    pub(crate) secs: u64,
}

/// How much output may wait for a client of a class; 0 bytes is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClassLimit {
    hard_bytes: usize,
    soft: SoftLimit,
}

impl ClassLimit {
    const fn new(hard_bytes: usize, soft_bytes: usize, secs: u64) -> Self {
        Self { hard_bytes, soft: SoftLimit { bytes: soft_bytes, secs } }
    }

    fn parse(hard: &[u8], soft: &[u8], secs: &[u8]) -> Option<Self> {
        let bytes = |text| usize::try_from(memory_bytes(text)?).ok();
        let secs = u64::try_from(parse_integer(secs)?).ok()?;
        Some(Self::new(bytes(hard)?, bytes(soft)?, secs))
    }
}

/// The limit of a class, read without a lock.
#[derive(Default)]
struct LimitCell {
    hard_bytes: AtomicUsize,
    soft_bytes: AtomicUsize,
    soft_secs: AtomicU64,
}

impl LimitCell {
    fn get(&self) -> ClassLimit {
        ClassLimit::new(
            self.hard_bytes.load(Ordering::Relaxed),
            self.soft_bytes.load(Ordering::Relaxed),
            self.soft_secs.load(Ordering::Relaxed),
        )
    }

    fn set(&self, limit: ClassLimit) {
        self.hard_bytes.store(limit.hard_bytes, Ordering::Relaxed);
        self.soft_bytes.store(limit.soft.bytes, Ordering::Relaxed);
        self.soft_secs.store(limit.soft.secs, Ordering::Relaxed);
    }
}

/// The limits of all classes, changed while clients run.
pub(crate) struct OutputLimits([LimitCell; 3]);

impl Default for OutputLimits {
    fn default() -> Self {
        let made = Self(Default::default());
        made.store([
            ClassLimit::new(0, 0, 0),
            ClassLimit::new(256 << 20, 64 << 20, 60),
            ClassLimit::new(32 << 20, 8 << 20, 60),
        ]);
        made
    }
}

impl OutputLimits {
    /// More than this is the end.
    #[inline]
    pub(crate) fn hard_bytes(&self, class: Class) -> usize {
        self.0[class as usize].hard_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn soft(&self, class: Class) -> SoftLimit {
        self.0[class as usize].get().soft
    }
}

impl Typed for OutputLimits {
    type Value = [ClassLimit; 3];
    const IS_LIST: bool = true;

    /// `class hard soft seconds ...`; classes that are not named keep their limits.
    fn parse(&self, words: &[&[u8]]) -> Result<Self::Value, Problem> {
        let mut limits = Class::ALL.map(|class| self.0[class as usize].get());
        if let [] | [b""] = words {
            return Ok(limits);
        }
        let (chunks, []) = words.as_chunks::<4>() else {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        };
        for [class, hard, soft, secs] in chunks {
            let class = Class::from_name(class)
                .ok_or("Invalid client class specified in buffer limit configuration.")?;
            limits[class as usize] = ClassLimit::parse(hard, soft, secs).ok_or(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            )?;
        }
        Ok(limits)
    }

    fn store(&self, limits: Self::Value) {
        self.0.iter().zip(limits).for_each(|(cell, limit)| cell.set(limit));
    }

    fn text(&self) -> Vec<u8> {
        let texts = Class::ALL.map(|class| {
            let ClassLimit { hard_bytes, soft } = self.0[class as usize].get();
            format!("{} {hard_bytes} {} {}", class.name(), soft.bytes, soft.secs)
        });
        texts.join(" ").into_bytes()
    }

    fn value_hint(&self) -> Hint {
        Hint::Name("CLASS HARD SOFT SECONDS")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::cell::Cell;

    fn set(limits: &OutputLimits, text: &str) -> Result<(), Problem> {
        limits.set(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    fn shown(limits: &OutputLimits) -> String {
        String::from_utf8(limits.show()).unwrap()
    }

    #[test]
    fn all_of_a_setting_is_taken_or_nothing() {
        let limits = OutputLimits::default();
        let at_first = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(shown(&limits), at_first);
        set(&limits, "slave 1mb 2k 3 pubsub 1gb 5 6").unwrap();
        let then = "normal 0 0 0 slave 1048576 2000 3 pubsub 1073741824 5 6";
        assert_eq!(shown(&limits), then);
        set(&limits, "").unwrap();
        let invalid = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        for (text, error) in [
            ("normal 1 2", "Wrong number of arguments in buffer limit configuration."),
            (
                "normal 1 2 3 foo 1 2 3",
                "Invalid client class specified in buffer limit configuration.",
            ),
            ("normal 1 2 3 pubsub x 2 3", invalid),
            ("normal 1 2 3 pubsub 1 2 -3", invalid),
            ("normal 1 99999999999gb 3", invalid),
        ] {
            assert_eq!(set(&limits, text).unwrap_err(), error, "{text}");
            assert_eq!(shown(&limits), then);
        }
        assert_eq!(limits.soft(Class::Replica), SoftLimit { bytes: 2000, secs: 3 });
        assert_eq!(limits.hard_bytes(Class::PubSub), 1 << 30);
        set(&limits, at_first).unwrap();
        assert_eq!(shown(&limits), at_first);
    }
}
