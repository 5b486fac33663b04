//! [`Pause`]: the clients' commands put off for a while (CLIENT PAUSE).

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use crate::client::lock;

/// Which commands wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Paused {
    /// Those that write, or that others may see.
    Writes,
    All,
}

/// A pause, if there is one.
#[derive(Default)]
pub(crate) struct Pause {
    /// Which commands, and until when on the monotonic clock.
    state: Mutex<Option<(Paused, Duration)>>,
    ended: Notify,
}

impl Pause {
    /// Begins a pause, or widens and prolongs the one there is.
    /// `tell` runs before anybody else can change it.
    pub(crate) fn begin(&self, what: Paused, now: Duration, until: Duration, tell: impl FnOnce()) {
        let mut state = lock(&self.state);
        let (what, until) = match *state {
            Some((before, end)) if end > now => (what.max(before), until.max(end)),
            _ => (what, until),
        };
        *state = Some((what, until));
        tell();
    }

    /// Ends the pause: whoever waits goes on. `tell` runs before anybody else can change it.
    pub(crate) fn end(&self, tell: impl FnOnce()) {
        let mut state = lock(&self.state);
        *state = None;
        tell();
        drop(state);
        self.ended.notify_waiters();
    }

    /// What is paused; if nothing is any more, `tell` runs before anybody else can change it.
    pub(crate) fn check(&self, now: Duration, tell: impl FnOnce()) -> Option<Paused> {
        let mut state = lock(&self.state);
        let current = state.filter(|(_, until)| *until > now);
        if current.is_none() {
            *state = None;
            tell();
        }
        current.map(|(what, _)| what)
    }

    /// What is paused, and until when.
    pub(crate) fn current(&self, now: Duration) -> Option<(Paused, Duration)> {
        lock(&self.state).filter(|(_, until)| *until > now)
    }

    /// Waits until there may be no pause any more.
    pub(crate) async fn over(&self, now: Duration) {
        let ended = self.ended.notified();
        let Some((_, until)) = self.current(now) else { return };
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep(until.saturating_sub(now)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_only_ever_widened_and_prolonged() {
        let at = Duration::from_secs;
        let pause = Pause::default();
        assert_eq!(pause.current(at(0)), None);
        let begin = |what, now, until| pause.begin(what, at(now), at(until), || {});
        begin(Paused::All, 0, 10);
        begin(Paused::Writes, 1, 5);
        assert_eq!(pause.current(at(2)), Some((Paused::All, at(10))));
        begin(Paused::Writes, 3, 20);
        assert_eq!(pause.current(at(15)), Some((Paused::All, at(20))));
        assert_eq!(pause.current(at(20)), None);
        begin(Paused::Writes, 21, 30);
        assert_eq!(pause.current(at(22)), Some((Paused::Writes, at(30))));
        pause.end(|| {});
        assert_eq!(pause.current(at(22)), None);
    }
}
