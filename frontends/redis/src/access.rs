//! `AccessTable`: when, or how often, keys were accessed: for OBJECT IDLETIME and FREQ, and for
//! the eviction policies.
//!
//! One word per slot, slots chosen by a key's hash: of keys that share a slot the last access
//! counts for all. So a key may be taken for more recently used than it is, never for less: an
//! eviction picks wrongly only in favour of a cold key.
//!
//! A slot holds the second of the last access in its upper 24 bits and in its lower 8 the
//! logarithmic frequency counter of Redis' LFU (Morris, "Counting large numbers of events in small
//! registers", 1978), which decays with the minutes that pass.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::stripes::KeyHash;

/// Slots: 256 KiB of them, so that they stay in a core's cache.
const SLOTS: usize = 1 << 16;
/// The counter of a key that was just made, so that it is not the first to go.
const NEW_FREQUENCY: u8 = 5;
const SECOND_MASK: u32 = (1 << 24) - 1;

/// How frequencies are counted (`lfu-log-factor`, `lfu-decay-time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrequencyOptions {
    /// How many accesses a step of the counter takes; more at each step.
    pub log_factor: u32,
    /// Minutes after which the counter falls by one; 0 never.
    pub decay_minutes: u32,
}

impl Default for FrequencyOptions {
    fn default() -> Self {
        Self { log_factor: 10, decay_minutes: 1 }
    }
}

/// When and how often keys were accessed, by their hashes.
pub(crate) struct AccessTable {
    slots: Box<[AtomicU32]>,
}

impl AccessTable {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU32::new(0)).collect() }
    }

    #[inline]
    fn slot(&self, hash: KeyHash) -> &AtomicU32 {
        &self.slots[hash.0 as usize % SLOTS]
    }

    /// Takes note of an access at `second` (since the store was opened, plus one).
    #[inline]
    pub(crate) fn note(&self, hash: KeyHash, second: u32) {
        let slot = self.slot(hash);
        let before = slot.load(Ordering::Relaxed);
        let now = second & SECOND_MASK;
        // Within a second once: a hot key's line stays shared between the cores.
        if before >> 8 != now {
            let counter = if before == 0 { u32::from(NEW_FREQUENCY) } else { before & 0xFF };
            slot.store(now << 8 | counter, Ordering::Relaxed);
        }
    }

    /// Counts an access, too: where frequencies matter. `random` is uniform.
    #[inline]
    pub(crate) fn count(&self, hash: KeyHash, second: u32, random: u64, options: FrequencyOptions) {
        let slot = self.slot(hash);
        let before = slot.load(Ordering::Relaxed);
        let counter = incremented(frequency(before, second, options), random, options.log_factor);
        slot.store((second & SECOND_MASK) << 8 | u32::from(counter), Ordering::Relaxed);
    }

    /// Sets what is known of a key (RESTORE with IDLETIME or FREQ).
    pub(crate) fn set(&self, hash: KeyHash, second: u32, counter: Option<u8>) {
        let slot = self.slot(hash);
        let kept = (slot.load(Ordering::Relaxed) & 0xFF) as u8;
        let counter = u32::from(counter.unwrap_or(kept));
        slot.store((second & SECOND_MASK) << 8 | counter, Ordering::Relaxed);
    }

    /// Seconds since the last access.
    pub(crate) fn idle_secs(&self, hash: KeyHash, second: u32) -> u32 {
        let last = self.slot(hash).load(Ordering::Relaxed) >> 8;
        (second & SECOND_MASK).wrapping_sub(last) & SECOND_MASK
    }

    /// The frequency counter, decayed until now.
    pub(crate) fn frequency(&self, hash: KeyHash, second: u32, options: FrequencyOptions) -> u8 {
        frequency(self.slot(hash).load(Ordering::Relaxed), second, options)
    }
}

fn frequency(slot: u32, second: u32, options: FrequencyOptions) -> u8 {
    if slot == 0 {
        return NEW_FREQUENCY;
    }
    let idle_minutes = ((second & SECOND_MASK).wrapping_sub(slot >> 8) & SECOND_MASK) / 60;
    let steps = idle_minutes.checked_div(options.decay_minutes).unwrap_or(0);
    (slot as u8).saturating_sub(u8::try_from(steps).unwrap_or(u8::MAX))
}

/// One step up, with a probability that falls with the counter.
fn incremented(counter: u8, random: u64, log_factor: u32) -> u8 {
    let base = f64::from(counter.saturating_sub(NEW_FREQUENCY));
    let probability = 1.0 / (base * f64::from(log_factor) + 1.0);
    let is_up = (random >> 11) as f64 / ((1_u64 << 53) as f64) < probability;
    counter.saturating_add(u8::from(is_up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_since_the_last_access() {
        let table = AccessTable::new();
        table.note(KeyHash(7), 100);
        assert_eq!(table.idle_secs(KeyHash(7), 160), 60);
        table.note(KeyHash(7), 150);
        assert_eq!(table.idle_secs(KeyHash(7), 160), 10);
    }

    #[test]
    fn frequencies_grow_ever_more_slowly_and_decay() {
        let (table, options) = (AccessTable::new(), FrequencyOptions::default());
        assert_eq!(table.frequency(KeyHash(1), 1, options), NEW_FREQUENCY);
        let mut random = 1_u64;
        for _ in 0..1000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            table.count(KeyHash(1), 1, random, options);
        }
        let counter = table.frequency(KeyHash(1), 1, options);
        assert!((12..25).contains(&counter), "{counter} after 1000 accesses");
        assert_eq!(table.frequency(KeyHash(1), 1 + 180, options), counter - 3);
        assert_eq!(table.frequency(KeyHash(1), 1 + 60 * 300, options), 0);
    }
}
