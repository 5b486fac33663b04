//! Values as payloads: DUMP, RESTORE.

use ferrokit_engine::UnixMillis;
use ferrokit_redis::RestoreOptions;

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "dump",
        arity: 2,
        flags: flag::READONLY,
        keys: Keys::one(&["RO", "access"]),
        categories: category::KEYSPACE,
        tips: &["nondeterministic_output"],
        group: "generic",
        since: "2.6.0",
        complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is the \
                     number of Redis objects composing the value and M their average size. For \
                     small string values the time complexity is thus O(1)+O(1*M) where M is \
                     small, so simply O(1).",
        summary: "Returns a serialized representation of the value stored at a key.",
        handler: Handler::Dump,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "restore",
        arity: -4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::one(&["OW", "update"]),
        categories: category::KEYSPACE | category::DANGEROUS,
        group: "generic",
        since: "2.6.0",
        complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the \
                     serialized value, where N is the number of Redis objects composing the value \
                     and M their average size. For small string values the time complexity is \
                     thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set \
                     values the complexity is O(N*M*log(N)) because inserting values into sorted \
                     sets is O(log(N)).",
        summary: "Creates a key from the serialized representation of a value.",
        handler: Handler::Restore,
        ..CommandInfo::DEFAULT
    },
];

const BUSY_KEY: Refusal = Refusal::text("BUSYKEY Target key name already exists.");

pub(super) async fn dump(cx: &mut Context<'_>) -> Outcome {
    match cx.db.dump(cx.args.at(1)).await? {
        Some(payload) => cx.reply.bulk(&payload),
        None => cx.reply.null(),
    }
    Ok(())
}

/// The options; whether the time to live is a time.
fn parse(cx: &Context<'_>) -> Result<(RestoreOptions, bool), Refusal> {
    let mut options = RestoreOptions::default();
    let mut is_absolute = false;
    let mut index = 4;
    while let Some(option) = cx.args.get(index) {
        let has_argument = index + 1 < cx.args.len();
        if option.eq_ignore_ascii_case(b"replace") {
            options.replaces = true;
        } else if option.eq_ignore_ascii_case(b"absttl") {
            is_absolute = true;
        } else if option.eq_ignore_ascii_case(b"idletime")
            && has_argument
            && options.frequency.is_none()
        {
            index += 1;
            let idle = u64::try_from(cx.integer(index)?)
                .map_err(|_| Refusal::text("ERR Invalid IDLETIME value, must be >= 0"))?;
            options.idle_secs = Some(u32::try_from(idle).unwrap_or(u32::MAX));
        } else if option.eq_ignore_ascii_case(b"freq")
            && has_argument
            && options.idle_secs.is_none()
        {
            index += 1;
            let frequency = u8::try_from(cx.integer(index)?)
                .map_err(|_| Refusal::text("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
            options.frequency = Some(frequency);
        } else {
            return Err(Refusal::SYNTAX);
        }
        index += 1;
    }
    Ok((options, is_absolute))
}

pub(super) async fn restore(cx: &mut Context<'_>) -> Outcome {
    let (mut options, is_absolute) = parse(cx)?;
    let key = cx.args.at(1);
    // Before the time and the payload are looked at, as in Redis.
    if !options.replaces && cx.db.key_info(key).await?.is_some() {
        return Err(BUSY_KEY);
    }
    let millis = u64::try_from(cx.integer(2)?)
        .map_err(|_| Refusal::text("ERR Invalid TTL value, must be >= 0"))?;
    options.expire_at = (millis > 0).then(|| {
        let since = if is_absolute { 0 } else { cx.shared.now().0 };
        UnixMillis(since.saturating_add(millis))
    });
    if !cx.db.restore(key, cx.args.at(3), &options).await? {
        return Err(BUSY_KEY);
    }
    cx.reply.ok();
    Ok(())
}
