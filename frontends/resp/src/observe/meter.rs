//! [`Meter`]: what the commands of a session took.
//!
//! Reading the clock costs a few percent of a short command. So the commands of one kind that follow
//! each other in a batch are timed together, a few at a time, as long as they are quick by nature and
//! nobody asks for exact times (the latency monitor is off, and the slow log begins well above what
//! they take).

use std::time::Duration;

/// Commands timed together, at most.
const TOGETHER_MAX: u32 = 16;

/// What commands of one kind took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The number of their row.
    pub(crate) number: u16,
    pub(crate) calls: u32,
    /// All of them together.
    pub(crate) time: Duration,
}

/// What the commands of a session take.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the clock was last read.
    since: Duration,
    /// The kind of the commands that ran since then.
    number: u16,
    calls: u32,
    /// A command runs: what runs now is part of it.
    is_running: bool,
}

impl Meter {
    /// Begins a batch.
    pub(crate) fn start(&mut self, now: Duration) {
        *self = Self { since: now, ..Self::default() };
    }

    /// When the clock was last read.
    #[inline]
    pub(crate) fn seen(&self) -> Duration {
        self.since
    }

    /// Whether a command of another kind ran since the clock was last read: then it is to be read.
    #[inline]
    pub(crate) fn must_close_before(&self, number: u16) -> bool {
        self.calls > 0 && self.number != number
    }

    /// Counts commands of one kind that ran since; whether the clock is to be read now.
    #[inline]
    pub(crate) fn count(&mut self, number: u16, calls: u32, is_exact: bool) -> bool {
        self.number = number;
        self.calls += calls;
        is_exact || self.calls >= TOGETHER_MAX
    }

    /// Takes what ran since the clock was last read, and goes on from `now`.
    pub(crate) fn close(&mut self, now: Duration) -> Option<Taken> {
        let time = now.saturating_sub(self.since);
        self.since = now;
        let calls = std::mem::take(&mut self.calls);
        (calls > 0).then_some(Taken { number: self.number, calls, time })
    }

    /// Whether commands ran that were not taken account of.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.calls > 0
    }

    /// Enters a command; whether it is part of another.
    #[inline]
    pub(crate) fn enter(&mut self) -> bool {
        std::mem::replace(&mut self.is_running, true)
    }

    #[inline]
    pub(crate) fn leave(&mut self, was_running: bool) {
        self.is_running = was_running;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_one_kind_are_timed_together_and_others_apart() {
        let at = Duration::from_micros;
        let mut meter = Meter::default();
        meter.start(at(10));
        for _ in 1..TOGETHER_MAX {
            assert!(!meter.must_close_before(1));
            assert!(!meter.count(1, 1, false));
        }
        assert!(meter.count(1, 1, false));
        let taken = meter.close(at(42)).unwrap();
        assert_eq!(taken, Taken { number: 1, calls: TOGETHER_MAX, time: at(32) });
        assert!(!meter.count(1, 1, false) && meter.must_close_before(2));
        assert_eq!(meter.close(at(50)).unwrap().time, at(8));
        assert!(meter.count(2, 1, true));
        assert_eq!(meter.close(at(51)).unwrap().number, 2);
        assert_eq!(meter.close(at(52)), None);
    }
}
