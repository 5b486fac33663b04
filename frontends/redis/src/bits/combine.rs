//! [`Combination`]: BITOP.

use super::BitsError;

/// What BITOP does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitOperation {
    /// Ones where all sources have one.
    And,
    /// Ones where any source has one.
    Or,
    /// Ones where an odd number of sources has one.
    Xor,
    /// Ones where the only source has none.
    Not,
}

impl BitOperation {
    /// Reads the name of an operation on `sources` keys.
    ///
    /// # Errors
    /// [`BitsError::Syntax`] and [`BitsError::NotNeedsOneSource`].
    pub fn parse(name: &[u8], sources: usize) -> Result<Self, BitsError> {
        let named =
            [(&b"and"[..], Self::And), (b"or", Self::Or), (b"xor", Self::Xor), (b"not", Self::Not)];
        let found = named.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        match found.ok_or(BitsError::Syntax)?.1 {
            Self::Not if sources != 1 => Err(BitsError::NotNeedsOneSource),
            operation => Ok(operation),
        }
    }
}

/// The result of an operation over the sources added so far, in any order.
///
/// It is as long as the longest source; shorter ones, and absent ones as empty strings, count as
/// padded with zeros.
#[derive(Debug)]
pub struct Combination {
    operation: BitOperation,
    result: Option<Vec<u8>>,
}

impl Combination {
    /// Without a source yet.
    pub fn new(operation: BitOperation) -> Self {
        Self { operation, result: None }
    }

    /// Adds a source.
    pub fn add(&mut self, source: &[u8]) {
        let Some(result) = &mut self.result else {
            let mut first = source.to_vec();
            if self.operation == BitOperation::Not {
                first.iter_mut().for_each(|byte| *byte = !*byte);
            }
            self.result = Some(first);
            return;
        };
        if result.len() < source.len() {
            result.resize(source.len(), 0);
        }
        match self.operation {
            BitOperation::And => {
                zip(result, source, |a, b| a & b);
                if let Some(beyond) = result.get_mut(source.len()..) {
                    beyond.fill(0);
                }
            }
            BitOperation::Or => zip(result, source, |a, b| a | b),
            BitOperation::Xor => zip(result, source, |a, b| a ^ b),
            BitOperation::Not => {}
        }
    }

    /// The result; empty if every source was.
    pub fn finish(self) -> Vec<u8> {
        self.result.unwrap_or_default()
    }
}

/// Combines as far as both go; the compiler makes vectors of it.
#[inline(always)]
fn zip(result: &mut [u8], source: &[u8], combine: impl Fn(u8, u8) -> u8) {
    for (a, b) in result.iter_mut().zip(source) {
        *a = combine(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn combine(operation: BitOperation, sources: &[Vec<u8>]) -> Vec<u8> {
        let mut combination = Combination::new(operation);
        sources.iter().for_each(|source| combination.add(source));
        combination.finish()
    }

    #[test]
    fn names_are_those_of_redis() {
        assert_eq!(BitOperation::parse(b"aNd", 3), Ok(BitOperation::And));
        assert_eq!(BitOperation::parse(b"NOT", 1), Ok(BitOperation::Not));
        assert_eq!(BitOperation::parse(b"not", 2), Err(BitsError::NotNeedsOneSource));
        assert_eq!(BitOperation::parse(b"nand", 2), Err(BitsError::Syntax));
    }

    #[test]
    fn an_empty_source_makes_an_and_zero_and_as_long_as_the_longest() {
        assert_eq!(combine(BitOperation::And, &[vec![], vec![0xff; 3]]), [0; 3]);
        assert_eq!(combine(BitOperation::And, &[vec![0xff; 3], vec![]]), [0; 3]);
        assert_eq!(combine(BitOperation::Or, &[vec![]]), []);
        assert_eq!(combine(BitOperation::Not, &[vec![0xf0, 1]]), [0x0f, 0xfe]);
    }

    proptest! {
        #[test]
        fn every_byte_is_the_operation_of_padded_bytes(
            sources in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 1..6)
        ) {
            let longest = sources.iter().map(Vec::len).max().unwrap();
            let column = |index: usize| sources.iter().map(move |it| it.get(index).copied().unwrap_or(0));
            let expected = |fold: fn(u8, u8) -> u8| -> Vec<u8> {
                (0..longest).map(|index| column(index).reduce(fold).unwrap()).collect()
            };
            prop_assert_eq!(combine(BitOperation::And, &sources), expected(|a, b| a & b));
            prop_assert_eq!(combine(BitOperation::Or, &sources), expected(|a, b| a | b));
            prop_assert_eq!(combine(BitOperation::Xor, &sources), expected(|a, b| a ^ b));
        }
    }
}
