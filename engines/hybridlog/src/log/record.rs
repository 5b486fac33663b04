//! [`Record`]: one record in the log, its layout, its latch and its version.
//!
//! ```text
//! word 0  header   flags(16) | previous(48)      flags: latched, replaced, removed, with_expiry,
//!                                                       tombstone, long
//! word 1  state    version(32) | value_len(32)
//! word 2  name     space(48) | key_len(16)
//! word 3  size     hash_low(32) | record_words(32)
//! word 4  expiry   milliseconds, 0 = none        only with flag with_expiry
//! ...     key      padded to words
//! ...     value    value_len bytes, then slack up to record_words
//! ```
//!
//! # Who may write what
//! Names, sizes and keys are written before the record is linked and never again. Value, expiry,
//! state and flags are written by the holder of the latch. `previous` is exchanged by whoever
//! unlinks a dead successor, while the record is neither latched nor dead.
//!
//! A *tombstone* is a live record that says its key is absent: older records of the key may lie in
//! the part of the chain that is not in memory. A *long* record holds a manifest in the place of its
//! value, which lies elsewhere.
//!
//! # Reading while another thread writes
//! The latch bit and the version make a seqlock. A writer sets the latch bit, a release fence,
//! writes, stores the next version, clears the latch bit with release. A reader checks the latch
//! bit, loads the state, copies, an acquire fence, and checks both once more. If the copy has any
//! word of a later write, the fences make the reader's second look see the latch bit of that write,
//! or its version.

use crate::address::LogicalAddress;
use crate::primitive::{AtomicU64, Backoff, Ordering, fence};

/// Words before key and value, without expiry.
const FIXED_WORDS: usize = 4;

const HEADER: usize = 0;
const STATE: usize = 1;
const NAME: usize = 2;
const SIZE: usize = 3;
const EXPIRY: usize = 4;

/// The number of words that hold `bytes`.
#[inline]
pub(crate) const fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// The header word of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header(u64);

impl Header {
    const LATCHED: u64 = 1 << 48;
    const REPLACED: u64 = 1 << 49;
    const REMOVED: u64 = 1 << 50;
    const WITH_EXPIRY: u64 = 1 << 51;
    const TOMBSTONE: u64 = 1 << 52;
    const LONG: u64 = 1 << 53;

    #[inline]
    pub(crate) const fn previous(self) -> LogicalAddress {
        LogicalAddress::from_low_bits(self.0)
    }

    #[inline]
    pub(crate) const fn is_latched(self) -> bool {
        self.0 & Self::LATCHED != 0
    }

    /// Replaced by a newer record of the same key, or removed: nobody's value any more.
    #[inline]
    pub(crate) const fn is_dead(self) -> bool {
        self.0 & (Self::REPLACED | Self::REMOVED) != 0
    }

    #[inline]
    pub(crate) const fn is_replaced(self) -> bool {
        self.0 & Self::REPLACED != 0
    }

    /// Whether the record says that its key is absent.
    #[inline]
    pub(crate) const fn is_tombstone(self) -> bool {
        self.0 & Self::TOMBSTONE != 0
    }

    /// Whether it holds a manifest in the place of its value.
    #[inline]
    pub(crate) const fn is_long(self) -> bool {
        self.0 & Self::LONG != 0
    }

    #[inline]
    const fn has_expiry_word(self) -> bool {
        self.0 & Self::WITH_EXPIRY != 0
    }

    #[inline]
    const fn with_previous(self, previous: LogicalAddress) -> Self {
        Self(self.0 & !LogicalAddress::MASK | previous.get())
    }
}

/// The header word of a record on disk: what others set in memory is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskHeader(pub(crate) u64);

impl DiskHeader {
    /// Without what only makes sense in memory: the latch, and the mark of a replaced record, which
    /// a newer one of its chain supersedes anyhow.
    pub(crate) const fn sealed(self) -> Self {
        Self(self.0 & !(Header::LATCHED | Header::REPLACED))
    }

    pub(crate) const fn previous(self) -> LogicalAddress {
        LogicalAddress::from_low_bits(self.0)
    }

    pub(crate) const fn has_expiry_word(self) -> bool {
        Header(self.0).has_expiry_word()
    }

    pub(crate) const fn is_tombstone(self) -> bool {
        Header(self.0).is_tombstone()
    }

    pub(crate) const fn is_long(self) -> bool {
        Header(self.0).is_long()
    }

    /// Given up when it was still in memory: no version of its key.
    pub(crate) const fn is_removed(self) -> bool {
        self.0 & Header::REMOVED != 0
    }
}

/// How a record ends its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A newer record of the key is linked.
    Replaced,
    /// The key is gone.
    Removed,
}

/// What a new record is to hold, and how much space it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blueprint<'a> {
    /// The space the key is in.
    pub(crate) space: u64,
    /// The low bits of the key's hash.
    pub(crate) hash_low: u32,
    /// The key.
    pub(crate) key: &'a [u8],
    /// The value.
    pub(crate) value: &'a [u8],
    /// When it expires; 0 = never.
    pub(crate) expire_at: u64,
    /// Bytes the value may grow to in place.
    pub(crate) capacity: usize,
    /// Whether it says that the key is absent.
    pub(crate) is_tombstone: bool,
    /// Whether the value is a manifest.
    pub(crate) is_long: bool,
}

/// Whether a new record is latched by whoever writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Born {
    /// Anybody may read it as soon as it is linked.
    Free,
    /// Its writer has something to do between linking it and showing it.
    Latched,
}

impl Blueprint<'_> {
    /// The words the record takes.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        FIXED_WORDS
            + usize::from(self.expire_at != 0)
            + words_of(self.key.len())
            + words_of(self.capacity.max(self.value.len()))
    }
}

/// A consistent copy's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Bytes of the value.
    pub(crate) value_len: usize,
    /// When it expires; 0 = never.
    pub(crate) expire_at: u64,
    /// Whether it is a manifest in the place of the value.
    pub(crate) is_long: bool,
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The record is dead: look in the index again.
    Dead,
    /// It says that its key is absent.
    Tombstone,
    /// A writer stayed in it for long: try again later.
    Latched,
}

/// A record; `words` begin with it and may go on after it.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Record<'a> {
    /// The record at the beginning of `words`.
    #[inline]
    pub(crate) fn at(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    /// The words from the beginning of the record to the end of its page.
    pub(crate) fn words(&self) -> &'a [AtomicU64] {
        self.words
    }

    /// Marks that no record follows in the page.
    pub(crate) fn write_end_of_page(words: &[AtomicU64]) {
        if let Some(size) = words.get(SIZE) {
            size.store(0, Ordering::Release);
        }
    }

    /// The words of the record; 0 if there is none.
    pub(crate) fn size_words(&self) -> usize {
        self.words.get(SIZE).map_or(0, |size| (size.load(Ordering::Acquire) as u32) as usize)
    }

    /// Writes a record that nobody else sees yet.
    pub(crate) fn write_new(
        &self,
        blueprint: &Blueprint<'_>,
        previous: LogicalAddress,
        born: Born,
    ) {
        let with_expiry = blueprint.expire_at != 0;
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let flags = flag(with_expiry, Header::WITH_EXPIRY)
            | flag(blueprint.is_tombstone, Header::TOMBSTONE)
            | flag(blueprint.is_long, Header::LONG)
            | flag(born == Born::Latched, Header::LATCHED);
        let set = |word: usize, value: u64| self.words[word].store(value, Ordering::Relaxed);
        set(STATE, blueprint.value.len() as u64);
        set(NAME, name(blueprint.space, blueprint.key.len()));
        set(SIZE, u64::from(blueprint.hash_low) << 32 | blueprint.words() as u64);
        if with_expiry {
            set(EXPIRY, blueprint.expire_at);
        }
        let key_start = FIXED_WORDS + usize::from(with_expiry);
        let key_words = words_of(blueprint.key.len());
        store_bytes(&self.words[key_start..key_start + key_words], blueprint.key);
        store_bytes(&self.words[key_start + key_words..], blueprint.value);
        set(HEADER, flags | previous.get());
    }

    /// Sets the chain behind a record that nobody else sees yet.
    pub(crate) fn set_previous(&self, previous: LogicalAddress) {
        let header = Header(self.words[HEADER].load(Ordering::Relaxed)).with_previous(previous);
        self.words[HEADER].store(header.0, Ordering::Relaxed);
    }

    /// The latch of a record that the caller wrote as [`Born::Latched`].
    pub(crate) fn born_latched(&self) -> Latched<'a> {
        let header = Header(self.words[HEADER].load(Ordering::Relaxed) & !Header::LATCHED);
        Latched { record: *self, header }
    }

    /// Gives a record up that was written but never linked.
    pub(crate) fn abandon(&self) {
        self.words[HEADER].store(Header::REMOVED, Ordering::Release);
    }

    #[inline]
    pub(crate) fn header(&self) -> Header {
        Header(self.words[HEADER].load(Ordering::Acquire))
    }

    /// The bits of the hash that choose buckets.
    #[inline]
    pub(crate) fn hash_low(&self) -> u32 {
        (self.words[SIZE].load(Ordering::Relaxed) >> 32) as u32
    }

    /// The space the key is in.
    #[inline]
    pub(crate) fn space(&self) -> u64 {
        self.words[NAME].load(Ordering::Relaxed) >> 16
    }

    /// Whether this is a record of `key` in `space`.
    #[inline]
    pub(crate) fn is_of(&self, space: u64, hash_low: u32, key: &[u8]) -> bool {
        if self.words[NAME].load(Ordering::Relaxed) != name(space, key.len())
            || self.hash_low() != hash_low
        {
            return false;
        }
        let start = self.key_start();
        let words = &self.words[start..start + words_of(key.len())];
        let chunks = key.chunks_exact(8);
        let tail = chunks.remainder();
        let whole = chunks
            .zip(words)
            .all(|(chunk, word)| word.load(Ordering::Relaxed).to_ne_bytes().as_slice() == chunk);
        whole
            && (tail.is_empty()
                || words.last().is_some_and(|word| {
                    word.load(Ordering::Relaxed).to_ne_bytes().starts_with(tail)
                }))
    }

    /// Copies the key to the end of `out`.
    pub(crate) fn copy_key(&self, out: &mut Vec<u8>) {
        let key_len = (self.words[NAME].load(Ordering::Relaxed) & 0xffff) as usize;
        let start = self.key_start();
        append_bytes(&self.words[start..start + words_of(key_len)], key_len, out);
    }

    /// Appends a consistent copy of the value to `out`: no word of it is of a later write than
    /// another.
    pub(crate) fn read(&self, out: &mut Vec<u8>) -> Result<Copied, Unreadable> {
        let start = out.len();
        let mut backoff = Backoff::default();
        loop {
            let header = self.header();
            if header.is_dead() {
                return Err(Unreadable::Dead);
            }
            if !header.is_latched() {
                let state = self.words[STATE].load(Ordering::Acquire);
                let copied = self.copy(header, state, out);
                fence(Ordering::Acquire);
                let is_latched = Header(self.words[HEADER].load(Ordering::Acquire)).is_latched();
                if !is_latched && self.words[STATE].load(Ordering::Relaxed) == state {
                    if !header.is_tombstone() {
                        return Ok(copied);
                    }
                    out.truncate(start);
                    return Err(Unreadable::Tombstone);
                }
                out.truncate(start);
            }
            if backoff.waits() >= 64 {
                return Err(Unreadable::Latched);
            }
            backoff.wait();
        }
    }

    fn copy(&self, header: Header, state: u64, out: &mut Vec<u8>) -> Copied {
        let value_len = (state as u32) as usize;
        let start = self.value_start();
        let expire_at = self.expire_word(header);
        append_bytes(&self.words[start..start + words_of(value_len)], value_len, out);
        Copied { value_len, expire_at, is_long: header.is_long() }
    }

    #[inline]
    fn expire_word(&self, header: Header) -> u64 {
        if header.has_expiry_word() { self.words[EXPIRY].load(Ordering::Relaxed) } else { 0 }
    }

    #[inline]
    fn key_start(&self) -> usize {
        // The flag never changes once the record is written.
        FIXED_WORDS
            + usize::from(Header(self.words[HEADER].load(Ordering::Relaxed)).has_expiry_word())
    }

    #[inline]
    fn value_start(&self) -> usize {
        let key_len = (self.words[NAME].load(Ordering::Relaxed) & 0xffff) as usize;
        self.key_start() + words_of(key_len)
    }

    /// Takes the record's latch; `None` if it is dead.
    pub(crate) fn latch(&self) -> Option<Latched<'a>> {
        let mut backoff = Backoff::default();
        loop {
            let header = self.header();
            if header.is_dead() {
                return None;
            }
            if !header.is_latched() {
                let latched = header.0 | Header::LATCHED;
                if self.words[HEADER]
                    .compare_exchange(header.0, latched, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    // The writes that follow must not be seen before the latch bit.
                    fence(Ordering::Release);
                    return Some(Latched { record: *self, header: Header(header.0) });
                }
            }
            backoff.wait();
        }
    }

    /// Takes a dead successor out of the chain: `previous` becomes `next` if it was `dead`.
    pub(crate) fn unlink(&self, dead: LogicalAddress, next: LogicalAddress) -> bool {
        let header = self.header();
        !header.is_latched()
            && !header.is_dead()
            && header.previous() == dead
            && self.words[HEADER]
                .compare_exchange(
                    header.0,
                    header.with_previous(next).0,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                )
                .is_ok()
    }
}

/// The latch of a record, given back when dropped.
pub(crate) struct Latched<'a> {
    record: Record<'a>,
    /// The header as it will be without the latch.
    header: Header,
}

impl<'a> Latched<'a> {
    /// The record.
    pub(crate) fn record(&self) -> Record<'a> {
        self.record
    }

    /// The next older record of the chain; it stays so under the latch.
    pub(crate) fn previous(&self) -> LogicalAddress {
        self.header.previous()
    }

    /// Gives the record another chain behind it.
    pub(crate) fn set_previous(&mut self, previous: LogicalAddress) {
        self.header = self.header.with_previous(previous);
    }

    /// When the record expires; 0 = never.
    pub(crate) fn expire_at(&self) -> u64 {
        self.record.expire_word(self.header)
    }

    /// Appends the value to `out`.
    pub(crate) fn copy_value(&self, out: &mut Vec<u8>) -> Copied {
        let state = self.record.words[STATE].load(Ordering::Relaxed);
        self.record.copy(self.header, state, out)
    }

    /// Bytes the value may take in place.
    pub(crate) fn capacity(&self) -> usize {
        (self.record.size_words() - self.record.value_start()) * 8
    }

    /// Bytes the value takes.
    pub(crate) fn value_len(&self) -> usize {
        (self.record.words[STATE].load(Ordering::Relaxed) as u32) as usize
    }

    /// Whether the record says that its key is absent.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.header.is_tombstone()
    }

    /// Whether it holds a manifest in the place of its value.
    pub(crate) fn is_long(&self) -> bool {
        self.header.is_long()
    }

    /// Whether value and expiry may be written where they are. The last version a record can have
    /// is never used up: a longer-lived record moves, so that a version never comes back.
    pub(crate) fn fits(&self, value_len: usize, expire_at: u64) -> bool {
        let has_room_for_expiry = expire_at == 0 || self.header.has_expiry_word();
        value_len <= self.capacity() && has_room_for_expiry && self.version() != u64::from(u32::MAX)
    }

    fn version(&self) -> u64 {
        self.record.words[STATE].load(Ordering::Relaxed) >> 32
    }

    /// Overwrites value and expiry, which [fit](Self::fits), where they are; not of a long record,
    /// whose pieces would then be younger than itself.
    pub(crate) fn overwrite(&mut self, value: &[u8], expire_at: u64) {
        debug_assert!(self.fits(value.len(), expire_at), "what does not fit is not overwritten");
        debug_assert!(!self.is_long(), "a long record is replaced");
        if self.header.has_expiry_word() {
            self.record.words[EXPIRY].store(expire_at, Ordering::Relaxed);
        }
        store_bytes(&self.record.words[self.record.value_start()..], value);
        self.set_state(value.len());
        self.header.0 &= !Header::TOMBSTONE;
    }

    /// Makes the record a tombstone where it is; the empty value [fits](Self::fits).
    pub(crate) fn bury(&mut self) {
        self.set_state(0);
        self.header.0 |= Header::TOMBSTONE;
        self.header.0 &= !Header::LONG;
    }

    fn set_state(&self, value_len: usize) {
        let state = (self.version() + 1) << 32 | value_len as u64;
        self.record.words[STATE].store(state, Ordering::Release);
    }

    /// Ends the record's life as the latch is given back.
    pub(crate) fn end(mut self, end: End) {
        self.header.0 |= match end {
            End::Replaced => Header::REPLACED,
            End::Removed => Header::REMOVED,
        };
    }
}

impl Drop for Latched<'_> {
    fn drop(&mut self) {
        self.record.words[HEADER].store(self.header.0, Ordering::Release);
    }
}

#[inline]
const fn name(space: u64, key_len: usize) -> u64 {
    space << 16 | key_len as u64
}

/// Stores `bytes` into the first words of `words`, the last one padded with zeros.
#[inline]
fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let words = &words[..words_of(bytes.len())];
    let chunks = bytes.chunks_exact(8);
    let tail = chunks.remainder();
    for (word, chunk) in words.iter().zip(chunks) {
        let mut whole = [0; 8];
        whole.copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
    }
    if let (false, Some(word)) = (tail.is_empty(), words.last()) {
        let mut padded = [0; 8];
        padded[..tail.len()].copy_from_slice(tail);
        word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
    }
}

/// Appends the first `len` bytes of `words` to `out`.
#[inline]
fn append_bytes(words: &[AtomicU64], len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + words.len() * 8, 0);
    for (chunk, word) in out[start..].chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    out.truncate(start + len);
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    fn blueprint<'a>(key: &'a [u8], value: &'a [u8], expire_at: u64) -> Blueprint<'a> {
        Blueprint {
            space: 7,
            hash_low: 9,
            key,
            value,
            expire_at,
            capacity: value.len(),
            is_tombstone: false,
            is_long: false,
        }
    }

    #[test]
    fn a_record_gives_back_what_was_written() {
        for key_len in 0..20 {
            for value_len in 0..20 {
                for expire_at in [0, 5] {
                    let (key, value) = (vec![b'k'; key_len], vec![b'v'; value_len]);
                    let words = words(16);
                    let plan = blueprint(&key, &value, expire_at);
                    let record = Record::at(&words);
                    record.write_new(&plan, LogicalAddress::NULL, Born::Free);
                    assert_eq!(record.size_words(), plan.words());
                    assert!(record.is_of(7, 9, &key));
                    assert!(!record.is_of(8, 9, &key) && !record.is_of(7, 8, &key));
                    let mut longer = key.clone();
                    longer.push(0);
                    assert!(!record.is_of(7, 9, &longer), "zero padding is no part of a key");
                    let (mut key_out, mut out) = (Vec::new(), b"x".to_vec());
                    record.copy_key(&mut key_out);
                    assert_eq!(key_out, key);
                    assert_eq!(
                        record.read(&mut out),
                        Ok(Copied { value_len, expire_at, is_long: false })
                    );
                    assert_eq!(&out[1..], value);
                }
            }
        }
    }

    #[test]
    fn a_key_differing_in_any_byte_is_another() {
        let words = words(16);
        let record = Record::at(&words);
        let key: Vec<u8> = (0..19).collect();
        record.write_new(&blueprint(&key, b"", 0), LogicalAddress::NULL, Born::Free);
        for at in 0..key.len() {
            let mut other = key.clone();
            other[at] ^= 1;
            assert!(!record.is_of(7, 9, &other));
        }
    }

    #[test]
    fn a_value_grows_into_its_slack_and_no_further() {
        let words = words(16);
        let record = Record::at(&words);
        let plan = Blueprint { capacity: 16, ..blueprint(b"k", b"v", 0) };
        record.write_new(&plan, LogicalAddress::NULL, Born::Free);
        let mut latched = record.latch().unwrap();
        assert!(latched.fits(16, 0));
        latched.overwrite(&[1; 16], 0);
        assert!(!latched.fits(17, 0), "no room");
        assert!(!latched.fits(1, 5), "no expiry word");
        drop(latched);
        let mut out = Vec::new();
        assert_eq!(
            record.read(&mut out),
            Ok(Copied { value_len: 16, expire_at: 0, is_long: false })
        );
        assert_eq!(out, [1; 16]);
    }

    #[test]
    fn the_last_version_is_never_used_up() {
        let words = words(8);
        let record = Record::at(&words);
        record.write_new(&blueprint(b"k", b"v", 0), LogicalAddress::NULL, Born::Free);
        words[STATE].store(u64::from(u32::MAX) << 32 | 1, Ordering::Relaxed);
        assert!(!record.latch().unwrap().fits(1, 0));
    }

    #[test]
    fn a_latched_record_is_not_read_and_a_dead_one_not_latched() {
        let words = words(8);
        let record = Record::at(&words);
        record.write_new(&blueprint(b"k", b"v", 0), LogicalAddress::NULL, Born::Free);
        let latched = record.latch().unwrap();
        assert_eq!(record.read(&mut Vec::new()), Err(Unreadable::Latched));
        latched.end(End::Removed);
        assert!(record.latch().is_none());
        assert_eq!(record.read(&mut Vec::new()), Err(Unreadable::Dead));
        assert!(!record.unlink(LogicalAddress::NULL, LogicalAddress::NULL), "the dead stay put");
    }
}
