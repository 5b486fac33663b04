//! Registers as runs of equal ones.
//!
//! | bits | run |
//! |---|---|
//! | `00nnnnnn` | n + 1 zeros |
//! | `01nnnnnn nnnnnnnn` | n + 1 zeros |
//! | `1vvvvvnn` | n + 1 times the number v + 1 |

use std::fmt::Write as _;

use super::{HEADER_BYTES, Histogram, HyperLogLogError, REGISTERS};

/// The longest run of zeros in one byte.
const SHORT_ZEROS_MAX: usize = 64;
/// The longest run of one number.
const NUMBERS_MAX: usize = 4;
/// The largest number in a run.
const LARGEST: u8 = 32;
/// Runs looked at after a change to be joined.
const JOIN_SCAN: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Zeros { len: usize, is_long: bool },
    Numbers { number: u8, len: usize },
}

impl Run {
    /// The run at the start of `bytes`.
    fn decode(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [first, ..] if first & 0x80 != 0 => {
                let number = (first >> 2 & 0x1f) + 1;
                Some(Self::Numbers { number, len: usize::from(first & 3) + 1 })
            }
            [first, ..] if first & 0x40 == 0 => {
                Some(Self::Zeros { len: usize::from(first) + 1, is_long: false })
            }
            [first, second, ..] => {
                let len = usize::from(u16::from_be_bytes([first & 0x3f, second])) + 1;
                Some(Self::Zeros { len, is_long: true })
            }
            _ => None,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Zeros { len, .. } | Self::Numbers { len, .. } => len,
        }
    }

    /// The bytes it takes.
    fn width(self) -> usize {
        if matches!(self, Self::Zeros { is_long: true, .. }) { 2 } else { 1 }
    }
}

/// Appends a run of zeros, 1 to 16,384.
pub(super) fn push_zeros(out: &mut Vec<u8>, len: usize) {
    if len <= SHORT_ZEROS_MAX {
        out.push(len as u8 - 1);
    } else {
        let [high, low] = (len as u16 - 1).to_be_bytes();
        out.extend_from_slice(&[high | 0x40, low]);
    }
}

/// A run of a number, 1 to 4 times.
fn numbers(number: u8, len: usize) -> u8 {
    0x80 | (number - 1) << 2 | (len as u8 - 1)
}

/// Goes through all runs, and tells whether they make up all registers.
fn for_each_run(
    mut bytes: &[u8],
    mut visit: impl FnMut(usize, Run),
) -> Result<(), HyperLogLogError> {
    let mut first = 0;
    while !bytes.is_empty() {
        let run = Run::decode(bytes).ok_or(HyperLogLogError::Corrupted)?;
        if first + run.len() > REGISTERS {
            return Err(HyperLogLogError::Corrupted);
        }
        visit(first, run);
        first += run.len();
        bytes = bytes.get(run.width()..).unwrap_or_default();
    }
    if first == REGISTERS { Ok(()) } else { Err(HyperLogLogError::Corrupted) }
}

/// Calls `visit` with each register that is not zero.
pub(super) fn for_each_register(
    bytes: &[u8],
    mut visit: impl FnMut(usize, u8),
) -> Result<(), HyperLogLogError> {
    for_each_run(bytes, |first, run| {
        if let Run::Numbers { number, len } = run {
            (first..first + len).for_each(|index| visit(index, number));
        }
    })
}

pub(super) fn histogram(bytes: &[u8]) -> Result<Histogram, HyperLogLogError> {
    let mut histogram = [0; 64];
    for_each_run(bytes, |_, run| match run {
        Run::Zeros { len, .. } => histogram[0] += len as u32,
        Run::Numbers { number, len } => histogram[usize::from(number)] += len as u32,
    })?;
    Ok(histogram)
}

/// The runs as text.
pub(super) fn describe(bytes: &[u8]) -> Result<String, HyperLogLogError> {
    let mut text = String::new();
    for_each_run(bytes, |_, run| {
        let separator = if text.is_empty() { "" } else { " " };
        // Writing into a string never fails.
        let _ = match run {
            Run::Zeros { len, is_long: false } => write!(text, "{separator}z:{len}"),
            Run::Zeros { len, is_long: true } => write!(text, "{separator}Z:{len}"),
            Run::Numbers { number, len } => write!(text, "{separator}v:{number},{len}"),
        };
    })?;
    Ok(text)
}

/// What became of a register.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Raised {
    /// It was as large.
    Not,
    Yes,
    /// Runs have no room for it: registers must be made dense.
    NoRoom,
}

/// Makes a register at least `number`. `value` is a whole string and stays within `bytes_max`.
pub(super) fn raise(
    value: &mut Vec<u8>,
    index: usize,
    number: u8,
    bytes_max: usize,
) -> Result<Raised, HyperLogLogError> {
    if number > LARGEST {
        return Ok(Raised::NoRoom);
    }
    let Place { previous, at, first, run } = find(value, index)?;
    let last = first + run.len() - 1;
    let mut split = Split::default();
    match run {
        Run::Zeros { .. } => {
            split.zeros(index - first);
            split.number(number, 1);
            split.zeros(last - index);
        }
        Run::Numbers { number: before, .. } if before >= number => return Ok(Raised::Not),
        Run::Numbers { number: before, .. } => {
            split.number(before, index - first);
            split.number(number, 1);
            split.number(before, last - index);
        }
    }
    let new = split.as_slice();
    if new.len() > run.width() && value.len() + new.len() - run.width() > bytes_max {
        return Ok(Raised::NoRoom);
    }
    value.splice(at..at + run.width(), new.iter().copied());
    join(value, previous.unwrap_or(HEADER_BYTES));
    Ok(Raised::Yes)
}

/// The run that holds a register.
struct Place {
    /// Where the run before it begins.
    previous: Option<usize>,
    at: usize,
    /// The first register of the run.
    first: usize,
    run: Run,
}

fn find(value: &[u8], index: usize) -> Result<Place, HyperLogLogError> {
    let (mut previous, mut at, mut first) = (None, HEADER_BYTES, 0);
    loop {
        let rest = value.get(at..).unwrap_or_default();
        let run = Run::decode(rest).ok_or(HyperLogLogError::Corrupted)?;
        if index < first + run.len() {
            return Ok(Place { previous, at, first, run });
        }
        previous = Some(at);
        at += run.width();
        first += run.len();
    }
}

/// What one run becomes: at most a number between two long runs of zeros.
#[derive(Default)]
struct Split {
    bytes: [u8; 5],
    len: usize,
}

impl Split {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn number(&mut self, number: u8, len: usize) {
        if len > 0 {
            self.push(numbers(number, len));
        }
    }

    fn zeros(&mut self, len: usize) {
        if len > SHORT_ZEROS_MAX {
            let [high, low] = (len as u16 - 1).to_be_bytes();
            self.push(high | 0x40);
            self.push(low);
        } else if len > 0 {
            self.push(len as u8 - 1);
        }
    }
}

/// Joins runs of one number that follow each other, as far as Redis does.
fn join(value: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOIN_SCAN {
        let Some(run) = Run::decode(value.get(at..).unwrap_or_default()) else { return };
        let next = value.get(at + 1..).and_then(Run::decode);
        match (run, next) {
            (
                Run::Numbers { number, len },
                Some(Run::Numbers { number: next_number, len: next_len }),
            ) if number == next_number && len + next_len <= NUMBERS_MAX => {
                value[at] = numbers(number, len + next_len);
                value.remove(at + 1);
            }
            _ => at += run.width(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(
        runs: &[u8],
        index: usize,
        number: u8,
    ) -> (Result<Raised, HyperLogLogError>, Vec<u8>) {
        let mut value = vec![0; HEADER_BYTES];
        value.extend_from_slice(runs);
        let result = raise(&mut value, index, number, 100);
        (result, value.split_off(HEADER_BYTES))
    }

    #[test]
    fn a_run_is_split_around_a_register_and_joined_with_its_like() {
        for (before, index, number, after) in [
            // Long zeros, in the middle and at both ends.
            (vec![0x7f, 0xff], 8000, 1, vec![0x5f, 0x3f, 0x80, 0x60, 0xbe]),
            (vec![0x7f, 0xff], 0, 32, vec![0xfc, 0x7f, 0xfe]),
            (vec![0x7f, 0xff], 16383, 2, vec![0x7f, 0xfe, 0x84]),
            (vec![0x7f, 0xff], 64, 1, vec![0x3f, 0x80, 0x7f, 0xbe]),
            // One zero becomes a number that joins both sides.
            (vec![0x80, 0x00, 0x81], 1, 1, vec![0x83]),
            // Not beyond four.
            (vec![0x82, 0x00, 0x82], 3, 1, vec![0x83, 0x82]),
            (vec![0x83], 1, 3, vec![0x80, 0x88, 0x81]),
        ] {
            assert_eq!(raised(&before, index, number), (Ok(Raised::Yes), after), "{before:x?}");
        }
        assert_eq!(raised(&[0x83], 2, 1).0, Ok(Raised::Not));
        assert_eq!(raised(&[0x83], 2, 33).0, Ok(Raised::NoRoom));
    }

    #[test]
    fn damage_is_found() {
        for bytes in [&[][..], &[0x7f], &[0x7f, 0xfe], &[0x7f, 0xff, 0x00], &[0x7f, 0xfe, 0x81]] {
            assert_eq!(histogram(bytes), Err(HyperLogLogError::Corrupted), "{bytes:x?}");
            assert_eq!(describe(bytes), Err(HyperLogLogError::Corrupted));
        }
        assert_eq!(raised(&[0x7f, 0xfe], 16383, 1).0, Err(HyperLogLogError::Corrupted));
        assert_eq!(raised(&[], 0, 1).0, Err(HyperLogLogError::Corrupted));
    }
}
