//! Registers of six bits each, packed from the lowest bit of the first byte on.

use super::Histogram;

const LARGEST: u8 = 63;

/// Register `index`.
pub(super) fn get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = place(index);
    let low = registers.get(byte).copied().unwrap_or_default();
    let high = registers.get(byte + 1).copied().unwrap_or_default();
    (u16::from_le_bytes([low, high]) >> shift) as u8 & LARGEST
}

/// The byte in which a register begins, and its first bit there.
fn place(index: usize) -> (usize, u32) {
    let bit = index * 6;
    (bit / 8, (bit % 8) as u32)
}

/// Makes a register at least `number`; whether it grew.
pub(super) fn raise(registers: &mut [u8], index: usize, number: u8) -> bool {
    let number = number.min(LARGEST);
    if get(registers, index) >= number {
        return false;
    }
    let (byte, shift) = place(index);
    let mask = (u16::from(LARGEST) << shift).to_le_bytes();
    let new = (u16::from(number) << shift).to_le_bytes();
    let held = registers.get_mut(byte..).unwrap_or_default();
    for ((byte, mask), new) in held.iter_mut().zip(mask).zip(new) {
        *byte = *byte & !mask | new;
    }
    true
}

/// All registers, four from each three bytes.
pub(super) fn iter(registers: &[u8]) -> impl Iterator<Item = u8> + '_ {
    registers.as_chunks::<3>().0.iter().flat_map(|&[a, b, c]| {
        let word = u32::from_le_bytes([a, b, c, 0]);
        [word, word >> 6, word >> 12, word >> 18].map(|number| number as u8 & LARGEST)
    })
}

pub(super) fn histogram(registers: &[u8]) -> Histogram {
    let mut histogram = [0; 64];
    for number in iter(registers) {
        histogram[usize::from(number)] += 1;
    }
    histogram
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::REGISTERS;
    use super::*;

    proptest! {
        #[test]
        fn registers_only_grow_and_leave_their_neighbours_alone(
            changes in prop::collection::vec((0..REGISTERS, 0_u8..64), 0..50)
        ) {
            let mut registers = vec![0; REGISTERS * 6 / 8];
            let mut model = vec![0; REGISTERS];
            for (index, number) in changes {
                prop_assert_eq!(raise(&mut registers, index, number), number > model[index]);
                model[index] = number.max(model[index]);
            }
            prop_assert_eq!(&iter(&registers).collect::<Vec<_>>(), &model);
            prop_assert!((0..REGISTERS).all(|index| get(&registers, index) == model[index]));
        }
    }
}
