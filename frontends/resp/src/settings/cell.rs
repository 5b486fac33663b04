//! [`Cell`]: where the value of a parameter lives, how it is read from words and shown.
//!
//! A cell is changed through a shared reference, under the lock of [`Settings`](super::Settings),
//! and read without any: a relaxed load for what commands read.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ferrokit_redis::integer::parse_integer;

use super::units::memory_bytes;

/// Why words are no value of a parameter, in Redis' words where Redis has some.
pub(crate) type Problem = Cow<'static, str>;

/// What a value looks like, for help and completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// A word in capitals that stands for it.
    Name(&'static str),
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// A parameter's value, of whatever type.
pub(crate) trait Cell: Send + Sync {
    /// Whether the words are a value; changes nothing.
    fn check(&self, words: &[&[u8]]) -> Result<(), Problem>;
    /// Takes the words as the value, or changes nothing.
    fn set(&self, words: &[&[u8]]) -> Result<(), Problem>;
    /// The value as CONFIG GET shows it; [`set`](Self::set) takes it back.
    fn show(&self) -> Vec<u8>;
    /// Whether the value may be several words.
    fn is_list(&self) -> bool;
    fn hint(&self) -> Hint;
    /// Whether there is only one value.
    fn is_constant(&self) -> bool;
}

/// What makes a type a [`Cell`].
pub(crate) trait Typed: Send + Sync {
    type Value;
    const IS_LIST: bool = false;
    const IS_CONSTANT: bool = false;
    fn parse(&self, words: &[&[u8]]) -> Result<Self::Value, Problem>;
    fn store(&self, value: Self::Value);
    fn text(&self) -> Vec<u8>;
    fn value_hint(&self) -> Hint;
}

impl<T: Typed> Cell for T {
    fn check(&self, words: &[&[u8]]) -> Result<(), Problem> {
        self.parse(words).map(drop)
    }

    fn set(&self, words: &[&[u8]]) -> Result<(), Problem> {
        self.parse(words).map(|value| self.store(value))
    }

    fn show(&self) -> Vec<u8> {
        self.text()
    }

    fn is_list(&self) -> bool {
        T::IS_LIST
    }

    fn hint(&self) -> Hint {
        self.value_hint()
    }

    fn is_constant(&self) -> bool {
        T::IS_CONSTANT
    }
}

/// The only word there is.
pub(super) fn only<'w>(words: &[&'w [u8]]) -> Result<&'w [u8], Problem> {
    match words {
        [word] => Ok(word),
        _ => Err("wrong number of arguments".into()),
    }
}

/// Yes or no.
pub(crate) struct Switch(AtomicBool);

impl Switch {
    pub(super) const fn new(value: bool) -> Self {
        Self(AtomicBool::new(value))
    }

    #[inline]
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Typed for Switch {
    type Value = bool;

    fn parse(&self, words: &[&[u8]]) -> Result<bool, Problem> {
        match only(words)?.to_ascii_lowercase().as_slice() {
            b"yes" => Ok(true),
            b"no" => Ok(false),
            _ => Err("argument must be 'yes' or 'no'".into()),
        }
    }

    fn store(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn text(&self) -> Vec<u8> {
        if self.get() { b"yes".to_vec() } else { b"no".to_vec() }
    }

    fn value_hint(&self) -> Hint {
        Hint::OneOf(&["yes", "no"])
    }
}

/// A whole number.
pub(crate) struct Number {
    value: AtomicI64,
    min: i64,
    max: i64,
}

impl Number {
    pub(super) const fn new(value: i64, min: i64, max: i64) -> Self {
        Self { value: AtomicI64::new(value), min, max }
    }

    #[inline]
    pub(crate) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The value where it cannot be negative.
    #[inline]
    pub(crate) fn get_unsigned(&self) -> u64 {
        u64::try_from(self.get()).unwrap_or(0)
    }
}

impl Typed for Number {
    type Value = i64;

    fn parse(&self, words: &[&[u8]]) -> Result<i64, Problem> {
        let value =
            parse_integer(only(words)?).ok_or("argument couldn't be parsed into an integer")?;
        if value < self.min || value > self.max {
            let (min, max) = (self.min, self.max);
            return Err(format!("argument must be between {min} and {max} inclusive").into());
        }
        Ok(value)
    }

    fn store(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }

    fn text(&self) -> Vec<u8> {
        self.get().to_string().into_bytes()
    }

    fn value_hint(&self) -> Hint {
        Hint::Name("N")
    }
}

/// A number of bytes, with units: `10mb`.
pub(crate) struct Memory {
    value: AtomicU64,
    min: u64,
    max: u64,
}

impl Memory {
    pub(super) const fn new(value: u64, min: u64, max: u64) -> Self {
        Self { value: AtomicU64::new(value), min, max }
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Typed for Memory {
    type Value = u64;

    fn parse(&self, words: &[&[u8]]) -> Result<u64, Problem> {
        let value = memory_bytes(only(words)?).ok_or("argument must be a memory value")?;
        if value < self.min || value > self.max {
            let (min, max) = (self.min, self.max);
            return Err(format!("argument must be between {min} and {max} inclusive").into());
        }
        Ok(value)
    }

    fn store(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
    }

    fn text(&self) -> Vec<u8> {
        self.get().to_string().into_bytes()
    }

    fn value_hint(&self) -> Hint {
        Hint::Name("BYTES")
    }
}

/// A number of bytes, with units, or a percentage of another.
#[derive(Default)]
pub(crate) struct MemoryOrPercent(AtomicI64);

impl MemoryOrPercent {
    /// Whether there is a limit at all.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The bytes, if that is the percentage of `whole`; `None` where it comes to nothing.
    pub(crate) fn bytes_of(&self, whole: u64) -> Option<u64> {
        let value = self.0.load(Ordering::Relaxed);
        let bytes = match u64::try_from(value) {
            Ok(bytes) => bytes,
            Err(_) => u64::try_from(u128::from(whole) * u128::from(value.unsigned_abs()) / 100)
                .unwrap_or(u64::MAX),
        };
        Some(bytes).filter(|bytes| *bytes > 0)
    }
}

impl Typed for MemoryOrPercent {
    /// A percentage is negative.
    type Value = i64;

    fn parse(&self, words: &[&[u8]]) -> Result<i64, Problem> {
        let word = only(words)?;
        let percent = word.strip_suffix(b"%").and_then(parse_integer).filter(|it| *it >= 0);
        match percent {
            Some(101..) => Err("percentage argument must be less or equal to 100".into()),
            Some(percent) => Ok(-percent),
            None => memory_bytes(word)
                .and_then(|bytes| i64::try_from(bytes).ok())
                .ok_or_else(|| "argument must be a memory or percent value".into()),
        }
    }

    fn store(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn text(&self) -> Vec<u8> {
        let value = self.0.load(Ordering::Relaxed);
        if value < 0 { format!("{}%", -value).into_bytes() } else { value.to_string().into_bytes() }
    }

    fn value_hint(&self) -> Hint {
        Hint::Name("BYTES|PERCENT%")
    }
}

/// The alternatives of a [`Choice`].
pub(crate) trait Alternatives: Copy + Send + Sync + 'static {
    /// The first one is never shown for another: names and values are one to one.
    const ALL: &'static [Self];
    const NAMES: &'static [&'static str];
}

/// One of a few names.
pub(crate) struct Choice<T> {
    index: AtomicU8,
    kind: PhantomData<T>,
}

impl<T: Alternatives> Choice<T> {
    /// The alternative of that index.
    pub(super) const fn new(index: u8) -> Self {
        Self { index: AtomicU8::new(index), kind: PhantomData }
    }

    #[inline]
    pub(crate) fn get(&self) -> T {
        let index = usize::from(self.index.load(Ordering::Relaxed));
        // Only indices of alternatives are stored.
        T::ALL.get(index).copied().unwrap_or(T::ALL[0])
    }

    pub(crate) fn name(&self) -> &'static str {
        let index = usize::from(self.index.load(Ordering::Relaxed));
        T::NAMES.get(index).copied().unwrap_or(T::NAMES[0])
    }
}

impl<T: Alternatives> Typed for Choice<T> {
    type Value = u8;

    fn parse(&self, words: &[&[u8]]) -> Result<u8, Problem> {
        let word = only(words)?;
        let found = T::NAMES.iter().position(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        found.and_then(|index| u8::try_from(index).ok()).ok_or_else(|| {
            let names = T::NAMES.join(", ");
            format!("argument(s) must be one of the following: {names}").into()
        })
    }

    fn store(&self, value: u8) {
        self.index.store(value, Ordering::Relaxed);
    }

    fn text(&self) -> Vec<u8> {
        self.name().as_bytes().to_vec()
    }

    fn value_hint(&self) -> Hint {
        Hint::OneOf(T::NAMES)
    }
}

/// Any bytes that a check lets through.
pub(crate) struct Text {
    value: ArcSwap<Vec<u8>>,
    hint: &'static str,
    check: fn(&[u8]) -> Result<(), Problem>,
}

impl Text {
    pub(super) fn new(value: &str, hint: &'static str) -> Self {
        Self::checked(value, hint, |_| Ok(()))
    }

    pub(super) fn checked(
        value: &str,
        hint: &'static str,
        check: fn(&[u8]) -> Result<(), Problem>,
    ) -> Self {
        Self { value: ArcSwap::from_pointee(value.as_bytes().to_vec()), hint, check }
    }

    /// Text that is UTF-8, as all but passwords is.
    pub(super) fn utf8(value: &str, hint: &'static str) -> Self {
        Self::checked(value, hint, |bytes| match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(_) => Err("argument must be UTF-8".into()),
        })
    }

    pub(crate) fn get(&self) -> Arc<Vec<u8>> {
        self.value.load_full()
    }

    /// Whether the value is empty, which as a rule stands for none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.value.load().is_empty()
    }

    pub(crate) fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.value.load()).into_owned()
    }
}

impl Typed for Text {
    type Value = Vec<u8>;

    fn parse(&self, words: &[&[u8]]) -> Result<Vec<u8>, Problem> {
        let word = only(words)?;
        (self.check)(word)?;
        Ok(word.to_vec())
    }

    fn store(&self, value: Vec<u8>) {
        self.value.store(Arc::new(value));
    }

    fn text(&self) -> Vec<u8> {
        self.get().as_ref().clone()
    }

    fn value_hint(&self) -> Hint {
        Hint::Name(self.hint)
    }
}

/// The value of a parameter that could not be anything else here.
pub(crate) struct Constant(pub(super) &'static str);

impl Typed for Constant {
    type Value = ();
    const IS_LIST: bool = true;
    const IS_CONSTANT: bool = true;

    fn parse(&self, words: &[&[u8]]) -> Result<(), Problem> {
        let is_it = match words {
            [] => self.0.is_empty(),
            [word] => word.eq_ignore_ascii_case(self.0.as_bytes()),
            _ => false,
        };
        if is_it { Ok(()) } else { Err(format!("only '{}' is possible here", self.0).into()) }
    }

    fn store(&self, (): ()) {}

    fn text(&self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    fn value_hint(&self) -> Hint {
        Hint::Name("VALUE")
    }
}
