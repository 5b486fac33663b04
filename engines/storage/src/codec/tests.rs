//! Round trips, damage and exchange of stored blocks.

use super::*;
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

fn place(file_id: u64, offset: u64) -> BlockContext<'static> {
    BlockContext { file: "000007.sst", file_id, offset }
}

fn codecs() -> Vec<BlockCodec> {
    let ring = KeyRing::new(KeyId(1), &[9; 32]);
    [Compression::None, Compression::Lz4, Compression::Zstd(1), Compression::Zstd(19)]
        .into_iter()
        .flat_map(|compression| {
            let (key, _) = ring.new_file_key(7).unwrap();
            let plain = BlockCodec::new(compression, LIMIT).unwrap();
            let sealed = BlockCodec::new(compression, LIMIT).unwrap().with_key(Arc::new(key));
            [plain, sealed]
        })
        .collect()
}

fn stored(codec: &BlockCodec, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(place(7, 4096), plain, &mut out).unwrap();
    out
}

/// The stored block with its checksum made right again, as an attacker would.
fn with_checksum(mut block: Vec<u8>, context: BlockContext<'_>) -> Vec<u8> {
    block.truncate(block.len() - CHECKSUM_BYTES);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&context.bytes()), &block);
    block.extend_from_slice(&checksum.to_le_bytes());
    block
}

fn is_corruption(result: Result<Vec<u8>>) -> bool {
    result.is_err_and(|error| {
        error.kind() == ErrorKind::Corruption
            && error.file() == Some("000007.sst")
            && error.offset().is_some()
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        words in prop::collection::vec(0_u8..4, 0..3000),
        noise in prop::collection::vec(any::<u8>(), 0..300),
        prefix in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        for plain in [&words, &noise] {
            for codec in codecs() {
                let mut out = prefix.clone();
                codec.encode(place(7, 4096), plain, &mut out).unwrap();
                let block = out.strip_prefix(&*prefix).unwrap();
                prop_assert!(block.len() <= plain.len() + BLOCK_OVERHEAD_BYTES_MAX);
                prop_assert_eq!(&codec.decode(place(7, 4096), block).unwrap(), plain);
            }
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        tag in 0_u8..4,
    ) {
        for codec in codecs() {
            prop_assert!(codec.decode(place(7, 4096), &bytes).is_err());
            // With a right checksum the parsers behind it are reached.
            let mut block = vec![tag, 50, 0, 0, 0];
            block.extend_from_slice(&bytes);
            block.extend_from_slice(&[0; CHECKSUM_BYTES]);
            let answer = codec.decode(place(7, 4096), &with_checksum(block, place(7, 4096)));
            prop_assert!(answer.is_err() || answer.is_ok_and(|plain| plain.len() == 50));
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for codec in codecs() {
        for plain in [&b""[..], b"x", &[5; 300], &crate::testing::fs_suite::pattern(1, 200)] {
            let block = stored(&codec, plain);
            for bit in 0..block.len() * 8 {
                let mut damaged = block.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(is_corruption(codec.decode(place(7, 4096), &damaged)), "bit {bit}");
            }
        }
    }
}

#[test]
fn a_block_cut_short_or_prolonged_is_found() {
    for codec in codecs() {
        let block = stored(&codec, &[5; 300]);
        for len in 0..block.len() {
            assert!(is_corruption(codec.decode(place(7, 4096), &block[..len])), "{len} bytes");
        }
        let longer = [&block[..], &[0]].concat();
        assert!(is_corruption(codec.decode(place(7, 4096), &longer)));
    }
}

#[test]
fn a_block_from_elsewhere_is_found() {
    for codec in codecs() {
        let block = stored(&codec, &[5; 300]);
        for wrong in [place(8, 4096), place(7, 8192)] {
            assert!(is_corruption(codec.decode(wrong, &block)), "{wrong:?}");
            if codec.key.is_some() {
                // Even by one who makes the checksum right.
                assert!(is_corruption(codec.decode(wrong, &with_checksum(block.clone(), wrong))));
            }
        }
    }
}

#[test]
fn encryption_hides_and_authenticates() {
    let ring = KeyRing::new(KeyId(1), &[9; 32]);
    let (key, _) = ring.new_file_key(7).unwrap();
    let clear = BlockCodec::new(Compression::None, LIMIT).unwrap();
    let sealed = BlockCodec::new(Compression::None, LIMIT).unwrap().with_key(Arc::new(key));
    let secret = b"the quick brown fox jumps over the lazy dog";
    let block = stored(&sealed, secret);
    assert!(!block.windows(8).any(|window| secret.windows(8).any(|part| part == window)));
    // Changed, with the checksum made right: the tag finds it, at every bit.
    for bit in 0..(block.len() - CHECKSUM_BYTES) * 8 {
        let mut damaged = block.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(sealed.decode(place(7, 4096), &with_checksum(damaged, place(7, 4096))).is_err());
    }
    assert!(is_corruption(sealed.decode(place(7, 4096), &stored(&clear, secret))), "downgrade");
    let error = clear.decode(place(7, 4096), &block).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn lengths_are_held_against_the_limit_before_anything_is_allocated() {
    let codec = BlockCodec::new(Compression::Lz4, 100).unwrap();
    assert!(codec.encode(place(7, 0), &[0; 101], &mut Vec::new()).is_err());
    for tag in 0..3 {
        let mut block = vec![tag];
        block.extend_from_slice(&u32::MAX.to_le_bytes());
        block.extend_from_slice(&[0; 24]);
        let error = codec.decode(place(7, 0), &with_checksum(block, place(7, 0))).unwrap_err();
        assert!(error.to_string().contains("the limit is 100"), "{error}");
    }
    assert!(BlockCodec::new(Compression::Zstd(0), 100).is_err());
    assert!(BlockCodec::new(Compression::None, (1 << 30) + 1).is_err());
}

#[test]
fn compression_pays_or_is_left_out() {
    let noise = crate::testing::fs_suite::pattern(3, 4096);
    for compression in [Compression::Lz4, Compression::Zstd(3)] {
        let codec = BlockCodec::new(compression, LIMIT).unwrap();
        assert!(stored(&codec, &[5; 4096]).len() < 100, "{compression:?}");
        let raw = stored(&codec, &noise);
        assert_eq!((raw[0], raw.len()), (0, noise.len() + HEADER_BYTES + CHECKSUM_BYTES));
    }
}

#[test]
fn an_unknown_compression_is_a_newer_version() {
    let codec = BlockCodec::new(Compression::Lz4, LIMIT).unwrap();
    let mut block = stored(&codec, &[5; 300]);
    block[0] = 9;
    let error = codec.decode(place(7, 4096), &with_checksum(block, place(7, 4096))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionTooNew, "{error}");
}

#[test]
fn keys_rotate_without_touching_blocks() {
    let mut ring = KeyRing::new(KeyId(1), &[1; 32]);
    let (key, wrapped) = ring.new_file_key(7).unwrap();
    let codec = BlockCodec::new(Compression::Lz4, LIMIT).unwrap().with_key(Arc::new(key));
    let block = stored(&codec, b"under the first key");
    ring.rotate(KeyId(2), &[2; 32]).unwrap();
    assert!(ring.rotate(KeyId(1), &[3; 32]).is_err());
    assert!(ring.remove(KeyId(2)).is_err());
    let rewrapped = ring.rewrap(7, &wrapped).unwrap();
    assert_eq!((KeyRing::id_of(&wrapped), KeyRing::id_of(&rewrapped)), (KeyId(1), KeyId(2)));
    ring.remove(KeyId(1)).unwrap();
    assert_eq!(ring.unwrap_key(7, &wrapped).unwrap_err().kind(), ErrorKind::NotFound);
    let key = ring.unwrap_key(7, &rewrapped).unwrap();
    let codec = BlockCodec::new(Compression::None, LIMIT).unwrap().with_key(Arc::new(key));
    assert_eq!(codec.decode(place(7, 4096), &block).unwrap(), b"under the first key");
}

#[test]
fn a_wrapped_key_that_was_changed_or_exchanged_is_found() {
    let ring = KeyRing::new(KeyId(1), &[1; 32]);
    let (_, wrapped) = ring.new_file_key(7).unwrap();
    assert_eq!(ring.unwrap_key(8, &wrapped).unwrap_err().kind(), ErrorKind::Corruption);
    for bit in 0..WRAPPED_KEY_BYTES * 8 {
        let mut damaged = wrapped;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(ring.unwrap_key(7, &damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn two_files_never_share_a_key() {
    let ring = KeyRing::new(KeyId(1), &[1; 32]);
    let block = |file_id| {
        let (key, _) = ring.new_file_key(file_id).unwrap();
        let codec = BlockCodec::new(Compression::None, LIMIT).unwrap().with_key(Arc::new(key));
        stored(&codec, &[0; 64])
    };
    assert_ne!(block(7), block(7));
}

/// Found by fuzzing: a few compressed bytes that claim the largest block took its memory first.
#[test]
fn a_claimed_length_that_the_payload_cannot_hold_is_refused() {
    for compression in [Compression::Lz4, Compression::Zstd(1)] {
        let codec = BlockCodec::new(compression, LIMIT).unwrap();
        let mut block = stored(&codec, &[7; 64]);
        let claim = u32::try_from(LIMIT).unwrap().to_le_bytes();
        block[1..5].copy_from_slice(&claim);
        let block = with_checksum(block, place(7, 4096));
        let error = codec.decode(place(7, 4096), &block).unwrap_err().to_string();
        assert!(error.contains("compressed bytes can hold"), "{error}");
    }
    // What compresses best is within the bounds.
    for codec in codecs() {
        let plain = vec![7; LIMIT];
        let block = stored(&codec, &plain);
        assert_eq!(codec.decode(place(7, 4096), &block).unwrap(), plain);
    }
}
