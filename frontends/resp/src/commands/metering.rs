//! How often each command runs and how long it takes; what takes long is told to the slow log and the
//! latency monitor.

use std::time::Duration;

use super::table::{self, CommandInfo, flag};
use super::{Context, Handler, Outcome};
use crate::observe::{Distribution, SlowCommand, Taken, slow_log};
use crate::resp::Command;
use crate::session::Session;
use crate::shared::Shared;

/// Below this threshold of the slow log commands are timed one by one.
const EXACT_MICROS: i64 = 1000;

/// What a command in hand is timed by.
pub(super) struct Timing {
    /// Of a command inside another: when it began.
    inner_since: Option<Duration>,
    is_inside: bool,
}

/// Takes note that the command in hand begins.
#[inline]
pub(super) fn begin(cx: &mut Context<'_>) -> Timing {
    let is_inside = cx.session.meter.enter();
    if is_inside {
        return Timing { inner_since: Some(now(cx.shared)), is_inside };
    }
    if cx.session.meter.must_close_before(cx.info.number) {
        close(cx.shared, cx.session, None);
    }
    Timing { inner_since: None, is_inside }
}

/// Takes note that the command in hand has ended.
#[inline]
pub(super) fn end(cx: &mut Context<'_>, timing: &Timing, outcome: &Outcome) {
    if outcome.is_err()
        && let Some(stats) = cx.stats().by_command.get(cx.info.index())
    {
        stats.failed.add(1);
    }
    cx.session.meter.leave(timing.is_inside);
    let number = cx.info.number;
    if let Some(since) = timing.inner_since {
        let time = now(cx.shared).saturating_sub(since);
        account(cx.shared, cx.session, Taken { number, calls: 1, time }, Some(cx.args));
    } else {
        let is_exact = !is_quick(cx.info) || is_exact_time_asked(cx.shared);
        if cx.session.meter.count(number, 1, is_exact) {
            close(cx.shared, cx.session, Some(cx.args));
        }
    }
}

/// Counts GETs that ran together.
pub(crate) fn count_gets(shared: &Shared, session: &mut Session, calls: usize) {
    let number = table::by_name(b"get").map_or(0, |info| info.number);
    if session.meter.must_close_before(number) {
        close(shared, session, None);
    }
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    session.meter.count(number, calls, false);
}

/// Begins a batch of commands; the time.
#[inline]
pub(crate) fn begin_batch(shared: &Shared, session: &mut Session) -> Duration {
    let now = now(shared);
    session.meter.start(now);
    now
}

/// Ends a batch of commands; `last` is asked for the last of them, if it took long.
#[inline]
pub(crate) fn end_batch(shared: &Shared, session: &mut Session) -> Option<Taken> {
    if !session.meter.is_open() {
        return None;
    }
    let taken = session.meter.close(now(shared))?;
    count(shared, session, taken);
    is_slow(shared, taken.time).then_some(taken)
}

/// Takes note of a command that took long and was counted.
#[cold]
pub(crate) fn note_slow(shared: &Shared, session: &Session, taken: Taken, args: Command<'_>) {
    note(shared, session, taken, Some(args));
}

/// Counts a request that was refused before it ran.
#[cold]
pub(super) fn count_rejected(cx: &Context<'_>) {
    let info = table::named_by(cx.args);
    if let Some(stats) = info.and_then(|info| cx.stats().by_command.get(info.index())) {
        stats.rejected.add(1);
    }
}

/// How the times of a command are distributed.
pub(super) fn distribution(shared: &Shared, row: &CommandInfo) -> Distribution {
    let mut distribution = Distribution::default();
    for stats in &*shared.stats {
        if let Some(latencies) = stats.by_command.get(row.index()).and_then(|it| it.latencies.get())
        {
            distribution.add(latencies);
        }
    }
    distribution
}

fn now(shared: &Shared) -> Duration {
    shared.host.env.clock.monotonic()
}

/// Whether a command takes microseconds at most unless something is wrong.
fn is_quick(info: &CommandInfo) -> bool {
    // What a message takes hangs on how many it goes to.
    let is_fast = info.flags & (flag::FAST | flag::PUBSUB) == flag::FAST;
    is_fast || matches!(info.handler, Handler::Set | Handler::SetEx)
}

fn is_exact_time_asked(shared: &Shared) -> bool {
    let threshold = shared.settings.slowlog_log_slower_than.get();
    (0..EXACT_MICROS).contains(&threshold) || shared.settings.latency_monitor_threshold.get() > 0
}

/// Reads the clock, and accounts for what ran since it was last read.
fn close(shared: &Shared, session: &mut Session, args: Option<Command<'_>>) {
    if let Some(taken) = session.meter.close(now(shared)) {
        account(shared, session, taken, args);
    }
}

fn account(shared: &Shared, session: &Session, taken: Taken, args: Option<Command<'_>>) {
    count(shared, session, taken);
    if is_slow(shared, taken.time) {
        note(shared, session, taken, args);
    }
}

fn count(shared: &Shared, session: &Session, taken: Taken) {
    let nanos = u64::try_from(taken.time.as_nanos()).unwrap_or(u64::MAX);
    let in_histogram = shared.settings.latency_tracking.get();
    let stats = &shared.stats[session.worker];
    stats.count_calls(taken.number, taken.calls, nanos, in_histogram);
}

/// Whether commands that took so long together are to be taken note of.
fn is_slow(shared: &Shared, time: Duration) -> bool {
    let slower_than = shared.settings.slowlog_log_slower_than.get();
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let threshold = shared.settings.latency_monitor_threshold.get();
    slower_than >= 0 && micros >= slower_than || threshold > 0 && millis >= threshold
}

/// Tells the slow log and the latency monitor. Without `args` all that is known is the command's
/// name: several were timed together, and one of them took long.
#[cold]
fn note(shared: &Shared, session: &Session, taken: Taken, args: Option<Command<'_>>) {
    let Some(info) = table::by_number().get(usize::from(taken.number)) else { return };
    let at_secs = shared.host.env.clock.now().0 / 1000;
    let micros = u64::try_from(taken.time.as_micros()).unwrap_or(u64::MAX);
    let threshold = shared.settings.latency_monitor_threshold.get_unsigned();
    if threshold > 0 && micros / 1000 >= threshold {
        let event = if info.flags & flag::FAST != 0 { "fast-command" } else { "command" };
        shared.latency.add(event, at_secs, micros / 1000);
    }
    let slower_than = shared.settings.slowlog_log_slower_than.get();
    // The commands of a transaction are logged, not the transaction.
    let is_logged = u64::try_from(slower_than).is_ok_and(|slower_than| micros >= slower_than)
        && info.flags & flag::SKIP_SLOWLOG == 0;
    if is_logged {
        let arguments = match args {
            Some(args) => slow_log::shown(args, |index| is_secret(info, args, index)),
            None => vec![info.name.as_bytes().to_vec()],
        };
        let command = SlowCommand {
            id: 0,
            at_secs,
            micros,
            arguments,
            client: session.client.peer.to_string(),
            client_name: session.client.identity().name,
        };
        let len_max = usize::try_from(shared.settings.slowlog_max_len.get()).unwrap_or(0);
        shared.slow_log.push(command, len_max);
    }
}

/// Whether an argument must not be shown: a password, or what names a user.
fn is_secret(info: &CommandInfo, args: Command<'_>, index: usize) -> bool {
    let is = |index: usize, name: &[u8]| {
        args.get(index).is_some_and(|argument| argument.eq_ignore_ascii_case(name))
    };
    let is_behind = |name: &[u8], distance: usize| index > distance && is(index - distance, name);
    match info.name {
        "auth" => index > 0,
        "hello" => is_behind(b"auth", 1) || is_behind(b"auth", 2),
        "acl|setuser" | "acl|deluser" | "acl|getuser" => index > 1,
        "config|set" => {
            index >= 3
                && index % 2 == 1
                && [b"requirepass".as_slice(), b"masterauth", b"masteruser", b"tls-key-file-pass"]
                    .iter()
                    .any(|name| is(index - 1, name))
        }
        "migrate" => is_behind(b"auth", 1) || is_behind(b"auth2", 1) || is_behind(b"auth2", 2),
        _ => false,
    }
}
