//! Little-endian and varint encoding, with a reader that checks every step: all bytes that come
//! from a disk go through [`Reader`].

use ferrokit_engine::UnixMillis;

/// Appends `value` in LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends an expiry: 0 for none.
pub(crate) fn put_expiry(out: &mut Vec<u8>, expire_at: Option<UnixMillis>) {
    // 0 ms is as much in the past as 1 ms is.
    out.extend_from_slice(&expire_at.map_or(0, |at| at.0.max(1)).to_le_bytes());
}

/// Bytes that end too early or encode nonsense. The caller knows where they come from and makes
/// it a corruption of that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

type Decoded<T> = Result<T, Malformed>;

/// Reads encoded fields off the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed("ends too early"))
    }

    pub(crate) fn u8(&mut self) -> Decoded<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Decoded<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Decoded<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Decoded<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("number beyond 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("number beyond 64 bits"))
    }

    pub(crate) fn varint_u32(&mut self) -> Decoded<u32> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("number beyond 32 bits"))
    }

    pub(crate) fn length(&mut self) -> Decoded<usize> {
        usize::try_from(self.varint()?).map_err(|_| Malformed("length beyond memory"))
    }

    /// A length and that many bytes.
    pub(crate) fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let len = self.length()?;
        self.take(len)
    }

    pub(crate) fn expiry(&mut self) -> Decoded<Option<UnixMillis>> {
        Ok(match self.u64()? {
            0 => None,
            at => Some(UnixMillis(at)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_varint_comes_back(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_empty());
            assert!(Reader::new(&out[..out.len() - 1]).varint().is_err());
        }
    }

    #[test]
    fn an_endless_varint_is_refused() {
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
    }
}
