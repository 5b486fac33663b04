//! [`Union`]: PFMERGE, and PFCOUNT of several keys.

use super::{Encoding, HyperLogLog, HyperLogLogError, REGISTERS, View, estimate};

/// The largest of each register over several HyperLogLogs.
#[derive(Debug)]
pub struct Union {
    registers: Vec<u8>,
    has_dense: bool,
}

impl Default for Union {
    fn default() -> Self {
        Self::new()
    }
}

impl Union {
    /// Of none yet.
    pub fn new() -> Self {
        Self { registers: vec![0; REGISTERS], has_dense: false }
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`HyperLogLogError::Foreign`], [`HyperLogLogError::Corrupted`].
    pub fn add(&mut self, value: &[u8]) -> Result<(), HyperLogLogError> {
        let view = View::of(value)?;
        self.has_dense |= view.encoding() == Encoding::Dense;
        view.for_each_register(|index, number| {
            if let Some(register) = self.registers.get_mut(index) {
                *register = number.max(*register);
            }
        })
    }

    /// Estimates how many different elements were added to any of them.
    pub fn count(&self) -> u64 {
        let mut histogram = [0; 64];
        for number in &self.registers {
            histogram[usize::from(number & 63)] += 1;
        }
        estimate::cardinality(&histogram)
    }

    /// Adds all of them to `target`, which becomes dense if one of them is.
    ///
    /// # Errors
    /// [`HyperLogLogError::Corrupted`].
    pub fn merge_into(
        &self,
        target: &mut HyperLogLog,
        sparse_bytes_max: usize,
    ) -> Result<(), HyperLogLogError> {
        if self.has_dense {
            target.make_dense()?;
        }
        for (index, &number) in self.registers.iter().enumerate() {
            if number > 0 {
                target.raise(index, number, sparse_bytes_max)?;
            }
        }
        target.invalidate();
        Ok(())
    }
}
