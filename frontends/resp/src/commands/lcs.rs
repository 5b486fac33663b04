//! LCS.

use ferrokit_redis::lcs::{Common, common_length, longest_common_subsequence};

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};
use crate::resp::Reply;

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "lcs",
    arity: -3,
    flags: flag::READONLY,
    keys: Keys { last: 2, ..Keys::one(&["RO", "access"]) },
    categories: category::STRING,
    group: "string",
    since: "7.0.0",
    complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
    summary: "Finds the longest common substring.",
    handler: Handler::Lcs,
    ..CommandInfo::DEFAULT
}];

#[derive(Default)]
struct LcsOptions {
    wants_len: bool,
    wants_matches: bool,
    with_match_len: bool,
    match_len_min: usize,
}

fn parse(cx: &Context<'_>) -> Result<LcsOptions, Refusal> {
    let mut options = LcsOptions::default();
    let mut index = 3;
    while let Some(option) = cx.args.get(index) {
        if option.eq_ignore_ascii_case(b"idx") {
            options.wants_matches = true;
        } else if option.eq_ignore_ascii_case(b"len") {
            options.wants_len = true;
        } else if option.eq_ignore_ascii_case(b"withmatchlen") {
            options.with_match_len = true;
        } else if option.eq_ignore_ascii_case(b"minmatchlen") && index + 1 < cx.args.len() {
            index += 1;
            options.match_len_min = usize::try_from(cx.integer(index)?).unwrap_or(0);
        } else {
            return Err(Refusal::SYNTAX);
        }
        index += 1;
    }
    if options.wants_matches && options.wants_len {
        let ambiguous = "ERR If you want both the length and indexes, please just use IDX.";
        return Err(Refusal::text(ambiguous));
    }
    Ok(options)
}

pub(super) async fn lcs(cx: &mut Context<'_>) -> Outcome {
    let [a, b] = cx.db.get_pair(cx.args.at(1), cx.args.at(2)).await?;
    let options = parse(cx)?;
    let bytes_max = u64::from(cx.shared.parse_limits().bulk_bytes);
    if options.wants_len {
        cx.reply.count(common_length(&a, &b, bytes_max)?);
        return Ok(());
    }
    let common = longest_common_subsequence(&a, &b, bytes_max)?;
    if options.wants_matches {
        write_matches(cx.reply, &common, &options);
    } else {
        cx.reply.bulk(&common.bytes);
    }
    Ok(())
}

fn write_matches(reply: &mut Reply, common: &Common, options: &LcsOptions) {
    let shown = common.matches.iter().filter(|it| it.len() >= options.match_len_min);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown.clone().count());
    for it in shown {
        reply.array(2 + usize::from(options.with_match_len));
        for (first, last) in [it.a, it.b] {
            reply.array(2);
            reply.count(first);
            reply.count(last);
        }
        if options.with_match_len {
            reply.count(it.len());
        }
    }
    reply.bulk(b"len");
    reply.count(common.bytes.len());
}
