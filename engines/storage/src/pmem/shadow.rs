//! [`ShadowPmem`]: persistent memory whose crash is a computation.
//!
//! The volatile image is what loads see. Beside it, for every line that is not persistent, stands
//! the sequence of states it went through. A crash ([`CrashState::image`]) leaves in each line one
//! of those states, the last fenced one at least: a line may have been evicted at any moment.
//! Flushes count for the thread that made them, as `sfence` does.
//!
//! A recording region ([`ShadowPmem::recording`]) also keeps the trace of all events, so that a
//! test can cut at each of them after one run.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use ferrokit_engine::Result;

use super::emulated::check_growth;
use super::{CACHE_LINE_BYTES, Pmem, PmemKind, StoreObserver, WORD_BYTES, lines};

const LINE_WORDS: usize = (CACHE_LINE_BYTES / WORD_BYTES) as usize;

/// States kept per line. A line stored to more often without a fence forgets states between its
/// first and its last ones.
const LINE_STATES_MAX: usize = 64;

/// Events a recording region keeps.
const TRACE_EVENTS_MAX: usize = 1 << 22;

type Line = [u64; LINE_WORDS];

/// One event of a region, in the order in which they took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowEvent {
    /// A word was stored.
    Store {
        /// Which word.
        word: usize,
        /// What.
        value: u64,
    },
    /// The write-back of a line was started.
    Flush {
        /// Which line.
        line: u64,
        /// By whom.
        thread: ThreadId,
    },
    /// A thread waited for its write-backs.
    Fence {
        /// Which thread.
        thread: ThreadId,
    },
}

/// Which of the states that a line may have persists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Only what was fenced.
    Fenced,
    /// The last state of every line, fenced or not.
    Everything,
    /// A state of each line, drawn from this seed.
    Seeded(u64),
    /// The image of this number; numbers below [`CrashState::image_count`] give all images.
    Numbered(u64),
}

/// Simulated persistent memory: see the module.
pub struct ShadowPmem {
    words: Box<[AtomicU64]>,
    shadow: Mutex<Shadow>,
}

struct Shadow {
    state: CrashState,
    events: u64,
    trace: Option<ShadowTrace>,
}

/// What is persistent at one moment, and what might be.
#[derive(Clone)]
pub struct CrashState {
    persisted: Vec<u64>,
    /// For each line that is not persistent as it is: its states since, oldest first. The state
    /// in `persisted` stands before them.
    unfenced: BTreeMap<u64, LineHistory>,
}

#[derive(Clone, Default)]
struct LineHistory {
    states: Vec<Line>,
    /// How many of `states` a thread's last flush covers.
    flushed: HashMap<ThreadId, usize>,
}

/// The events of a region since it was opened, over the image it had then.
#[derive(Clone)]
pub struct ShadowTrace {
    base: Vec<u64>,
    events: Vec<ShadowEvent>,
}

impl ShadowPmem {
    /// A zeroed region of `bytes`, rounded up to lines.
    pub fn new(bytes: u64) -> Self {
        let lines = bytes.div_ceil(CACHE_LINE_BYTES) as usize;
        Self::from_image(vec![0; lines * LINE_WORDS])
    }

    /// A region that starts from an image: the machine after a crash.
    pub fn from_image(mut image: Vec<u64>) -> Self {
        image.resize(image.len().next_multiple_of(LINE_WORDS), 0);
        let words = image.iter().copied().map(AtomicU64::new).collect();
        let state = CrashState { persisted: image, unfenced: BTreeMap::new() };
        Self { words, shadow: Mutex::new(Shadow { state, events: 0, trace: None }) }
    }

    /// The same region, keeping a trace of its events (of about the first four million).
    #[must_use]
    pub fn recording(self) -> Self {
        {
            let mut shadow = self.shadow();
            let base = shadow.state.persisted.clone();
            shadow.trace = Some(ShadowTrace { base, events: Vec::new() });
        }
        self
    }

    /// How many stores, flushes and fences there were.
    pub fn event_count(&self) -> u64 {
        self.shadow().events
    }

    /// What a crash at this moment may leave.
    pub fn crash_state(&self) -> CrashState {
        self.shadow().state.clone()
    }

    /// The trace so far; `None` unless [`recording`](Self::recording).
    pub fn trace(&self) -> Option<ShadowTrace> {
        self.shadow().trace.clone()
    }

    fn shadow(&self) -> MutexGuard<'_, Shadow> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores under the lock, so that the order of events is the order of effects.
    fn store_locked(&self, shadow: &mut Shadow, word: usize, value: u64) {
        self.words[word].store(value, Ordering::SeqCst);
        shadow.note(ShadowEvent::Store { word, value }, &|index| {
            self.words[index].load(Ordering::SeqCst)
        });
    }

    fn flush_locked(&self, shadow: &mut Shadow, offset: u64, len: u64) {
        let thread = std::thread::current().id();
        for line in lines(offset, len) {
            assert!((line as usize) < self.words.len() / LINE_WORDS, "flush leaves the region");
            shadow.note(ShadowEvent::Flush { line, thread }, &|_| 0);
        }
    }
}

impl Shadow {
    fn note(&mut self, event: ShadowEvent, volatile: &dyn Fn(usize) -> u64) {
        self.events += 1;
        if let Some(trace) = &mut self.trace {
            assert!(trace.events.len() < TRACE_EVENTS_MAX, "too long a run to record");
            trace.events.push(event);
        }
        self.state.apply(event, volatile);
    }
}

impl StoreObserver for ShadowPmem {
    fn store(&self, word: usize, value: u64) {
        self.store_locked(&mut self.shadow(), word, value);
    }

    fn compare_exchange(&self, word: usize, current: u64, new: u64) -> Result<u64, u64> {
        let mut shadow = self.shadow();
        let found = self.words[word].load(Ordering::SeqCst);
        if found != current {
            return Err(found);
        }
        self.store_locked(&mut shadow, word, new);
        Ok(found)
    }
}

impl Pmem for ShadowPmem {
    fn kind(&self) -> PmemKind {
        PmemKind::Shadow
    }

    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn observer(&self) -> Option<&dyn StoreObserver> {
        Some(self)
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        check_growth(&self.words, bytes)
    }

    fn flush(&self, offset: u64, len: u64) {
        self.flush_locked(&mut self.shadow(), offset, len);
    }

    fn fence(&self) -> Result<()> {
        let thread = std::thread::current().id();
        self.shadow().note(ShadowEvent::Fence { thread }, &|_| 0);
        Ok(())
    }

    fn stream(&self, first_word: usize, values: &[u64]) {
        let mut shadow = self.shadow();
        for (index, value) in values.iter().enumerate() {
            self.store_locked(&mut shadow, first_word + index, *value);
        }
        let bytes = WORD_BYTES * values.len() as u64;
        self.flush_locked(&mut shadow, first_word as u64 * WORD_BYTES, bytes);
    }
}

impl CrashState {
    /// How many different choices of line states there are; `u64::MAX` if more.
    pub fn image_count(&self) -> u64 {
        self.unfenced
            .values()
            .try_fold(1_u64, |count, line| count.checked_mul(line.states.len() as u64 + 1))
            .unwrap_or(u64::MAX)
    }

    /// The words that a crash leaves.
    pub fn image(&self, survival: Survival) -> Vec<u64> {
        let mut image = self.persisted.clone();
        let mut draw = survival;
        for (line, history) in &self.unfenced {
            let choice = draw.next(history.states.len());
            if let Some(state) = choice.checked_sub(1).and_then(|index| history.states.get(index)) {
                let first = *line as usize * LINE_WORDS;
                image[first..first + LINE_WORDS].copy_from_slice(state);
            }
        }
        image
    }

    fn apply(&mut self, event: ShadowEvent, volatile: &dyn Fn(usize) -> u64) {
        match event {
            ShadowEvent::Store { word, value } => self.stored(word, value, volatile),
            ShadowEvent::Flush { line, thread } => {
                if let Some(history) = self.unfenced.get_mut(&line) {
                    history.flushed.insert(thread, history.states.len());
                }
            }
            ShadowEvent::Fence { thread } => self.fenced(thread),
        }
    }

    /// Adds the state that a line has after a store. The other words are as `volatile` has them,
    /// so that words stored unobserved persist with their line.
    fn stored(&mut self, word: usize, value: u64, volatile: &dyn Fn(usize) -> u64) {
        let line = word / LINE_WORDS;
        let mut state: Line = std::array::from_fn(|index| volatile(line * LINE_WORDS + index));
        state[word % LINE_WORDS] = value;
        let history = self.unfenced.entry(line as u64).or_default();
        if history.states.len() == LINE_STATES_MAX {
            let middle = LINE_STATES_MAX / 2;
            history.states.remove(middle);
            for flushed in history.flushed.values_mut().filter(|flushed| **flushed > middle) {
                *flushed -= 1;
            }
        }
        history.states.push(state);
    }

    fn fenced(&mut self, thread: ThreadId) {
        let persisted = &mut self.persisted;
        self.unfenced.retain(|line, history| {
            let covered = history.flushed.remove(&thread).unwrap_or(0);
            if let Some(state) = covered.checked_sub(1).and_then(|last| history.states.get(last)) {
                let first = *line as usize * LINE_WORDS;
                persisted[first..first + LINE_WORDS].copy_from_slice(state);
                history.states.drain(..covered);
                for other in history.flushed.values_mut() {
                    *other = other.saturating_sub(covered);
                }
            }
            !history.states.is_empty()
        });
    }
}

impl Survival {
    /// The choice for the next line, of `states` after the fenced one: 0 is the fenced one.
    fn next(&mut self, states: usize) -> usize {
        match self {
            Self::Fenced => 0,
            Self::Everything => states,
            Self::Seeded(seed) => {
                // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
                *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *seed;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((mixed ^ (mixed >> 31)) % (states as u64 + 1)) as usize
            }
            Self::Numbered(number) => {
                let choices = states as u64 + 1;
                let choice = *number % choices;
                *number /= choices;
                choice as usize
            }
        }
    }
}

impl ShadowTrace {
    /// The events, in order.
    pub fn events(&self) -> &[ShadowEvent] {
        &self.events
    }

    /// What a crash may leave after the first `count` events, for each count from 0 to all, to
    /// `visit` in that order.
    pub fn for_each_cut(&self, mut visit: impl FnMut(usize, &CrashState)) {
        let mut volatile = self.base.clone();
        let mut state = CrashState { persisted: self.base.clone(), unfenced: BTreeMap::new() };
        visit(0, &state);
        for (index, event) in self.events.iter().enumerate() {
            if let ShadowEvent::Store { word, value } = event {
                volatile[*word] = *value;
            }
            state.apply(*event, &|word| volatile[word]);
            visit(index + 1, &state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pmem::PmemRegion;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn shadow() -> (Arc<ShadowPmem>, PmemRegion) {
        let pmem = Arc::new(ShadowPmem::new(4096).recording());
        let region = PmemRegion::new(Arc::clone(&pmem) as Arc<dyn Pmem>);
        (pmem, region)
    }

    #[test]
    fn a_crash_keeps_what_was_fenced_and_loses_what_was_not() {
        let (pmem, region) = shadow();
        region.store_persist(0, 1).unwrap();
        region.store(0, 2);
        region.store(128, 3);
        region.flush(128, 8);
        let state = pmem.crash_state();
        let fenced = state.image(Survival::Fenced);
        assert_eq!((fenced[0], fenced[16]), (1, 0));
        let all = state.image(Survival::Everything);
        assert_eq!((all[0], all[16]), (2, 3));
        region.fence().unwrap();
        let fenced = pmem.crash_state().image(Survival::Fenced);
        assert_eq!((fenced[0], fenced[16]), (1, 3));
    }

    #[test]
    fn a_line_persists_a_prefix_of_its_stores_and_lines_are_independent() {
        let (pmem, region) = shadow();
        for (offset, value) in [(0, 1), (8, 2), (64, 3)] {
            region.store(offset, value);
        }
        let state = pmem.crash_state();
        assert_eq!(state.image_count(), 6);
        let images: BTreeSet<_> = (0..6)
            .map(|number| {
                let image = state.image(Survival::Numbered(number));
                (image[0], image[1], image[8])
            })
            .collect();
        let expected = [(0, 0, 0), (0, 0, 3), (1, 0, 0), (1, 0, 3), (1, 2, 0), (1, 2, 3)];
        assert_eq!(images, expected.into());
        for seed in 0..50 {
            let image = state.image(Survival::Seeded(seed));
            assert!(images.contains(&(image[0], image[1], image[8])));
        }
    }

    #[test]
    fn a_fence_serves_the_flushes_of_its_own_thread_only() {
        let (pmem, region) = shadow();
        region.store(0, 1);
        region.flush(0, 8);
        std::thread::scope(|scope| {
            scope.spawn(|| region.fence().unwrap());
        });
        assert_eq!(pmem.crash_state().image(Survival::Fenced)[0], 0);
        region.fence().unwrap();
        assert_eq!(pmem.crash_state().image(Survival::Fenced)[0], 1);
    }

    #[test]
    fn a_store_after_the_flush_is_not_covered_by_the_fence() {
        let (pmem, region) = shadow();
        region.store(0, 1);
        region.flush(0, 8);
        region.store(0, 2);
        region.fence().unwrap();
        let state = pmem.crash_state();
        assert_eq!(state.image(Survival::Fenced)[0], 1);
        assert_eq!(state.image(Survival::Everything)[0], 2);
    }

    #[test]
    fn streamed_words_need_a_fence_and_no_flush() {
        let (pmem, region) = shadow();
        region.write_streaming(64, &[1; 16]);
        assert_eq!(pmem.crash_state().image(Survival::Fenced)[8], 0);
        region.fence().unwrap();
        assert_eq!(pmem.crash_state().image(Survival::Fenced)[8], u64::from_le_bytes([1; 8]));
    }

    #[test]
    fn the_trace_gives_the_state_at_every_event() {
        let (pmem, region) = shadow();
        region.store_persist(0, 1).unwrap();
        region.store_persist(64, 2).unwrap();
        let mut seen = Vec::new();
        pmem.trace().unwrap().for_each_cut(|_, state| {
            let image = state.image(Survival::Fenced);
            seen.push((image[0], image[8]));
        });
        assert_eq!(seen, [(0, 0), (0, 0), (0, 0), (1, 0), (1, 0), (1, 0), (1, 2)]);
        assert_eq!(pmem.event_count(), 6);
    }

    #[test]
    fn unobserved_words_persist_with_their_line() {
        let (pmem, region) = shadow();
        region.transient_word(8).store(9, Ordering::SeqCst);
        region.store_persist(0, 1).unwrap();
        assert_eq!(pmem.crash_state().image(Survival::Fenced)[..2], [1, 9]);
    }

    #[test]
    fn a_hot_line_keeps_a_bounded_history_and_its_last_state() {
        let (pmem, region) = shadow();
        for value in 1..=1000 {
            region.store(0, value);
        }
        region.flush(0, 8);
        let state = pmem.crash_state();
        assert_eq!(state.image_count(), LINE_STATES_MAX as u64 + 1);
        assert_eq!(state.image(Survival::Everything)[0], 1000);
        region.store(0, 1001);
        region.fence().unwrap();
        assert_eq!(pmem.crash_state().image(Survival::Fenced)[0], 1000);
    }
}
