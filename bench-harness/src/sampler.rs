//! [`Sampler`]: what a run does from second to second, so that stalls show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ferrokit_engine::{Env, Error, Result, block_on};
use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// The distance of two samples.
const EVERY: Duration = Duration::from_secs(1);
/// How often a sampler looks whether the run is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the first operation.
    pub t_s: f64,
    /// Operations done until then.
    pub operations: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Bytes written to storage until then.
    pub written_bytes: u64,
}

/// A counter in a cache line of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Counter(AtomicU64);

/// How many operations each thread has done.
#[derive(Debug, Clone)]
pub struct Progress(Arc<[Counter]>);

impl Progress {
    /// Of `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Counter::default()).collect())
    }

    /// Thread `thread` has done `operations`.
    #[inline]
    pub fn set(&self, thread: usize, operations: u64) {
        if let Some(Counter(counter)) = self.0.get(thread) {
            counter.store(operations, Ordering::Relaxed);
        }
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|Counter(counter)| counter.load(Ordering::Relaxed)).sum()
    }
}

/// Takes samples on a thread of its own.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    samples: std::sync::mpsc::Receiver<Sample>,
    last: Box<dyn FnOnce(Duration) -> Result<Sample>>,
}

impl Sampler {
    /// Begins.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(env: &Env, progress: &Progress) -> Result<Self> {
        let written_before = Usage::now()?.written_bytes;
        let sample = {
            let progress = progress.clone();
            move |t: Duration| {
                let usage = Usage::now()?;
                Ok(Sample {
                    t_s: t.as_secs_f64(),
                    operations: progress.total(),
                    rss_bytes: usage.rss_bytes,
                    written_bytes: usage.written_bytes.saturating_sub(written_before),
                })
            }
        };
        let (sender, samples) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let last = Box::new(sample.clone());
        let (clock, timer) = (Arc::clone(&env.clock), Arc::clone(&env.timer));
        let stopped = Arc::clone(&stop);
        let body = move || {
            let begin = clock.monotonic();
            let mut next = EVERY;
            while !stopped.load(Ordering::Relaxed) {
                block_on(timer.sleep(LOOK_EVERY));
                let t = clock.monotonic().saturating_sub(begin);
                if t >= next {
                    next += EVERY;
                    if let Ok(sample) = sample(t) {
                        // Nobody listens any more: the run failed.
                        let _ = sender.send(sample);
                    }
                }
            }
        };
        let thread = env
            .spawner
            .spawn("bench-sampler", Box::new(body))
            .map_err(|error| Error::io("bench.sampler", error))?;
        Ok(Self { stop, thread, samples, last })
    }

    /// Ends with a sample of the run's end, `elapsed` behind its begin.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self, elapsed: Duration) -> Result<Vec<Sample>> {
        let last = (self.last)(elapsed)?;
        self.stop.store(true, Ordering::Relaxed);
        // A sampler that panicked has sent what it had.
        let _ = self.thread.join();
        let mut samples: Vec<Sample> = self.samples.iter().collect();
        samples.retain(|sample| sample.t_s < last.t_s);
        samples.push(last);
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_a_second_apart_and_end_with_the_run() {
        let env = Env::system();
        let progress = Progress::new(2);
        let sampler = Sampler::start(&env, &progress).unwrap();
        progress.set(0, 5);
        block_on(env.timer.sleep(Duration::from_millis(1200)));
        progress.set(1, 7);
        let samples = sampler.finish(Duration::from_millis(1300)).unwrap();
        assert_eq!(samples.len(), 2, "{samples:?}");
        assert_eq!((samples[0].operations, samples[1].operations), (5, 12));
        assert!((1.0..1.2).contains(&samples[0].t_s), "{samples:?}");
        assert_eq!(samples[1].t_s, 1.3);
    }
}
