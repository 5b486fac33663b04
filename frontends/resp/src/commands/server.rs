//! The server itself: LOLWUT, TIME.

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

/// LOLWUT [VERSION version [argument ...]]: a small pattern, and the version. Those of versions 5 and
/// 6 take a size.
pub(super) fn lolwut(cx: &mut Context<'_>) -> Outcome {
    let is_version = |word: &[u8]| word.eq_ignore_ascii_case(b"version");
    let version = match cx.args.get(1) {
        Some(word) if is_version(word) && cx.args.len() > 2 => Some(cx.integer(2)?),
        _ => None,
    };
    let size = |index: usize, default: usize, longest: i64| match cx.args.get(index) {
        None => Ok(default),
        Some(_) => cx.integer(index).map(|size| size.clamp(1, longest) as usize),
    };
    let (width, square, height) = match version {
        Some(5) => {
            let (width, squares) = (size(3, 66, 1000)?, size(4, 8, 200)?);
            (width, width.div_ceil(squares), size(5, 12, 200)?)
        }
        Some(6) => (size(3, 80, 1000)?, 64, size(4, 20, 1000)?),
        _ => (40, 64, 8),
    };
    let shown = match version {
        // The lowest 32 bits, as Redis shows it.
        Some(version) => format!("{}.0.0", version as u32),
        None => REDIS_VERSION.to_owned(),
    };
    let mut picture = draw(cx.shared.host.env.random.next_u64(), width, square, height);
    picture.push_str(&format!("\nRedis ver. {shown}\n"));
    cx.reply.verbatim(&picture);
    Ok(())
}

/// A cellular pattern: each line shifts the seed against itself.
fn draw(seed: u64, width: usize, square: usize, height: usize) -> String {
    let mut picture = String::with_capacity((width + 1) * height);
    for row in 0..height as u32 {
        let bits = seed.rotate_left(row.wrapping_mul(5)) ^ seed.rotate_right(row.wrapping_mul(3));
        let is_set = |column: usize| bits >> (column % square % 64) & 1 == 1;
        picture.extend((0..width).map(|column| if is_set(column) { '#' } else { '.' }));
        picture.push('\n');
    }
    picture
}
