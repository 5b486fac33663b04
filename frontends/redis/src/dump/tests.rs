//! Payloads as redis-server 7.0.15 made them, and properties.

use proptest::prelude::*;

use super::*;

const FOOTER_BYTES: usize = 10;
const BYTES_MAX: usize = 512 << 20;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A payload with its checksum corrected.
fn sealed(body: &[u8], version: u16) -> Vec<u8> {
    let mut payload = body.to_vec();
    payload.extend_from_slice(&version.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

const FROM_REDIS: &[(&str, &str)] = &[
    ("1", "00c0010a002678e7b6d10111fc"),
    ("-1", "00c0ff0a000c937e2485089dc5"),
    ("127", "00c07f0a000db5eb315254c514"),
    ("-128", "00c0800a009966326d2f0c5bd9"),
    ("128", "00c180000a00eb7ab3b510cf4b65"),
    ("-129", "00c17fff0a001760822854808480"),
    ("32767", "00c1ff7f0a00495a37da17f4d52b"),
    ("32768", "00c2008000000a0045d82eedd5bda910"),
    ("-32769", "00c2ff7fffff0a00aee34c4d06c68536"),
    ("2147483647", "00c2ffffff7f0a002c74e59ee02eada1"),
    ("2147483648", "000a323134373438333634380a00e7b129a34c1d76ee"),
    ("-2147483648", "00c2000000800a00c74f873e33558187"),
    ("-2147483649", "000b2d323134373438333634390a00c261377908f2028c"),
    ("99999999999", "000b39393939393939393939390a0023b048fb0edbef7f"),
    ("", "00000a005d9b5c400f7fa2da"),
    ("abc", "00036162630a00d9ac303d4172a2e2"),
    ("01", "000230310a006cddc441144c7da4"),
];

#[test]
fn payloads_of_redis_are_read_and_their_like_written() {
    for (value, payload) in FROM_REDIS {
        let payload = bytes(payload);
        assert_eq!(read_string(&payload, BYTES_MAX).as_deref(), Ok(value.as_bytes()), "{value}");
        let body = &payload[..payload.len() - FOOTER_BYTES];
        assert_eq!(write_string(value.as_bytes(), true), sealed(body, VERSION), "{value}");
    }
    let compressed = bytes("00c3094064016161e057000161610a00e8a3b507b06df271");
    assert_eq!(read_string(&compressed, BYTES_MAX), Ok(vec![b'a'; 100]));
}

#[test]
fn a_wrong_footer_is_told_from_wrong_content() {
    let valid = write_string(b"abc", true);
    assert_eq!(&valid[valid.len() - 10..valid.len() - 8], [11, 0]);
    for at in 0..valid.len() {
        let mut payload = valid.clone();
        payload[at] ^= 1;
        assert_eq!(read_string(&payload, BYTES_MAX), Err(DumpError::VersionOrChecksum), "{at}");
        assert_eq!(read_string(&valid[..at], BYTES_MAX), Err(DumpError::VersionOrChecksum));
    }
    let body = &valid[..valid.len() - FOOTER_BYTES];
    assert_eq!(read_string(&sealed(body, 12), BYTES_MAX), Err(DumpError::VersionOrChecksum));
    for version in 1..=11 {
        assert_eq!(read_string(&sealed(body, version), BYTES_MAX).as_deref(), Ok(&b"abc"[..]));
    }
    for kind in 1..=255 {
        assert_eq!(read_string(&sealed(&[kind, 0], 11), BYTES_MAX), Err(DumpError::Format));
    }
    assert_eq!(read_string(&sealed(&[], 11), BYTES_MAX), Err(DumpError::Format));
}

#[test]
fn lengths_are_not_believed() {
    let huge = [0xff; 8];
    let mut bodies = vec![
        [&[0, 0x81][..], &huge].concat(),
        [&[0, 0xc3, 5, 0x81][..], &huge, b"abcde"].concat(),
        [&[0, 0xc3, 0x81][..], &huge, &[5], b"abcde"].concat(),
        vec![0, 0x80, 0x7f, 0xff, 0xff, 0xff, b'a'],
        vec![0, 0xc3, 1, 0x80, 0x1f, 0xff, 0xff, 0xff, 0],
        vec![0, 3, b'a'],
        vec![0, 0x40],
        vec![0, 0x82, 0, 0, 0, 0, 0],
        vec![0, 0xc4, 0, 0, 0, 0, 0],
        vec![0, 0xc2, 0, 0, 0],
    ];
    bodies.extend((1..4).map(|len| vec![0, 0xc3, len]));
    for body in bodies {
        assert_eq!(read_string(&sealed(&body, 11), BYTES_MAX), Err(DumpError::Format), "{body:x?}");
    }
    let long = write_string(&[b'a'; 100], false);
    assert_eq!(read_string(&long, 99), Err(DumpError::Format));
    let compressed = write_string(&[b'a'; 100], true);
    assert!(compressed.len() < 30);
    assert_eq!(read_string(&compressed, 99), Err(DumpError::Format));
}

proptest! {
    #[test]
    fn any_string_comes_back(
        value in prop_oneof![
            any::<Vec<u8>>(),
            "[ab]{0,40000}".prop_map(String::into_bytes),
            any::<i64>().prop_map(|number| number.to_string().into_bytes()),
            any::<i16>().prop_map(|number| number.to_string().into_bytes()),
        ],
        compresses: bool,
    ) {
        let payload = write_string(&value, compresses);
        prop_assert_eq!(read_string(&payload, BYTES_MAX), Ok(value));
    }

    #[test]
    fn any_body_is_read_or_refused(
        mut body in prop::collection::vec(any::<u8>(), 0..100), is_string: bool
    ) {
        if let Some(first) = body.first_mut().filter(|_| is_string) {
            *first = STRING;
        }
        let _ = read_string(&sealed(&body, VERSION), 1 << 20);
    }
}
