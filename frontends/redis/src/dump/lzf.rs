//! The LZF format: literals, and repetitions of what was seen within the last 8 KiB.
//!
//! | bytes | meaning |
//! |---|---|
//! | `000nnnnn` | n + 1 literal bytes follow |
//! | `lllddddd dddddddd` | l + 2 bytes, l from 1 to 6, from d + 1 bytes back |
//! | `111ddddd mmmmmmmm dddddddd` | m + 9 bytes from d + 1 bytes back |

/// The longest run of literals.
const LITERALS_MAX: usize = 1 << 5;
/// The farthest repetition.
const DISTANCE_MAX: usize = 1 << 13;
/// The shortest repetition worth its bytes.
const REPEAT_MIN: usize = 3;
/// The longest repetition: nine and what a byte holds.
const REPEAT_MAX: usize = 264;
/// Slots of the table of places seen.
const SLOTS: usize = 1 << 13;
/// No repetition yields more bytes for one byte of input.
const EXPANSION_MAX: usize = REPEAT_MAX / 3;

/// Compresses into at most `bytes_max`; `None` if it takes more.
pub fn compress(input: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    // Places are one more than they are, so that zero is none.
    let mut seen = vec![0_u32; SLOTS];
    let mut out = Vec::with_capacity(bytes_max.min(input.len()));
    let (mut at, mut literals) = (0, 0);
    while let Some(next) = input.get(at..).and_then(|rest| rest.first_chunk::<REPEAT_MIN>()) {
        let slot = seen.get_mut(slot_of(*next))?;
        let place = (*slot as usize).checked_sub(1);
        *slot = u32::try_from(at + 1).ok()?;
        let len = place.map_or(0, |place| repeated(input, place, at));
        if len < REPEAT_MIN {
            at += 1;
            continue;
        }
        push_literals(&mut out, input.get(literals..at)?);
        push_repeat(&mut out, at - place?, len);
        at += len;
        literals = at;
        if out.len() > bytes_max {
            return None;
        }
    }
    push_literals(&mut out, input.get(literals..)?);
    (out.len() <= bytes_max).then_some(out)
}

fn slot_of(bytes: [u8; REPEAT_MIN]) -> usize {
    let [a, b, c] = bytes;
    let mixed = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(0x9E37_79B1);
    (mixed >> 16) as usize % SLOTS
}

/// How many bytes at `at` are those at `place`, if that is near enough.
fn repeated(input: &[u8], place: usize, at: usize) -> usize {
    if at - place > DISTANCE_MAX {
        return 0;
    }
    let before = input.get(place..).unwrap_or_default();
    let now = input.get(at..).unwrap_or_default();
    before.iter().zip(now).take(REPEAT_MAX).take_while(|(a, b)| a == b).count()
}

fn push_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn push_repeat(out: &mut Vec<u8>, distance: usize, len: usize) {
    let [high, low] = (distance as u16 - 1).to_be_bytes();
    if len < 9 {
        out.extend_from_slice(&[(len as u8 - 2) << 5 | high, low]);
    } else {
        out.extend_from_slice(&[7 << 5 | high, (len - 9) as u8, low]);
    }
}

/// Decompresses to exactly `len` bytes; `None` if the input does not come to that.
///
/// The memory it takes is bounded by a multiple of the input, whatever `len` says.
pub fn decompress(mut input: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > input.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    while let Some((&control, rest)) = input.split_first() {
        let literals = usize::from(control) + 1;
        if literals <= LITERALS_MAX {
            let (run, rest) = rest.split_at_checked(literals)?;
            out.extend_from_slice(run);
            input = rest;
        } else {
            let (longer, rest) = if control >> 5 == 7 {
                rest.split_first().map(|(m, rest)| (*m, rest))?
            } else {
                (0, rest)
            };
            let (&low, rest) = rest.split_first()?;
            let repeat = usize::from(control >> 5) + usize::from(longer) + 2;
            let distance = usize::from(u16::from_be_bytes([control & 0x1f, low])) + 1;
            push_repeated(&mut out, distance, repeat, len)?;
            input = rest;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

/// Appends `repeat` bytes from `distance` back, which may reach into what is being appended.
fn push_repeated(out: &mut Vec<u8>, distance: usize, repeat: usize, len_max: usize) -> Option<()> {
    let from = out.len().checked_sub(distance)?;
    if out.len() + repeat > len_max {
        return None;
    }
    if repeat <= distance {
        out.extend_from_within(from..from + repeat);
    } else {
        for index in from..from + repeat {
            out.push(*out.get(index)?);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_compressed_by_redis_is_read() {
        assert_eq!(decompress(&[1, 97, 97, 0xe0, 10, 0], 21), Some(vec![b'a'; 21]));
        let many = [1, 97, 97, 0xe0, 0x57, 0, 1, 97, 97];
        assert_eq!(decompress(&many, 100), Some(vec![b'a'; 100]));
        let digits = b"\x0a0123456789\x30\xe0\x0a\x09";
        assert_eq!(decompress(digits, 30), Some(b"0123456789".repeat(3)));
    }

    #[test]
    fn damage_is_found_and_lengths_are_not_believed() {
        let valid = [1, 97, 97, 0xe0, 10, 0];
        for len in [0, 1, 20, 22, usize::MAX] {
            assert_eq!(decompress(&valid, len), None, "{len}");
        }
        for cut in 1..valid.len() {
            assert_eq!(decompress(&valid[..cut], 21), None, "{cut} bytes");
        }
        assert_eq!(decompress(&[0x20, 0], 3), None, "from before the start");
        assert_eq!(decompress(b"", 0), Some(Vec::new()));
    }

    #[test]
    fn what_repeats_shrinks_and_noise_is_left_alone() {
        let repeated = b"a storage engine toolkit ".repeat(1000);
        assert!(compress(&repeated, repeated.len()).unwrap().len() < 500);
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(1000)
        .collect();
        assert_eq!(compress(&noise, noise.len() - 4), None);
    }

    fn any_input() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::collection::vec(prop_oneof!["[ab]{0,20}", "[a-z]{0,9}"], 0..200);
        let runs = prop::collection::vec((any::<u8>(), 1_usize..2000), 0..20);
        prop_oneof![
            words.prop_map(|words| words.concat().into_bytes()),
            runs.prop_map(|runs| runs.iter().flat_map(|(byte, len)| vec![*byte; *len]).collect()),
            prop::collection::vec(any::<u8>(), 0..300),
        ]
    }

    proptest! {
        #[test]
        fn what_was_compressed_is_decompressed(input in any_input()) {
            let compressed = compress(&input, 2 * input.len() + 2).unwrap();
            prop_assert_eq!(decompress(&compressed, input.len()), Some(input));
        }

        #[test]
        fn any_bytes_are_decompressed_or_refused(input: Vec<u8>, len in 0_usize..5000) {
            if let Some(out) = decompress(&input, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
