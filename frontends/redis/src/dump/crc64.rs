//! [`crc64()`]: the checksum of Redis' payloads and files.

/// The polynomial of Jones, bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// `TABLES[k][b]` is the checksum of the byte `b` and `k` zero bytes.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut checksum = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            checksum = checksum >> 1 ^ if checksum & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = checksum;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[zeros - 1][byte];
            tables[zeros][byte] = before >> 8 ^ tables[0][before as usize & 0xff];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// CRC-64 with the polynomial of Jones, reflected, without initial or final inversion.
pub fn crc64(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut checksum = 0_u64;
    for word in words {
        let mixed = (checksum ^ u64::from_le_bytes(*word)).to_le_bytes();
        checksum = mixed
            .iter()
            .zip(TABLES.iter().rev())
            .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)]);
    }
    for byte in rest {
        checksum = checksum >> 8 ^ TABLES[0][usize::from(checksum as u8 ^ byte)];
    }
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit_by_bit(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |checksum, byte| {
            (0..8).fold(checksum ^ u64::from(*byte), |sum, _| {
                sum >> 1 ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 }
            })
        })
    }

    #[test]
    fn the_check_value_is_that_of_redis() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(b""), 0);
    }

    proptest::proptest! {
        #[test]
        fn eight_bytes_at_a_time_is_the_same(bytes: Vec<u8>) {
            proptest::prop_assert_eq!(crc64(&bytes), bit_by_bit(&bytes));
        }
    }
}
