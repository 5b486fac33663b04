//! SCAN.

use ferrokit_engine::{Entry, SweepCursor, Swept};
use ferrokit_redis::{Type, Value, glob};

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::resp::{Protocol, Reply, push_integer};

/// Entries of a step where the client does not say.
const COUNT: usize = 10;
/// The most entries of a step: a larger COUNT is taken as a wish for many.
const COUNT_MAX: usize = 100_000;

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "scan",
    arity: -2,
    flags: flag::READONLY,
    categories: category::KEYSPACE,
    tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
    group: "generic",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration.",
    summary: "Iterates over the key names in the database.",
    handler: Handler::Scan,
    ..CommandInfo::DEFAULT
}];

struct ScanOptions<'c> {
    pattern: Option<&'c [u8]>,
    budget: usize,
    /// In lower case.
    kind: Option<Vec<u8>>,
}

impl ScanOptions<'_> {
    fn wants(&self, key: &[u8], entry: Entry<'_>) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, key))
            && self.kind.as_deref().is_none_or(|kind| {
                let name = Value::decode(entry.value).kind().map(Type::name);
                name.is_some_and(|name| kind == name.as_bytes())
            })
    }
}

fn parse<'c>(cx: &Context<'c>) -> Result<ScanOptions<'c>, Refusal> {
    let mut options = ScanOptions { pattern: None, budget: COUNT, kind: None };
    for index in (2..cx.args.len()).step_by(2) {
        let (option, Some(value)) = (cx.args.at(index), cx.args.get(index + 1)) else {
            return Err(Refusal::SYNTAX);
        };
        if option.eq_ignore_ascii_case(b"count") {
            let count = cx.integer(index + 1)?;
            if count < 1 {
                return Err(Refusal::SYNTAX);
            }
            options.budget = usize::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX);
        } else if option.eq_ignore_ascii_case(b"match") {
            options.pattern = (value != b"*").then_some(value);
        } else if option.eq_ignore_ascii_case(b"type") {
            options.kind = Some(value.to_ascii_lowercase());
        } else {
            return Err(Refusal::SYNTAX);
        }
    }
    Ok(options)
}

fn cursor_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(super) async fn scan(cx: &mut Context<'_>) -> Outcome {
    let number = cursor_number(cx.args.at(1)).ok_or(Refusal::text("ERR invalid cursor"))?;
    let options = parse(cx)?;
    let keyspace = cx.session.keyspace;
    let cursor = match number {
        0 => SweepCursor::start(),
        number => cx.shared.cursors.get(number, keyspace).ok_or(Refusal::text(
            "ERR invalid cursor: it is of another database or was forgotten; start again from 0",
        ))?,
    };
    let step = sweep(cx, &cursor, &options).await?;
    let next = step.swept.next.map_or(0, |next| cx.shared.cursors.insert(keyspace, next));
    if step.keys.has_overflowed() {
        cx.reply.overflow();
    }
    let mut text = Vec::new();
    push_integer(&mut text, i64::try_from(next).unwrap_or(i64::MAX));
    cx.reply.array(2);
    cx.reply.bulk(&text);
    cx.reply.array(step.count);
    cx.reply.raw(step.keys.unsent());
    Ok(())
}

/// What one step found.
struct Step {
    swept: Swept,
    /// The keys, as replies.
    keys: Reply,
    count: usize,
}

/// Sweeps from `cursor` on, over fewer entries than asked for where their keys are many bytes.
///
/// A visitor cannot end a sweep, so one that finds too much is thrown away and repeated over the
/// entries that did fit, at least one: each try is at most half as long as the one before.
async fn sweep(
    cx: &mut Context<'_>,
    cursor: &SweepCursor,
    options: &ScanOptions<'_>,
) -> Result<Step, Refusal> {
    let limits = &cx.shared.limits;
    let mut budget = options.budget;
    loop {
        let is_last_try = budget == 1;
        let limit_bytes = if is_last_try { limits.output_hard_bytes } else { limits.scan_bytes };
        let mut keys = Reply::new(Protocol::Resp2, limit_bytes);
        let (mut count, mut fitting) = (0, 0);
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            if options.wants(key, entry) {
                keys.bulk(key);
                count += 1;
            }
            fitting += usize::from(!keys.has_overflowed());
        };
        let swept = cx.db.sweep(cursor, budget, &mut visit).await?;
        if is_last_try || !keys.has_overflowed() {
            return Ok(Step { swept, keys, count });
        }
        budget = fitting.min(budget / 2).max(1);
    }
}
