//! [`FieldProgram`]: BITFIELD, integers of any width at any bit of a string.

use super::{BitsError, len_with, parse_field_offset};
use crate::integer::parse_integer;

/// The type of a field: its width and whether it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FieldType {
    is_signed: bool,
    /// 1 to 64, or 63 if unsigned.
    bits: u32,
}

impl FieldType {
    fn parse(text: &[u8]) -> Result<Self, BitsError> {
        let (is_signed, bits_max, digits) = match text {
            [b'i', digits @ ..] => (true, 64, digits),
            [b'u', digits @ ..] => (false, 63, digits),
            _ => return Err(BitsError::FieldType),
        };
        match parse_integer(digits) {
            Some(bits @ 1..) if bits <= bits_max => Ok(Self { is_signed, bits: bits as u32 }),
            _ => Err(BitsError::FieldType),
        }
    }

    /// The smallest and the largest number of this type.
    fn bounds(self) -> (i128, i128) {
        if self.is_signed {
            (-1 << (self.bits - 1), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }

    /// The lowest bits of a number as a number of this type.
    fn wrap(self, number: i128) -> i64 {
        let unused = 128 - self.bits;
        let shifted = number << unused;
        let wrapped =
            if self.is_signed { shifted >> unused } else { (shifted as u128 >> unused) as i128 };
        // 64 bits if signed, 63 if not: it fits.
        wrapped as i64
    }

    /// A number to be set: for an unsigned field, a negative one counts as huge.
    ///
    /// Redis takes how far a number is below the field's largest as 64 bits. Where it is farther,
    /// the number counts as too large and saturates there.
    fn operand(self, number: i64, overflow: Overflow) -> i128 {
        if !self.is_signed {
            return i128::from(number as u64);
        }
        let number = i128::from(number);
        let is_too_far = self.bounds().1 - number > i128::from(i64::MAX);
        if is_too_far && self.bits < 64 && overflow == Overflow::Saturate {
            return i128::from(i64::MAX);
        }
        number
    }

    /// The number with these bits.
    fn decode(self, bits: u64) -> i64 {
        self.wrap(i128::from(bits))
    }
}

/// What happens to a number that does not fit its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    /// Its lowest bits are kept.
    Wrap,
    /// The closest number that fits is stored.
    Saturate,
    /// Nothing is stored and nothing answered.
    Fail,
}

impl Overflow {
    fn parse(word: &[u8]) -> Result<Self, BitsError> {
        let named = [(&b"wrap"[..], Self::Wrap), (b"sat", Self::Saturate), (b"fail", Self::Fail)];
        let found = named.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        found.map(|(_, overflow)| overflow).ok_or(BitsError::OverflowKind)
    }

    /// The number to store in the place of `number`, if any.
    fn fit(self, number: i128, field: FieldType) -> Option<i64> {
        let (smallest, largest) = field.bounds();
        if (smallest..=largest).contains(&number) {
            return Some(number as i64);
        }
        match self {
            Self::Wrap => Some(field.wrap(number)),
            Self::Saturate => Some(number.clamp(smallest, largest) as i64),
            Self::Fail => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set { number: i64, overflow: Overflow },
    Add { delta: i64, overflow: Overflow },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    action: Action,
    field: FieldType,
    offset: u64,
}

impl Step {
    fn last_bit(&self) -> u64 {
        self.offset + u64::from(self.field.bits) - 1
    }
}

/// What the writes of a program came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    /// There were none, or all failed.
    Nothing,
    /// What was there.
    Same,
    /// Another number.
    Changed,
}

/// The operations of one BITFIELD, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FieldProgram {
    steps: Vec<Step>,
    /// The last bit that may be written; `None` if it only reads.
    last_written_bit: Option<u64>,
    /// The last byte that a field to be written begins in.
    last_begin: Option<u64>,
}

impl FieldProgram {
    /// Reads the arguments that follow the key. Fields begin below `limit_bytes`.
    ///
    /// # Errors
    /// Any [`BitsError`] of fields.
    pub fn parse<'a>(
        mut arguments: impl Iterator<Item = &'a [u8]>,
        limit_bytes: u64,
    ) -> Result<Self, BitsError> {
        let mut program = Self::default();
        let mut overflow = Overflow::Wrap;
        while let Some(word) = arguments.next() {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let wanted = if is(b"get") {
                2
            } else if is(b"set") || is(b"incrby") {
                3
            } else if is(b"overflow") {
                1
            } else {
                return Err(BitsError::Syntax);
            };
            let mut taken = [b"".as_slice(); 3];
            for place in taken.iter_mut().take(wanted) {
                *place = arguments.next().ok_or(BitsError::Syntax)?;
            }
            let [first, offset, number] = taken;
            if wanted == 1 {
                overflow = Overflow::parse(first)?;
                continue;
            }
            let field = FieldType::parse(first)?;
            let offset = parse_field_offset(offset, field.bits, limit_bytes)?;
            let action = if wanted == 2 {
                Action::Get
            } else {
                let number = parse_integer(number).ok_or(BitsError::Integer)?;
                if is(b"set") {
                    Action::Set { number, overflow }
                } else {
                    Action::Add { delta: number, overflow }
                }
            };
            program.push(Step { action, field, offset });
        }
        Ok(program)
    }

    fn push(&mut self, step: Step) {
        if step.action != Action::Get {
            self.last_written_bit = self.last_written_bit.max(Some(step.last_bit()));
            self.last_begin = self.last_begin.max(Some(step.offset >> 3));
        }
        self.steps.push(step);
    }

    /// Whether it never writes.
    pub fn only_reads(&self) -> bool {
        self.last_written_bit.is_none()
    }

    /// The last byte that a field to be written begins in.
    pub fn last_begin(&self) -> Option<u64> {
        self.last_begin
    }

    /// The number of answers.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The length a string of `len` bytes has afterwards.
    pub fn len_after(&self, len: usize) -> usize {
        self.last_written_bit.map_or(len, |bit| len_with(len, bit))
    }

    /// Answers what is read; only for programs that [only read](Self::only_reads).
    pub fn read<'a>(&'a self, value: &'a [u8]) -> impl ExactSizeIterator<Item = i64> + 'a {
        self.steps.iter().map(|step| step.field.decode(load(value, step.offset, step.field.bits)))
    }

    /// Runs it on a string that is [long enough](Self::len_after), and appends the answers.
    pub fn run(&self, value: &mut [u8], answers: &mut Vec<Option<i64>>) -> Written {
        let mut written = Written::Nothing;
        for step in &self.steps {
            let (field, offset) = (step.field, step.offset);
            let before = field.decode(load(value, offset, field.bits));
            let (after, answers_before) = match step.action {
                Action::Get => {
                    answers.push(Some(before));
                    continue;
                }
                Action::Set { number, overflow } => {
                    (overflow.fit(field.operand(number, overflow), field), true)
                }
                Action::Add { delta, overflow } => {
                    (overflow.fit(i128::from(before) + i128::from(delta), field), false)
                }
            };
            if let Some(after) = after {
                let now = if after == before { Written::Same } else { Written::Changed };
                written = written.max(now);
                store(value, offset, field.bits, after as u64);
            }
            answers.push(after.map(|after| if answers_before { before } else { after }));
        }
        written
    }
}

/// Bytes that hold a field: 64 bits may begin within the first.
const SPAN_BYTES: usize = 9;

/// The bits of a field, in the lowest places.
fn load(value: &[u8], offset: u64, bits: u32) -> u64 {
    let mut window = [0_u8; 16];
    let from = usize::try_from(offset >> 3).unwrap_or(usize::MAX);
    let held = value.get(from..).unwrap_or_default();
    for (to, byte) in window.iter_mut().take(SPAN_BYTES).zip(held) {
        *to = *byte;
    }
    let shifted = u128::from_be_bytes(window) << (offset & 7);
    (shifted >> (128 - bits)) as u64
}

/// Writes the lowest bits of a number into a field; bits beyond the string are dropped.
fn store(value: &mut [u8], offset: u64, bits: u32, number: u64) {
    let from = usize::try_from(offset >> 3).unwrap_or(usize::MAX);
    let Some(held) = value.get_mut(from..) else { return };
    let place = 128 - bits - (offset & 7) as u32;
    let mask = (u128::MAX >> (128 - bits)) << place;
    let window = (u128::from(number) << place & mask).to_be_bytes();
    let mask = mask.to_be_bytes();
    for ((byte, new), mask) in held.iter_mut().zip(window).zip(mask).take(SPAN_BYTES) {
        *byte = *byte & !mask | new;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 512 << 20;

    fn parse(text: &str) -> Result<FieldProgram, BitsError> {
        FieldProgram::parse(text.split(' ').map(str::as_bytes), LIMIT)
    }

    fn run(value: &mut Vec<u8>, text: &str) -> Vec<Option<i64>> {
        let mut answers = Vec::new();
        let program = parse(text).unwrap();
        value.resize(program.len_after(value.len()), 0);
        program.run(value, &mut answers);
        answers
    }

    #[test]
    fn answers_are_those_of_redis() {
        let mut value = Vec::new();
        for (text, expected) in [
            ("SET i8 0 -100 SET u8 8 255", vec![Some(0), Some(0)]),
            ("GET i8 0 GET u8 #1 GET i8 #1", vec![Some(-100), Some(255), Some(-1)]),
            ("SET i8 0 101", vec![Some(-100)]),
            ("INCRBY i8 0 100", vec![Some(-55)]),
            ("OVERFLOW SAT INCRBY i8 0 1000", vec![Some(127)]),
            ("OVERFLOW sat INCRBY i8 0 -1000", vec![Some(-128)]),
            ("OVERFLOW FAIL INCRBY i8 0 -1", vec![None]),
            ("OVERFLOW FAIL SET u8 8 256 SET u8 8 7", vec![None, Some(255)]),
            ("OVERFLOW SAT SET u8 8 -1 GET u8 8", vec![Some(7), Some(255)]),
            ("SET u8 8 257 GET u8 8", vec![Some(255), Some(1)]),
            ("INCRBY u5 100 1 GET u63 0", vec![Some(1), Some(0x4000_8000_0000_0000)]),
            (
                "SET i64 3 -9223372036854775808 INCRBY i64 3 -1",
                vec![Some(0x0008_0000_0000_0000), Some(i64::MAX)],
            ),
            ("GET u8 4294967288", vec![Some(0)]),
            ("OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0", vec![Some(-113), Some(127)]),
            ("OVERFLOW SAT SET i8 0 -9223372036854775680 GET i8 0", vec![Some(127), Some(-128)]),
            ("OVERFLOW SAT INCRBY i8 0 -9223372036854775808", vec![Some(-128)]),
            ("SET i8 0 -9223372036854775808 GET i8 0", vec![Some(-128), Some(0)]),
        ] {
            assert_eq!(run(&mut value, text), expected, "{text}");
        }
    }

    #[test]
    fn bad_arguments_are_refused_in_order() {
        for (text, error) in [
            ("GET u8", BitsError::Syntax),
            ("GET u64 0", BitsError::FieldType),
            ("GET i65 0", BitsError::FieldType),
            ("GET I8 0", BitsError::FieldType),
            ("GET u0 -1", BitsError::FieldType),
            ("GET u8 -1", BitsError::Offset),
            ("GET u8 4294967296", BitsError::Offset),
            ("SET u8 0", BitsError::Syntax),
            ("SET u8 0 x", BitsError::Integer),
            ("OVERFLOW none", BitsError::OverflowKind),
            ("OVERFLOW", BitsError::Syntax),
            ("MUL u8 0 1", BitsError::Syntax),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert!(parse("GET i64 0 GET u63 #3").unwrap().only_reads());
        assert!(!parse("GET i64 0 OVERFLOW FAIL INCRBY i8 0 0").unwrap().only_reads());
    }

    #[test]
    fn a_write_grows_the_string_even_if_it_fails_or_changes_nothing() {
        for (text, written) in [
            ("OVERFLOW FAIL SET u1 77 2", Written::Nothing),
            ("SET u8 72 0", Written::Same),
            ("SET u8 72 0 SET u8 72 1", Written::Changed),
        ] {
            let program = parse(text).unwrap();
            assert_eq!(program.len_after(3), 10);
            assert_eq!(program.run(&mut [0; 10], &mut Vec::new()), written, "{text}");
        }
        assert_eq!(parse("GET u8 72").unwrap().len_after(3), 3);
    }

    proptest! {
        /// Against one bit at a time.
        #[test]
        fn fields_are_stored_and_loaded_bit_by_bit(
            mut value in prop::collection::vec(any::<u8>(), 32..40),
            offset in 0_u64..190,
            bits in 1_u32..65,
            number: u64,
        ) {
            let mut expected = value.clone();
            for index in 0..u64::from(bits) {
                let bit = number >> (u64::from(bits) - 1 - index) & 1 == 1;
                super::super::set(&mut expected, offset + index, bit);
            }
            store(&mut value, offset, bits, number);
            prop_assert_eq!(&value, &expected);
            prop_assert_eq!(load(&value, offset, bits), number & u64::MAX >> (64 - bits));
        }

        #[test]
        fn overflow_wraps_saturates_or_fails(bits in 1_u32..65, is_signed: bool, a: i64, b: i64) {
            prop_assume!(is_signed || bits < 64);
            let field = FieldType { is_signed, bits };
            let before = field.decode(a as u64);
            let sum = i128::from(before) + i128::from(b);
            let (smallest, largest) = field.bounds();
            let fits = smallest <= sum && sum <= largest;
            let wrapped = Overflow::Wrap.fit(sum, field).unwrap();
            prop_assert_eq!((i128::from(wrapped) - sum) % (1_i128 << bits), 0);
            prop_assert!(smallest <= i128::from(wrapped) && i128::from(wrapped) <= largest);
            prop_assert_eq!(i128::from(wrapped) == sum, fits);
            let saturated = i128::from(Overflow::Saturate.fit(sum, field).unwrap());
            prop_assert_eq!(saturated, sum.max(smallest).min(largest));
            prop_assert_eq!(Overflow::Fail.fit(sum, field).is_some(), fits);
        }

        #[test]
        fn any_words_are_a_program_or_refused(
            words in prop::collection::vec("(get|set|incrby|overflow|sat|u[0-9]{1,2}|i8|#?[0-9]{1,3})", 0..20)
        ) {
            if let Ok(program) = FieldProgram::parse(words.iter().map(String::as_bytes), LIMIT) {
                let mut answers = Vec::new();
                program.run(&mut vec![0; program.len_after(0)], &mut answers);
                prop_assert_eq!(answers.len(), program.len());
            }
        }
    }
}
