//! HyperLogLog in the format of Redis: PFADD, PFCOUNT, PFMERGE, PFDEBUG and PFSELFTEST.
//!
//! A HyperLogLog is a string. It begins with a header of 16 bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | `HYLL` |
//! | 4 | the encoding: 0 dense, 1 sparse |
//! | 5..8 | zero |
//! | 8..16 | the cardinality when it was last counted, little-endian; its highest bit is set once it is out of date |
//!
//! The registers follow, 16,384 numbers from 0 to 63: packed into six bits each (`dense`), or as
//! runs of equal ones (`sparse`). A client can write any bytes in the place of such a string, so
//! none of them is trusted: they are refused as foreign or as corrupted.

mod dense;
mod estimate;
mod hash;
mod self_test;
mod sparse;
mod union;

pub use self_test::self_test;
pub use union::Union;

use std::fmt;

use crate::refusal::Refusal;

/// Registers of a HyperLogLog.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = 14;
/// The other bits of a hash.
const RANK_BITS: u32 = 64 - INDEX_BITS;
const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// In the last byte of the cardinality: it is out of date.
const OUT_OF_DATE: u8 = 1 << 7;

/// How many registers hold each number.
type Histogram = [u32; 64];

/// Why a string cannot be used as a HyperLogLog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HyperLogLogError {
    /// It is another string.
    Foreign,
    /// It looks like one, and its registers are damaged.
    Corrupted,
    /// PFDEBUG DECODE: it is not sparse.
    NotSparse,
}

impl HyperLogLogError {
    /// As a client sees it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Foreign => "WRONGTYPE Key is not a valid HyperLogLog string value.",
            Self::Corrupted => "INVALIDOBJ Corrupted HLL object detected",
            Self::NotSparse => "ERR HLL encoding is not sparse",
        }
    }
}

impl fmt::Display for HyperLogLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for HyperLogLogError {}

impl From<HyperLogLogError> for Refusal {
    fn from(error: HyperLogLogError) -> Self {
        Self::text(error.text())
    }
}

/// How registers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Six bits each.
    Dense,
    /// Runs of equal ones.
    Sparse,
}

impl Encoding {
    /// As PFDEBUG ENCODING names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
        }
    }
}

/// A string whose header was checked; its registers may still be damaged.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    encoding: Encoding,
    cached: Option<u64>,
    registers: &'a [u8],
}

impl<'a> View<'a> {
    /// Looks at a string.
    ///
    /// # Errors
    /// [`HyperLogLogError::Foreign`].
    pub fn of(value: &'a [u8]) -> Result<Self, HyperLogLogError> {
        let (header, registers) =
            value.split_first_chunk::<HEADER_BYTES>().ok_or(HyperLogLogError::Foreign)?;
        let &[m0, m1, m2, m3, encoding, _, _, _, cardinality @ ..] = header;
        let encoding = match encoding {
            DENSE if value.len() == DENSE_BYTES => Encoding::Dense,
            SPARSE => Encoding::Sparse,
            _ => return Err(HyperLogLogError::Foreign),
        };
        if [m0, m1, m2, m3] != MAGIC {
            return Err(HyperLogLogError::Foreign);
        }
        let cached = u64::from_le_bytes(cardinality);
        let is_out_of_date = cached.to_le_bytes()[7] & OUT_OF_DATE != 0;
        Ok(Self { encoding, cached: (!is_out_of_date).then_some(cached), registers })
    }

    /// How its registers are stored.
    pub fn encoding(self) -> Encoding {
        self.encoding
    }

    /// The cardinality when it was last counted, if nothing changed since.
    pub fn cached_cardinality(self) -> Option<u64> {
        self.cached
    }

    /// Estimates how many different elements were added.
    ///
    /// # Errors
    /// [`HyperLogLogError::Corrupted`].
    pub fn count(self) -> Result<u64, HyperLogLogError> {
        let histogram = match self.encoding {
            Encoding::Dense => dense::histogram(self.registers),
            Encoding::Sparse => sparse::histogram(self.registers)?,
        };
        Ok(estimate::cardinality(&histogram))
    }

    /// Whether adding an element may change it; surely not if this says so.
    pub fn may_change_by(self, element: &[u8]) -> bool {
        let (index, rank) = hash::register_and_rank(element);
        self.encoding == Encoding::Sparse || dense::get(self.registers, index) < rank
    }

    /// Calls `visit` with each register that is not zero, in order.
    ///
    /// # Errors
    /// [`HyperLogLogError::Corrupted`].
    fn for_each_register(self, mut visit: impl FnMut(usize, u8)) -> Result<(), HyperLogLogError> {
        match self.encoding {
            Encoding::Dense => {
                let numbers = dense::iter(self.registers).enumerate();
                numbers
                    .filter(|(_, number)| *number > 0)
                    .for_each(|(at, number)| visit(at, number));
                Ok(())
            }
            Encoding::Sparse => sparse::for_each_register(self.registers, visit),
        }
    }

    /// All registers.
    ///
    /// # Errors
    /// [`HyperLogLogError::Corrupted`].
    pub fn registers(self) -> Result<Vec<u8>, HyperLogLogError> {
        let mut registers = vec![0; REGISTERS];
        self.for_each_register(|index, number| {
            if let Some(register) = registers.get_mut(index) {
                *register = number;
            }
        })?;
        Ok(registers)
    }

    /// The runs of a sparse one, as PFDEBUG DECODE shows them.
    ///
    /// # Errors
    /// [`HyperLogLogError::NotSparse`], [`HyperLogLogError::Corrupted`].
    pub fn decode(self) -> Result<String, HyperLogLogError> {
        match self.encoding {
            Encoding::Sparse => sparse::describe(self.registers),
            Encoding::Dense => Err(HyperLogLogError::NotSparse),
        }
    }
}

/// A HyperLogLog to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperLogLog {
    /// At least a header.
    value: Vec<u8>,
    encoding: Encoding,
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self::new()
    }
}

impl HyperLogLog {
    /// An empty one: sparse, its cardinality known to be 0.
    pub fn new() -> Self {
        let mut value = vec![0; HEADER_BYTES];
        value[..MAGIC.len()].copy_from_slice(MAGIC);
        value[4] = SPARSE;
        sparse::push_zeros(&mut value, REGISTERS);
        Self { value, encoding: Encoding::Sparse }
    }

    /// The one that a string is, or a new one.
    ///
    /// # Errors
    /// [`HyperLogLogError::Foreign`].
    pub fn of(value: Option<&[u8]>) -> Result<Self, HyperLogLogError> {
        let Some(value) = value else { return Ok(Self::new()) };
        let encoding = View::of(value)?.encoding;
        Ok(Self { value: value.to_vec(), encoding })
    }

    /// The string it is stored as.
    pub fn as_bytes(&self) -> &[u8] {
        &self.value
    }

    /// A view of it.
    pub fn view(&self) -> View<'_> {
        let (header, registers) = self.value.split_at(HEADER_BYTES);
        let cached = header.last_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let cached = cached.filter(|cached| cached >> 63 == 0);
        View { encoding: self.encoding, cached, registers }
    }

    /// Adds an element; whether a register grew. A sparse one becomes dense once it would be longer
    /// than `sparse_bytes_max`.
    ///
    /// # Errors
    /// [`HyperLogLogError::Corrupted`].
    pub fn add(
        &mut self,
        element: &[u8],
        sparse_bytes_max: usize,
    ) -> Result<bool, HyperLogLogError> {
        let (index, rank) = hash::register_and_rank(element);
        self.raise(index, rank, sparse_bytes_max)
    }

    /// Makes a register at least `number`; whether it grew.
    fn raise(
        &mut self,
        index: usize,
        number: u8,
        sparse_bytes_max: usize,
    ) -> Result<bool, HyperLogLogError> {
        if self.encoding == Encoding::Sparse {
            match sparse::raise(&mut self.value, index, number, sparse_bytes_max)? {
                sparse::Raised::Not => return Ok(false),
                sparse::Raised::Yes => {
                    self.invalidate();
                    return Ok(true);
                }
                sparse::Raised::NoRoom => {
                    self.make_dense()?;
                }
            }
        }
        let registers = self.value.get_mut(HEADER_BYTES..).unwrap_or_default();
        let is_raised = dense::raise(registers, index, number);
        if is_raised {
            self.invalidate();
        }
        Ok(is_raised)
    }

    /// Stores registers in six bits each; whether they were not.
    ///
    /// # Errors
    /// [`HyperLogLogError::Corrupted`].
    pub fn make_dense(&mut self) -> Result<bool, HyperLogLogError> {
        if self.encoding == Encoding::Dense {
            return Ok(false);
        }
        let mut value = vec![0; DENSE_BYTES];
        let (header, registers) = value.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&self.value[..HEADER_BYTES]);
        header[4] = DENSE;
        self.view().for_each_register(|index, number| {
            dense::raise(registers, index, number);
        })?;
        self.value = value;
        self.encoding = Encoding::Dense;
        Ok(true)
    }

    /// Notes the cardinality, as just counted.
    pub fn cache(&mut self, cardinality: u64) {
        self.value[8..HEADER_BYTES].copy_from_slice(&cardinality.to_le_bytes());
    }

    /// Notes that the cardinality must be counted again.
    pub fn invalidate(&mut self) {
        self.value[HEADER_BYTES - 1] |= OUT_OF_DATE;
    }
}

#[cfg(test)]
mod tests;
