//! Counting different elements: PFADD, PFCOUNT, PFMERGE, PFDEBUG, PFSELFTEST.

use ferrokit_redis::hyperloglog::{self, Encoding};

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};

const HYPERLOGLOG: CommandInfo = CommandInfo {
    group: "hyperloglog",
    categories: category::HYPERLOGLOG,
    since: "2.8.9",
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "pfadd",
        arity: -2,
        flags: flag::WRITE | flag::DENYOOM | flag::FAST,
        keys: Keys::one(&["RW", "insert"]),
        complexity: "O(1) to add every element.",
        summary: "Adds elements to a HyperLogLog key. Creates the key if it doesn't exist.",
        handler: Handler::PfAdd,
        ..HYPERLOGLOG
    },
    CommandInfo {
        name: "pfcount",
        arity: -2,
        flags: flag::READONLY | flag::MAY_REPLICATE,
        keys: Keys {
            notes: Some(
                "RW because it may change the internal representation of the key, and propagate \
                 to replicas",
            ),
            ..Keys::all(1, &["RW", "access"])
        },
        complexity: "O(1) with a very small average constant time when called with a single key. \
                     O(N) with N being the number of keys, and much bigger constant times, when \
                     called with multiple keys.",
        summary: "Returns the approximated cardinality of the set(s) observed by the HyperLogLog \
                  key(s).",
        handler: Handler::PfCount,
        ..HYPERLOGLOG
    },
    CommandInfo {
        name: "pfdebug",
        arity: 3,
        flags: flag::WRITE | flag::DENYOOM | flag::ADMIN,
        keys: Keys { first: 2, last: 2, ..Keys::one(&["RW", "access"]) },
        complexity: "N/A",
        summary: "Internal commands for debugging HyperLogLog values.",
        handler: Handler::PfDebug,
        ..HYPERLOGLOG
    },
    CommandInfo {
        name: "pfmerge",
        arity: -2,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::all(1, &["RW", "access", "insert"]),
        complexity: "O(N) to merge N HyperLogLogs, but with high constant times.",
        summary: "Merges one or more HyperLogLog values into a single key.",
        handler: Handler::PfMerge,
        ..HYPERLOGLOG
    },
    CommandInfo {
        name: "pfselftest",
        flags: flag::ADMIN,
        complexity: "N/A",
        summary: "An internal command for testing HyperLogLog values.",
        handler: Handler::PfSelfTest,
        ..HYPERLOGLOG
    },
];

pub(super) async fn pf_add(cx: &mut Context<'_>) -> Outcome {
    let elements: Vec<&[u8]> = cx.args.from(2).collect();
    let is_changed = cx.db.pf_add(cx.args.at(1), &elements).await?;
    cx.reply.integer(i64::from(is_changed));
    Ok(())
}

pub(super) async fn pf_count(cx: &mut Context<'_>) -> Outcome {
    let keys: Vec<&[u8]> = cx.args.from(1).collect();
    let cardinality = cx.db.pf_count(&keys).await?;
    cx.reply.integer(i64::try_from(cardinality).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) async fn pf_merge(cx: &mut Context<'_>) -> Outcome {
    let sources: Vec<&[u8]> = cx.args.from(2).collect();
    cx.db.pf_merge(cx.args.at(1), &sources).await?;
    cx.reply.ok();
    Ok(())
}

pub(super) async fn pf_debug(cx: &mut Context<'_>) -> Outcome {
    let no_such_key = Refusal::text("ERR The specified key does not exist");
    let (name, key) = (cx.args.at(1), cx.args.at(2));
    let encoding = cx.db.pf_look(key, |view| Ok(view.encoding())).await?.ok_or(no_such_key)?;
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b"getreg") {
        cx.db.pf_make_dense(key).await?;
        let registers = cx.db.pf_look(key, |view| Ok(view.registers()?)).await?.unwrap_or_default();
        cx.reply.array(registers.len());
        registers.into_iter().for_each(|number| cx.reply.integer(i64::from(number)));
    } else if is(b"decode") {
        let runs = cx.db.pf_look(key, |view| Ok(view.decode()?)).await?.unwrap_or_default();
        cx.reply.bulk(runs.as_bytes());
    } else if is(b"encoding") {
        cx.reply.status(encoding.name());
    } else if is(b"todense") {
        let was_sparse = cx.db.pf_make_dense(key).await?.unwrap_or(encoding == Encoding::Sparse);
        cx.reply.integer(i64::from(was_sparse));
    } else {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(Refusal::Text(format!("ERR Unknown PFDEBUG subcommand '{name}'").into()));
    }
    Ok(())
}

pub(super) fn pf_self_test(cx: &mut Context<'_>) -> Outcome {
    hyperloglog::self_test().map_err(|text| Refusal::Text(text.into()))?;
    cx.reply.ok();
    Ok(())
}
