//! The server itself: TIME.

use super::connection::REDIS_VERSION;
use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "lolwut",
        arity: -1,
        flags: flag::READONLY | flag::FAST,
        since: "5.0.0",
        complexity: "",
        summary: "Displays computer art and the Redis version",
        handler: Handler::Lolwut,
        ..CommandInfo::DEFAULT
    },
    CommandInfo {
        name: "time",
        flags: flag::LOADING | flag::STALE | flag::FAST,
        categories: category::FAST,
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Returns the server time.",
        handler: Handler::Time,
        ..CommandInfo::DEFAULT
    },
];

pub(super) fn time(cx: &mut Context<'_>) -> Outcome {
    let now = cx.shared.host.env.clock.now().0;
    cx.reply.array(2);
    cx.reply.bulk((now / 1000).to_string().as_bytes());
    cx.reply.bulk((now % 1000 * 1000).to_string().as_bytes());
    Ok(())
}

/// A small pattern, and the version.
pub(super) fn lolwut(cx: &mut Context<'_>) -> Outcome {
    const WIDTH: u64 = 40;
    const HEIGHT: u64 = 8;
    let seed = cx.shared.host.env.random.next_u64();
    let mut picture = String::new();
    for row in 0..HEIGHT {
        // A cellular pattern: each line shifts the seed against itself.
        let bits = seed.rotate_left(row as u32 * 5) ^ seed.rotate_right(row as u32 * 3);
        picture.extend((0..WIDTH).map(|column| if bits >> column & 1 == 1 { '#' } else { '.' }));
        picture.push('\n');
    }
    picture.push_str(&format!("\nRedis ver. {REDIS_VERSION}\n"));
    cx.reply.verbatim(&picture);
    Ok(())
}
