//! Bits of strings: SETBIT, BITCOUNT, BITOP, BITFIELD and their like.

use ferrokit_redis::bits::{self, BitOperation, BitRange, BitsError, FieldProgram, RangeUnit};

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal};

const BITMAP: CommandInfo = CommandInfo {
    group: "bitmap",
    categories: category::BITMAP,
    keys: Keys::one(&["RO", "access"]),
    ..CommandInfo::DEFAULT
};

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "bitcount",
        arity: -2,
        flags: flag::READONLY,
        since: "2.6.0",
        complexity: "O(N)",
        summary: "Counts the number of set bits (population counting) in a string.",
        handler: Handler::BitCount,
        ..BITMAP
    },
    CommandInfo {
        name: "bitfield",
        arity: -2,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys {
            notes: Some("This command allows both access and modification of the key"),
            ..Keys::one(&["RW", "access", "update", "variable_flags"])
        },
        since: "3.2.0",
        complexity: "O(1) for each subcommand specified",
        summary: "Performs arbitrary bitfield integer operations on strings.",
        handler: Handler::BitField,
        ..BITMAP
    },
    CommandInfo {
        name: "bitfield_ro",
        arity: -2,
        flags: flag::READONLY | flag::FAST,
        since: "6.0.0",
        complexity: "O(1) for each subcommand specified",
        summary: "Performs arbitrary read-only bitfield integer operations on strings.",
        handler: Handler::BitFieldRo,
        ..BITMAP
    },
    CommandInfo {
        name: "bitop",
        arity: -4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys { first: 2, last: -1, ..Keys::one(&["OW", "update"]) },
        since: "2.6.0",
        complexity: "O(N)",
        summary: "Performs bitwise operations on multiple strings, and stores the result.",
        handler: Handler::BitOp,
        ..BITMAP
    },
    CommandInfo {
        name: "bitpos",
        arity: -3,
        flags: flag::READONLY,
        since: "2.8.7",
        complexity: "O(N)",
        summary: "Finds the first set (1) or clear (0) bit in a string.",
        handler: Handler::BitPos,
        ..BITMAP
    },
    CommandInfo {
        name: "getbit",
        arity: 3,
        flags: flag::READONLY | flag::FAST,
        since: "2.2.0",
        summary: "Returns a bit value by offset.",
        handler: Handler::GetBit,
        ..BITMAP
    },
    CommandInfo {
        name: "setbit",
        arity: 4,
        flags: flag::WRITE | flag::DENYOOM,
        keys: Keys::one(&["RW", "access", "update"]),
        since: "2.2.0",
        summary: "Sets or clears the bit at offset of the string value. Creates the key if it \
                  doesn't exist.",
        handler: Handler::SetBit,
        ..BITMAP
    },
];

impl Context<'_> {
    /// Bytes within which offsets of bits lie. An engine's values may have to be shorter.
    fn bit_limit(&self) -> u64 {
        u64::from(self.shared.parse_limits().bulk_bytes)
    }
}

pub(super) async fn set_bit(cx: &mut Context<'_>) -> Outcome {
    let offset = bits::parse_offset(cx.args.at(2), cx.bit_limit())?;
    let bit = bits::parse_bit(cx.args.at(3))?;
    let before = cx.db.set_bit(cx.args.at(1), offset, bit).await?;
    cx.reply.integer(i64::from(before));
    Ok(())
}

pub(super) async fn get_bit(cx: &mut Context<'_>) -> Outcome {
    let offset = bits::parse_offset(cx.args.at(2), cx.bit_limit())?;
    let bit = cx.db.get_bit(cx.args.at(1), offset).await?;
    cx.reply.integer(i64::from(bit));
    Ok(())
}

pub(super) async fn bit_count(cx: &mut Context<'_>) -> Outcome {
    let range = match cx.args.len() {
        2 => BitRange::ALL,
        4 | 5 => {
            let (start, end) = (cx.integer(2)?, Some(cx.integer(3)?));
            BitRange { start, end, unit: unit(cx, 4)? }
        }
        _ => return Err(Refusal::SYNTAX),
    };
    let count = cx.db.bit_count(cx.args.at(1), range).await?;
    cx.reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}

/// The unit that argument `index` names, if it is there.
fn unit(cx: &Context<'_>, index: usize) -> Result<RangeUnit, BitsError> {
    cx.args.get(index).map_or(Ok(RangeUnit::default()), RangeUnit::parse)
}

pub(super) async fn bit_pos(cx: &mut Context<'_>) -> Outcome {
    let bit = bits::parse_wanted_bit(cx.args.at(2))?;
    let range = match cx.args.len() {
        3 => BitRange::ALL,
        4..=6 => {
            let (start, unit) = (cx.integer(3)?, unit(cx, 5)?);
            let end = if cx.args.len() > 4 { Some(cx.integer(4)?) } else { None };
            BitRange { start, end, unit }
        }
        _ => return Err(Refusal::SYNTAX),
    };
    let found = cx.db.bit_position(cx.args.at(1), bit, range).await?;
    cx.reply.integer(found.and_then(|bit| i64::try_from(bit).ok()).unwrap_or(-1));
    Ok(())
}

pub(super) async fn bit_op(cx: &mut Context<'_>) -> Outcome {
    let sources: Vec<&[u8]> = cx.args.from(3).collect();
    let operation = BitOperation::parse(cx.args.at(1), sources.len())?;
    let len = cx.db.bit_op(operation, cx.args.at(2), &sources).await?;
    cx.reply.count(len);
    Ok(())
}

pub(super) async fn bit_field(cx: &mut Context<'_>) -> Outcome {
    let program = FieldProgram::parse(cx.args.from(2), cx.bit_limit())?;
    run_fields(cx, &program).await
}

pub(super) async fn bit_field_ro(cx: &mut Context<'_>) -> Outcome {
    let program = FieldProgram::parse(cx.args.from(2), cx.bit_limit())?;
    if !program.only_reads() {
        return Err(BitsError::ReadOnly.into());
    }
    run_fields(cx, &program).await
}

async fn run_fields(cx: &mut Context<'_>, program: &FieldProgram) -> Outcome {
    let mut answers = Vec::with_capacity(program.len());
    cx.db.bit_field(cx.args.at(1), program, &mut answers).await?;
    cx.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(number) => cx.reply.integer(number),
            None => cx.reply.null(),
        }
    }
    Ok(())
}
