//! DEBUG: what tests ask of a server.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferrokit_engine::{Durability, Entry, KeyspaceId, SweepCursor};
use ferrokit_redis::{Value, glob};

use super::table::{CommandInfo, flag};
use super::{Context, Handler, Outcome, Refusal, config, help};
use crate::resp::{Protocol, Reply, parse_integer};
use crate::settings::Added;

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "debug",
    arity: -2,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::PROTECTED,
    complexity: "Depends on subcommand.",
    summary: "A container for debugging commands.",
    handler: Handler::Debug,
    ..CommandInfo::DEFAULT
}];

const REFUSED: Refusal = Refusal::text(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can \
     run it from a local connection, otherwise you need to set this option in the configuration file, \
     and then restart the server.",
);

/// DEBUG SLEEP waits so long at most.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn debug(cx: &mut Context<'_>) -> Outcome {
    let is_local = cx.session.client.peer.ip().is_loopback();
    if !cx.shared.settings.enable_debug_command.get().admits(is_local) {
        return Err(REFUSED);
    }
    let name = cx.args.at(1).to_ascii_lowercase();
    match (name.as_slice(), cx.args.len()) {
        (b"change-repl-id", 2) => cx.shared.change_replication_id(),
        (b"config-rewrite-force-all", 2) => return config::rewrite_with(cx, Added::All).await,
        (b"digest", 2) => return digest(cx).await,
        (b"digest-value", _) => return digest_values(cx).await,
        (b"error", 3) => {
            cx.reply.error(&String::from_utf8_lossy(cx.args.at(2)));
            return Ok(());
        }
        (b"help", 2) => {
            help::write(cx.reply, "DEBUG", HELP);
            return Ok(());
        }
        (b"log", 3) => {
            let message = String::from_utf8_lossy(cx.args.at(2)).into_owned();
            tracing::warn!(message, "DEBUG LOG");
        }
        (b"loadaof" | b"reload", _) => settle(cx).await?,
        (b"object", 3) => return object(cx).await,
        (b"pause-cron", 3) => {
            cx.shared.pauses_jobs.store(cx.integer(2)? != 0, Ordering::Relaxed);
        }
        (b"populate", 3..=5) => populate(cx).await?,
        (b"protocol", 3) => return protocol(cx),
        (b"set-active-expire", 3) => {
            cx.shared.expires_actively.store(cx.integer(2)? != 0, Ordering::Relaxed);
        }
        (b"sleep", 3) => sleep(cx).await?,
        (b"stringmatch-len", 4) => return match_long_string(cx),
        _ => return Err(help::wrong_subcommand(cx, "DEBUG")),
    }
    cx.reply.ok();
    Ok(())
}

/// Waits; other clients go on.
async fn sleep(cx: &Context<'_>) -> Outcome {
    let text = std::str::from_utf8(cx.args.at(2)).unwrap_or_default();
    let secs: f64 = text.parse().unwrap_or(0.0);
    let time = Duration::try_from_secs_f64(secs.max(0.0)).unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
    cx.shared.host.env.timer.sleep(time).await;
    Ok(())
}

/// Makes durable what is to be kept. Nothing has to be loaded: what is on the device is what is read.
async fn settle(cx: &Context<'_>) -> Outcome {
    if !cx.shared.is_durable() {
        return Err(Refusal::text("ERR the engine keeps nothing that could be loaded again"));
    }
    Ok(cx.shared.engine.sync(Durability::Synced).await?)
}

async fn object(cx: &mut Context<'_>) -> Outcome {
    let key = cx.args.at(2);
    let info = cx.db.key_info(key).await?.ok_or(Refusal::NO_SUCH_KEY)?;
    cx.reply.status(&format!(
        "Value at:0x0 refcount:1 encoding:{} serializedlength:{} lru:0 lru_seconds_idle:{}",
        info.encoding,
        info.value_bytes,
        cx.db.idle_secs(key)
    ));
    Ok(())
}

/// DEBUG POPULATE count [prefix] [size]: keys that are not there yet.
async fn populate(cx: &mut Context<'_>) -> Outcome {
    let positive = |index: usize| {
        let number = cx.args.get(index).and_then(parse_integer);
        number
            .and_then(|number| usize::try_from(number).ok())
            .ok_or(Refusal::text("ERR value is out of range, must be positive"))
    };
    let count = positive(2)?;
    let size = if cx.args.len() == 5 { positive(4)? } else { 0 };
    if size > cx.shared.store.string_bytes_max() {
        return Err(Refusal::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    let prefix = cx.args.get(3).unwrap_or(b"key");
    for number in 0..count {
        let mut key = prefix.to_vec();
        key.extend_from_slice(format!(":{number}").as_bytes());
        if cx.db.peek(&key, &mut |_: Entry<'_>| {}).await? {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        cx.db.set(&key, &value, None).await?;
        if number % 1024 == 1023 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// DEBUG STRINGMATCH-LEN length pattern: whether a string of so many a matches.
fn match_long_string(cx: &mut Context<'_>) -> Outcome {
    let len = usize::try_from(cx.integer(2)?).unwrap_or(0).min(cx.shared.store.string_bytes_max());
    let matches = glob::matches(cx.args.at(3), &vec![b'a'; len]);
    cx.reply.integer(i64::from(matches));
    Ok(())
}

/// A digest of an entry: equal for entries that cannot be told apart by commands.
fn digest_of(keyspace: u32, key: &[u8], entry: Entry<'_>) -> [u64; 3] {
    let value = Value::decode(entry.value);
    [0_u8, 1, 2].map(|part| {
        let mut hasher = DefaultHasher::new();
        (part, keyspace, key).hash(&mut hasher);
        match value.as_string() {
            Some(bytes) => bytes.hash(&mut hasher),
            None => entry.value.hash(&mut hasher),
        }
        entry.expire_at.is_some().hash(&mut hasher);
        hasher.finish()
    })
}

fn write_digest(cx: &mut Context<'_>, [a, b, c]: [u64; 3]) {
    cx.reply.status(&format!("{a:016x}{b:016x}{:08x}", c as u32));
}

/// DEBUG DIGEST: of all databases, whatever the order of their keys.
async fn digest(cx: &mut Context<'_>) -> Outcome {
    let mut sum = [0_u64; 3];
    for number in 0..cx.shared.store.databases() {
        let mut cursor = SweepCursor::start();
        loop {
            let mut visit = |key: &[u8], entry: Entry<'_>| {
                let digest = digest_of(number, key, entry);
                sum.iter_mut().zip(digest).for_each(|(sum, part)| *sum ^= part);
            };
            let swept = cx.db.at(KeyspaceId(number)).sweep(&cursor, 1024, &mut visit).await?;
            let Some(next) = swept.next else { break };
            cursor = next;
        }
    }
    write_digest(cx, sum);
    Ok(())
}

/// DEBUG DIGEST-VALUE key ...: of the values of keys, one by one.
async fn digest_values(cx: &mut Context<'_>) -> Outcome {
    cx.reply.array(cx.args.len() - 2);
    for key in cx.args.from(2) {
        let mut digest = [0; 3];
        let mut visit = |entry: Entry<'_>| {
            digest = digest_of(0, b"", Entry { expire_at: None, ..entry });
        };
        cx.db.peek(key, &mut visit).await?;
        write_digest(cx, digest);
    }
    Ok(())
}

/// DEBUG PROTOCOL type: a reply of that type.
fn protocol(cx: &mut Context<'_>) -> Outcome {
    let is_new = cx.reply.protocol() == Protocol::Resp3;
    let reply = &mut *cx.reply;
    let either = |old: &'static [u8], new: &'static [u8]| if is_new { new } else { old };
    match cx.args.at(2).to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12_345),
        b"double" => reply.raw(either(b"$5\r\n3.141\r\n", b",3.141\r\n")),
        b"bignum" => reply.raw(either(
            b"$37\r\n1234567999999999999999999999999999999\r\n",
            b"(1234567999999999999999999999999999999\r\n",
        )),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                write_bool(reply, number == 1);
            }
        }
        b"attrib" => {
            if is_new {
                reply.raw(b"|1\r\n");
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if !is_new => {
            return Err(Refusal::text("ERR RESP2 is not supported by this command"));
        }
        b"push" => {
            reply.raw(b">2\r\n");
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"true" => write_bool(reply, true),
        b"false" => write_bool(reply, false),
        b"verbatim" => reply.verbatim("This is a verbatim\nstring"),
        _ => {
            return Err(Refusal::text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn write_bool(reply: &mut Reply, value: bool) {
    let (old, new): (&[u8], &[u8]) =
        if value { (b":1\r\n", b"#t\r\n") } else { (b":0\r\n", b"#f\r\n") };
    let is_new = reply.protocol() == Protocol::Resp3;
    reply.raw(if is_new { new } else { old });
}

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Change the replication IDs of the instance.",
    "CONFIG-REWRITE-FORCE-ALL",
    "    Like CONFIG REWRITE but writes all configuration options, including",
    "    keywords not listed in original configuration file or default values.",
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "ERROR <string>",
    "    Return a Redis protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate Redis errors.",
    "LOADAOF",
    "    Make everything written so far durable.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "OBJECT <key>",
    "    Show low level info about `key` and associated value.",
    "PAUSE-CRON <0|1>",
    "    Stop what is done by the clock: expiring keys, disconnecting silent or slow",
    "    clients, checkpoints. What appendfsync promises is kept.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>. If <prefix> is specified then",
    "    it is used instead of the 'key' prefix.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "RELOAD",
    "    Make everything written so far durable.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "SLEEP <seconds>",
    "    Reply after <seconds>. Decimals allowed. Other clients are served meanwhile.",
    "STRINGMATCH-LEN <len> <pattern>",
    "    Whether a string of <len> times 'a' matches <pattern>.",
];
