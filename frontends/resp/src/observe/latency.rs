//! [`LatencyMonitor`]: events that took longer than a threshold, by their kind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Samples kept of an event.
const SAMPLES_MAX: usize = 160;

/// The longest time an event took within one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// In seconds of Unix time.
    pub(crate) at_secs: u64,
    pub(crate) millis: u64,
}

/// The samples of an event, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub(crate) samples: VecDeque<Sample>,
    /// The longest of all times, kept or not.
    pub(crate) longest_millis: u64,
}

/// What took long, by event.
#[derive(Default)]
pub(crate) struct LatencyMonitor(Mutex<BTreeMap<&'static str, Series>>);

impl LatencyMonitor {
    pub(crate) fn add(&self, event: &'static str, at_secs: u64, millis: u64) {
        let mut events = self.lock();
        let series = events.entry(event).or_default();
        series.longest_millis = series.longest_millis.max(millis);
        match series.samples.back_mut() {
            Some(last) if last.at_secs == at_secs => last.millis = last.millis.max(millis),
            _ => {
                if series.samples.len() == SAMPLES_MAX {
                    series.samples.pop_front();
                }
                series.samples.push_back(Sample { at_secs, millis });
            }
        }
    }

    /// The series of an event, if there is one of that name, in any case.
    pub(crate) fn series(&self, event: &[u8]) -> Option<(&'static str, Series)> {
        let is_it = |name: &str| event.eq_ignore_ascii_case(name.as_bytes());
        let events = self.lock();
        let found = events.iter().find(|(name, _)| is_it(name));
        found.map(|(name, series)| (*name, series.clone()))
    }

    pub(crate) fn all(&self) -> Vec<(&'static str, Series)> {
        self.lock().iter().map(|(name, series)| (*name, series.clone())).collect()
    }

    /// Forgets an event, or all; how many there were.
    pub(crate) fn reset(&self, event: Option<&[u8]>) -> usize {
        let mut events = self.lock();
        let before = events.len();
        events.retain(|name, _| {
            event.is_some_and(|event| !event.eq_ignore_ascii_case(name.as_bytes()))
        });
        before - events.len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_sample_and_the_oldest_go() {
        let monitor = LatencyMonitor::default();
        monitor.add("command", 1, 7);
        monitor.add("command", 1, 9);
        monitor.add("command", 1, 8);
        let (_, series) = monitor.series(b"COMMAND").unwrap();
        assert_eq!(series.samples, [Sample { at_secs: 1, millis: 9 }]);
        for second in 2..=SAMPLES_MAX as u64 + 1 {
            monitor.add("command", second, 1);
        }
        let (_, series) = monitor.series(b"command").unwrap();
        assert_eq!((series.samples.len(), series.longest_millis), (SAMPLES_MAX, 9));
        assert_eq!(series.samples[0].at_secs, 2);
        monitor.add("fast-command", 5, 1);
        assert_eq!(monitor.reset(Some(b"nothing")), 0);
        assert_eq!(monitor.reset(Some(b"Command")), 1);
        assert_eq!(monitor.reset(None), 1);
        assert!(monitor.all().is_empty());
    }
}
