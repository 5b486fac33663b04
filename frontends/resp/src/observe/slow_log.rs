//! [`SlowLog`]: the last commands that took long.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::resp::Command;

/// Arguments of an entry that are kept, the last of them telling how many are not.
const ARGUMENTS_MAX: usize = 32;
/// Bytes of an argument that are kept.
const ARGUMENT_BYTES_MAX: usize = 128;

/// A command that took long.
#[derive(Debug, Clone)]
pub(crate) struct SlowCommand {
    pub(crate) id: u64,
    /// When it ended, in seconds of Unix time.
    pub(crate) at_secs: u64,
    pub(crate) micros: u64,
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) client: String,
    pub(crate) client_name: String,
}

/// The slow commands, the newest first.
#[derive(Default)]
pub(crate) struct SlowLog(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    next_id: u64,
    newest_first: VecDeque<SlowCommand>,
}

impl SlowLog {
    /// Adds a command, whose id is given here; at most `len_max` are kept.
    pub(crate) fn push(&self, command: SlowCommand, len_max: usize) {
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.newest_first.push_front(SlowCommand { id, ..command });
        entries.newest_first.truncate(len_max);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().newest_first.len()
    }

    pub(crate) fn clear(&self) {
        self.lock().newest_first.clear();
    }

    /// The newest entries.
    pub(crate) fn newest(&self, count: usize) -> Vec<SlowCommand> {
        self.lock().newest_first.iter().take(count).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The arguments of a request as an entry shows them; those for which `is_secret` are hidden.
pub(crate) fn shown(args: Command<'_>, is_secret: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
    let kept = if args.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { args.len() };
    let mut shown: Vec<Vec<u8>> = (0..kept)
        .map(|index| if is_secret(index) { b"(redacted)".to_vec() } else { cut(args.at(index)) })
        .collect();
    if args.len() > kept {
        shown.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    shown
}

fn cut(argument: &[u8]) -> Vec<u8> {
    match argument.split_at_checked(ARGUMENT_BYTES_MAX) {
        Some((head, rest)) if !rest.is_empty() => {
            let mut shown = head.to_vec();
            shown.extend_from_slice(format!("... ({} more bytes)", rest.len()).as_bytes());
            shown
        }
        _ => argument.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_ids_go_on() {
        let log = SlowLog::default();
        let slow = SlowCommand {
            id: 0,
            at_secs: 1,
            micros: 2,
            arguments: Vec::new(),
            client: String::new(),
            client_name: String::new(),
        };
        for _ in 0..5 {
            log.push(slow.clone(), 3);
        }
        let ids = |log: &SlowLog| log.newest(9).iter().map(|it| it.id).collect::<Vec<_>>();
        assert_eq!((ids(&log), log.len()), (vec![4, 3, 2], 3));
        log.clear();
        assert_eq!(log.len(), 0);
        log.push(slow.clone(), 3);
        assert_eq!(ids(&log), [5]);
        log.push(slow, 0);
        assert_eq!(log.len(), 0);
    }

    #[test]
    fn long_arguments_are_cut() {
        assert_eq!(cut(&[b'a'; 128]), [b'a'; 128]);
        assert_eq!(cut(&[b'a'; 130])[128..], *b"... (2 more bytes)");
    }
}
