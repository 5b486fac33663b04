//! The command table: every fact about a command, in one row.
//!
//! The rows lie beside their handlers, one slice per group; COMMAND, dispatch and the checks of
//! arity read the same rows.

use std::sync::LazyLock;

use super::{Handler, Refusal};
use crate::resp::Command;

/// A command, or a subcommand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandInfo {
    /// In lower case; `container|subcommand` for a subcommand.
    pub(crate) name: &'static str,
    /// Its own, from one on; given when the table is made.
    pub(crate) number: u16,
    /// The number of arguments, the name included; `-n` is `n` or more.
    pub(super) arity: i32,
    /// Bits of [`flag`].
    pub(super) flags: u32,
    /// Where its keys are.
    pub(super) keys: Keys,
    /// Bits of [`category`] beyond those that follow from the flags.
    pub(super) categories: u32,
    pub(super) tips: &'static [&'static str],
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) complexity: &'static str,
    pub(super) summary: &'static str,
    pub(super) subcommands: &'static [CommandInfo],
    pub(super) handler: Handler,
}

/// Where the keys of a command are among its arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// The first key; 0 if there is none.
    pub(super) first: usize,
    /// The last one; -1 is the last argument.
    pub(super) last: i32,
    pub(super) step: usize,
    /// What is done with them, in the words of COMMAND INFO.
    pub(super) access: &'static [&'static str],
    /// A remark in COMMAND INFO.
    pub(super) notes: Option<&'static str>,
}

impl Keys {
    pub(super) const NONE: Self = Self { first: 0, last: 0, step: 0, access: &[], notes: None };

    /// One key, the first argument.
    pub(super) const fn one(access: &'static [&'static str]) -> Self {
        Self { first: 1, last: 1, step: 1, access, notes: None }
    }

    /// Keys only, or every `step`-th argument.
    pub(super) const fn all(step: usize, access: &'static [&'static str]) -> Self {
        Self { first: 1, last: -1, step, access, notes: None }
    }
}

/// What a command is like, in the words of COMMAND INFO.
pub(super) mod flag {
    pub(crate) const WRITE: u32 = 1;
    pub(crate) const READONLY: u32 = 1 << 1;
    pub(crate) const DENYOOM: u32 = 1 << 2;
    pub(crate) const ADMIN: u32 = 1 << 3;
    pub(crate) const NOSCRIPT: u32 = 1 << 4;
    pub(crate) const LOADING: u32 = 1 << 5;
    pub(crate) const STALE: u32 = 1 << 6;
    pub(crate) const FAST: u32 = 1 << 7;
    pub(crate) const NO_AUTH: u32 = 1 << 8;
    pub(crate) const ALLOW_BUSY: u32 = 1 << 9;
    pub(crate) const NO_MULTI: u32 = 1 << 10;
    pub(crate) const SKIP_SLOWLOG: u32 = 1 << 11;
    pub(crate) const PUBSUB: u32 = 1 << 12;
    /// Though it writes nothing, others may see what it does. COMMAND does not show it.
    pub(crate) const MAY_REPLICATE: u32 = 1 << 13;
    pub(crate) const MOVABLE_KEYS: u32 = 1 << 14;

    pub(crate) const NO_ASYNC_LOADING: u32 = 1 << 24;
    /// It may harm: an option allows it. COMMAND does not show it.
    pub(crate) const PROTECTED: u32 = 1 << 25;

    /// In the order COMMAND INFO gives them.
    pub(crate) const NAMES: &[(u32, &str)] = &[
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (MOVABLE_KEYS, "movablekeys"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

/// The ACL categories.
pub(super) mod category {
    pub(crate) const KEYSPACE: u32 = 1 << 0;
    pub(crate) const READ: u32 = 1 << 1;
    pub(crate) const WRITE: u32 = 1 << 2;
    pub(crate) const SET: u32 = 1 << 3;
    pub(crate) const SORTEDSET: u32 = 1 << 4;
    pub(crate) const LIST: u32 = 1 << 5;
    pub(crate) const HASH: u32 = 1 << 6;
    pub(crate) const STRING: u32 = 1 << 7;
    pub(crate) const BITMAP: u32 = 1 << 8;
    pub(crate) const HYPERLOGLOG: u32 = 1 << 9;
    pub(crate) const GEO: u32 = 1 << 10;
    pub(crate) const STREAM: u32 = 1 << 11;
    pub(crate) const PUBSUB: u32 = 1 << 12;
    pub(crate) const ADMIN: u32 = 1 << 13;
    pub(crate) const FAST: u32 = 1 << 14;
    pub(crate) const SLOW: u32 = 1 << 15;
    pub(crate) const BLOCKING: u32 = 1 << 16;
    pub(crate) const DANGEROUS: u32 = 1 << 17;
    pub(crate) const CONNECTION: u32 = 1 << 18;
    pub(crate) const TRANSACTION: u32 = 1 << 19;
    pub(crate) const SCRIPTING: u32 = 1 << 20;

    /// In the order COMMAND INFO gives them.
    pub(crate) const NAMES: &[(u32, &str)] = &[
        (KEYSPACE, "@keyspace"),
        (READ, "@read"),
        (WRITE, "@write"),
        (SET, "@set"),
        (SORTEDSET, "@sortedset"),
        (LIST, "@list"),
        (HASH, "@hash"),
        (STRING, "@string"),
        (BITMAP, "@bitmap"),
        (HYPERLOGLOG, "@hyperloglog"),
        (GEO, "@geo"),
        (STREAM, "@stream"),
        (PUBSUB, "@pubsub"),
        (ADMIN, "@admin"),
        (FAST, "@fast"),
        (SLOW, "@slow"),
        (BLOCKING, "@blocking"),
        (DANGEROUS, "@dangerous"),
        (CONNECTION, "@connection"),
        (TRANSACTION, "@transaction"),
        (SCRIPTING, "@scripting"),
    ];
}

impl CommandInfo {
    /// What a row says unless it says otherwise.
    pub(super) const DEFAULT: Self = Self {
        name: "",
        number: 0,
        arity: 1,
        flags: 0,
        keys: Keys::NONE,
        categories: 0,
        tips: &[],
        group: "server",
        since: "1.0.0",
        complexity: "O(1)",
        summary: "",
        subcommands: &[],
        handler: Handler::Ping,
    };

    /// Its number, to look something up by.
    pub(crate) fn index(&self) -> usize {
        usize::from(self.number)
    }

    /// Whether `len` arguments, the name included, are a right number.
    pub(super) fn admits(&self, len: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity >= 0 { len == wanted } else { len >= wanted }
    }

    /// All ACL categories.
    pub(super) fn all_categories(&self) -> u32 {
        let follows = [
            (flag::WRITE, category::WRITE),
            (flag::READONLY, category::READ),
            (flag::ADMIN, category::ADMIN | category::DANGEROUS),
            (flag::FAST, category::FAST),
        ];
        let speed = if self.flags & flag::FAST == 0 { category::SLOW } else { 0 };
        follows
            .into_iter()
            .filter(|(flag, _)| self.flags & flag != 0)
            .fold(self.categories | speed, |all, (_, category)| all | category)
    }

    /// The name without its container.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, name)| name)
    }
}

/// In the place of a row, before one is found.
pub(super) const UNKNOWN: &CommandInfo = &CommandInfo { name: "NULL", ..CommandInfo::DEFAULT };

/// All groups.
const GROUPS: &[&[CommandInfo]] = &[
    super::acl::ROWS,
    super::bitmaps::ROWS,
    super::client::ROWS,
    super::cluster::ROWS,
    super::command::ROWS,
    super::config::ROWS,
    super::connection::ROWS,
    super::counters::ROWS,
    super::databases::ROWS,
    super::debug::ROWS,
    super::expiry::ROWS,
    super::functions::ROWS,
    super::hyperloglog::ROWS,
    super::info::ROWS,
    super::keys::ROWS,
    super::keyspace::ROWS,
    super::latency::ROWS,
    super::lcs::ROWS,
    super::memory::ROWS,
    super::monitor::ROWS,
    super::object::ROWS,
    super::payloads::ROWS,
    super::pubsub::ROWS,
    super::replication::ROWS,
    super::saves::ROWS,
    super::scan::ROWS,
    super::server::ROWS,
    super::slow_log::ROWS,
    super::sort::ROWS,
    super::strings::ROWS,
    super::transactions::ROWS,
];

/// All rows, numbered, without subcommands; those are numbered behind their container.
static ROWS: LazyLock<Box<[CommandInfo]>> = LazyLock::new(|| {
    let mut last = 0;
    let mut numbered = |row: &CommandInfo| {
        last += 1;
        CommandInfo { number: last, ..*row }
    };
    let rows = GROUPS.iter().flat_map(|rows| rows.iter()).map(|row| {
        let row = numbered(row);
        let subcommands = row.subcommands.iter().map(&mut numbered).collect::<Vec<_>>();
        CommandInfo { subcommands: Vec::leak(subcommands), ..row }
    });
    rows.collect()
});

/// All rows by their numbers, subcommands among them; the first stands for none.
static BY_NUMBER: LazyLock<Box<[&'static CommandInfo]>> = LazyLock::new(|| {
    let rows = all().flat_map(|row| std::iter::once(row).chain(row.subcommands));
    std::iter::once(UNKNOWN).chain(rows).collect()
});

/// All commands, without subcommands.
pub(super) fn all() -> impl Iterator<Item = &'static CommandInfo> + Clone {
    ROWS.iter()
}

/// All commands and subcommands by their numbers; the first stands for none.
pub(crate) fn by_number() -> &'static [&'static CommandInfo] {
    &BY_NUMBER
}

/// The row a request is for.
///
/// # Errors
/// The refusal of an unknown command or subcommand, or of a wrong number of arguments.
#[inline]
pub(super) fn find(args: Command<'_>) -> Result<&'static CommandInfo, Refusal> {
    let Some(mut info) = by_name(args.at(0)) else { return Err(unknown(args)) };
    if !info.subcommands.is_empty()
        && let Some(name) = args.get(1)
    {
        info = subcommand(info, name).ok_or_else(|| unknown_subcommand(info, name))?;
    }
    if info.admits(args.len()) { Ok(info) } else { Err(Refusal::wrong_arity(info.name)) }
}

/// The row a request is for, though it may not be of the right number of arguments.
pub(super) fn named_by(args: Command<'_>) -> Option<&'static CommandInfo> {
    let info = by_name(args.at(0))?;
    match args.get(1) {
        Some(name) if !info.subcommands.is_empty() => subcommand(info, name),
        _ => Some(info),
    }
}

/// The row of a command of that name, in any case.
pub(super) fn by_name(name: &[u8]) -> Option<&'static CommandInfo> {
    INDEX.get(name)
}

/// The row of a subcommand, in any case.
pub(super) fn subcommand(info: &CommandInfo, name: &[u8]) -> Option<&'static CommandInfo> {
    info.subcommands.iter().find(|it| name.eq_ignore_ascii_case(it.short_name().as_bytes()))
}

/// The row of `name` or `container|subcommand`.
pub(super) fn by_full_name(name: &[u8]) -> Option<&'static CommandInfo> {
    match name.iter().position(|&byte| byte == b'|') {
        None => by_name(name),
        Some(bar) => subcommand(by_name(&name[..bar])?, &name[bar + 1..]),
    }
}

/// The keys of a request, as its row tells where they are.
pub(super) fn keys<'a>(
    info: &CommandInfo,
    args: Command<'a>,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let last = match usize::try_from(info.keys.last) {
        Ok(last) => last,
        Err(_) => args.len().saturating_sub(info.keys.last.unsigned_abs() as usize),
    };
    let first = if info.keys.first == 0 { usize::MAX } else { info.keys.first };
    let step = info.keys.step.max(1);
    (first..=last).step_by(step).filter_map(move |index| args.get(index))
}

static INDEX: LazyLock<Index> = LazyLock::new(Index::new);

/// Slots of the index; several times the number of commands.
const SLOTS: usize = 512;
/// The longest name of a command; a name is held in one word.
const NAME_BYTES_MAX: usize = 15;

/// Rows by name: open addressing over names folded into one word.
struct Index {
    slots: [Option<(u128, &'static CommandInfo)>; SLOTS],
}

impl Index {
    fn new() -> Self {
        let mut slots = [None; SLOTS];
        for info in all() {
            let Some(word) = fold(info.name.as_bytes()) else { continue };
            let mut slot = first_slot(word);
            while slots[slot].is_some() {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = Some((word, info));
        }
        Self { slots }
    }

    #[inline]
    fn get(&self, name: &[u8]) -> Option<&'static CommandInfo> {
        let word = fold(name)?;
        let mut slot = first_slot(word);
        // The table is never full.
        while let Some((known, info)) = self.slots[slot] {
            if known == word {
                return Some(info);
            }
            slot = (slot + 1) % SLOTS;
        }
        None
    }
}

/// A name in lower case as one word; `None` if it is too long to be one.
///
/// The word begins with a one, so that zero bytes in front make another name.
#[inline]
fn fold(name: &[u8]) -> Option<u128> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut word = 1_u128;
    for &byte in name {
        word = word << 8 | u128::from(byte.to_ascii_lowercase());
    }
    Some(word)
}

#[inline]
fn first_slot(word: u128) -> usize {
    let mixed = (word as u64 ^ (word >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as usize % SLOTS
}

/// How much of a request an error shows.
const SHOWN_BYTES: usize = 128;

#[cold]
fn unknown(args: Command<'_>) -> Refusal {
    let mut shown = String::new();
    for argument in args.from(1) {
        if shown.len() >= SHOWN_BYTES {
            break;
        }
        let room = SHOWN_BYTES - shown.len();
        let argument = argument.get(..room).unwrap_or(argument);
        shown.push('\'');
        shown.push_str(&String::from_utf8_lossy(argument));
        shown.push_str("' ");
    }
    let name = args.at(0);
    let name = String::from_utf8_lossy(name.get(..SHOWN_BYTES).unwrap_or(name)).into_owned();
    Refusal::Text(format!("ERR unknown command '{name}', with args beginning with: {shown}").into())
}

#[cold]
fn unknown_subcommand(info: &CommandInfo, name: &[u8]) -> Refusal {
    let name = String::from_utf8_lossy(name.get(..SHOWN_BYTES).unwrap_or(name)).into_owned();
    let container = info.name.to_ascii_uppercase();
    Refusal::Text(format!("ERR unknown subcommand '{name}'. Try {container} HELP.").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_under_its_name_and_the_rows_make_sense() {
        for info in all() {
            let upper = info.name.to_ascii_uppercase();
            assert_eq!(by_name(upper.as_bytes()).map(|it| it.name), Some(info.name));
            for row in std::iter::once(info).chain(info.subcommands) {
                assert!(!row.summary.is_empty() && row.arity != 0, "{}", row.name);
                assert!(std::ptr::eq(by_number()[usize::from(row.number)], row), "{}", row.name);
                assert_eq!(row.name, row.name.to_ascii_lowercase());
                let has_keys = row.keys.first > 0;
                assert_eq!(has_keys, !row.keys.access.is_empty(), "{}", row.name);
                let tells_access = row.flags & (flag::WRITE | flag::READONLY | flag::PUBSUB) != 0;
                assert!(!has_keys || tells_access || row.name == "watch", "{}", row.name);
            }
        }
        let mut names: Vec<&str> = all().map(|info| info.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a command has two rows");
        assert!(by_name(b"nosuch").is_none());
        assert!(by_name(b"averyveryverylongname").is_none());
        assert!(by_name(b"").is_none());
        assert!(by_name(b"\0get").is_none());
    }
}
