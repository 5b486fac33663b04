//! SORT, SORT_RO: of what can be sorted, which strings cannot.

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};

const SORT: CommandInfo = CommandInfo {
    arity: -2,
    keys: Keys::one(&["RO", "access"]),
    categories: category::SET | category::SORTEDSET | category::LIST | category::DANGEROUS,
    group: "generic",
    complexity: "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and \
                 M the number of returned elements. When the elements are not sorted, complexity \
                 is O(N).",
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "sort",
        flags: flag::WRITE | flag::DENYOOM | flag::MOVABLE_KEYS,
        summary: "Sorts the elements in a list, a set, or a sorted set, optionally storing the \
                  result.",
        handler: Handler::Sort,
        ..SORT
    },
    CommandInfo {
        name: "sort_ro",
        flags: flag::READONLY | flag::MOVABLE_KEYS,
        since: "7.0.0",
        summary: "Returns the sorted elements of a list, a set, or a sorted set.",
        handler: Handler::SortRo,
        ..SORT
    },
];

/// Checks the options; where the result is to be stored. The others say how elements are sorted and
/// shown: without elements they come to nothing.
fn destination<'c>(cx: &Context<'c>, may_store: bool) -> Result<Option<&'c [u8]>, Refusal> {
    let mut destination = None;
    let mut index = 2;
    while let Some(option) = cx.args.get(index) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let arguments = cx.args.len() - index - 1;
        if is(b"asc") || is(b"desc") || is(b"alpha") {
            index += 1;
        } else if is(b"limit") && arguments >= 2 {
            cx.integer(index + 1)?;
            cx.integer(index + 2)?;
            index += 3;
        } else if (is(b"by") || is(b"get")) && arguments >= 1 {
            index += 2;
        } else if is(b"store") && may_store && arguments >= 1 {
            destination = cx.args.get(index + 1);
            index += 2;
        } else {
            return Err(Refusal::SYNTAX);
        }
    }
    Ok(destination)
}

async fn run(cx: &mut Context<'_>, may_store: bool) -> Outcome {
    let destination = destination(cx, may_store)?;
    if cx.db.key_info(cx.args.at(1)).await?.is_some() {
        return Err(Refusal::WRONG_TYPE);
    }
    match destination {
        Some(destination) => {
            cx.db.delete(&[destination]).await?;
            cx.reply.integer(0);
        }
        None => cx.reply.array(0),
    }
    Ok(())
}

pub(super) async fn sort(cx: &mut Context<'_>) -> Outcome {
    run(cx, true).await
}

pub(super) async fn sort_ro(cx: &mut Context<'_>) -> Outcome {
    run(cx, false).await
}
