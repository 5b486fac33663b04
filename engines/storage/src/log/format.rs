//! The bytes of segments and records. All integers are little-endian.

/// What a segment file begins with.
pub(super) const MAGIC: [u8; 8] = *b"FKLOGSEG";
/// The newest format this code reads, and the one it writes.
pub(super) const FORMAT_VERSION: u32 = 1;
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
pub(super) const RECORD_HEADER_BYTES: usize = 32;
/// Records start at multiples of this, so that a search for them is short.
pub(super) const ALIGNMENT: usize = 8;

/// What is believed of a stored length, whatever the configuration says now.
pub(super) const STORED_RECORD_BYTES_MAX: usize = 1 << 30;

/// No log comes so far: with positions below this, no sum of position and size overflows.
const POSITION_MAX: u64 = 1 << 62;

const RECORD_VERSION: u8 = 1;

const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(ALIGNMENT));

/// `magic(8) version(4) 0(4) start(8) epoch(4) 0(32) crc32c(4)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The position of the first record.
    pub(super) start: u64,
    /// The opening that wrote the segment; it never decreases along the log.
    pub(super) epoch: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    TooNew(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.start.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(BadHeader::Damaged("the file is shorter than a segment header"));
        };
        if bytes[..8] != MAGIC {
            return Err(BadHeader::Damaged("this is no log segment"));
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(BadHeader::Damaged("the checksum of the segment header is wrong"));
        }
        let version = u32_at(bytes, 8);
        if version > FORMAT_VERSION {
            return Err(BadHeader::TooNew(version));
        }
        let header = Self { start: u64_at(bytes, 16), epoch: u32_at(bytes, 24) };
        let is_position =
            header.start.is_multiple_of(ALIGNMENT as u64) && header.start <= POSITION_MAX;
        if version == 0 || !is_position {
            return Err(BadHeader::Damaged("the segment header makes no sense"));
        }
        Ok(header)
    }
}

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RecordKind {
    /// Bytes of the engine.
    Data = 0,
    /// The end of an orderly closed log: proof that what lies before it was synced.
    Closing = 1,
}

/// `crc32c(4) length(4) position(8) synced_through(8) epoch(4) kind(1) version(1) 0(2)`, then the
/// payload, then zeros up to the alignment. The checksum covers the payload, then the header from
/// `length` on: so the long part is summed before the position is known, outside the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) length: u32,
    pub(super) position: u64,
    /// How far the log was on the device when this record was appended.
    pub(super) synced_through: u64,
    pub(super) epoch: u32,
    pub(super) kind: u8,
}

impl RecordHeader {
    pub(super) fn encode(&self, payload_crc: u32) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced_through.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[28] = self.kind;
        bytes[29] = RECORD_VERSION;
        let crc = crc32c::crc32c_append(payload_crc, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// What to expect of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) position: u64,
    pub(super) epoch: u32,
}

/// The start of some bytes, taken as a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// An intact record of `total` bytes, padding included.
    Record { header: RecordHeader, payload: &'a [u8], total: usize },
    /// It takes this many bytes to tell.
    Incomplete(usize),
    /// No record.
    Invalid(&'static str),
    /// An intact record of a later version.
    TooNew(u8),
}

pub(super) fn parse<'a>(bytes: &'a [u8], expected: &Expected) -> Parsed<'a> {
    let Some(head) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
        return Parsed::Incomplete(RECORD_HEADER_BYTES);
    };
    let header = RecordHeader {
        length: u32_at(head, 4),
        position: u64_at(head, 8),
        synced_through: u64_at(head, 16),
        epoch: u32_at(head, 24),
        kind: head[28],
    };
    if header.position != expected.position {
        return Parsed::Invalid("no record of this position");
    }
    if header.epoch != expected.epoch {
        return Parsed::Invalid("a record of another opening of the log");
    }
    let length = header.length as usize;
    if length > STORED_RECORD_BYTES_MAX {
        return Parsed::Invalid("the length is beyond the limit");
    }
    let total = record_bytes(length);
    let Some(body) = bytes.get(RECORD_HEADER_BYTES..total) else {
        return Parsed::Incomplete(total);
    };
    let (payload, padding) = body.split_at(length);
    let crc = crc32c::crc32c_append(crc32c::crc32c(payload), &head[4..]);
    if crc != u32_at(head, 0) {
        return Parsed::Invalid("the checksum of the record is wrong");
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Parsed::Invalid("the padding of the record is not zero");
    }
    if head[29] != RECORD_VERSION || header.kind > RecordKind::Closing as u8 {
        return Parsed::TooNew(head[29]);
    }
    Parsed::Record { header, payload, total }
}

/// The bytes a record of this payload takes.
pub(super) const fn record_bytes(length: usize) -> usize {
    (RECORD_HEADER_BYTES + length).next_multiple_of(ALIGNMENT)
}

/// The position that the bytes at `at`, taken as a record, would claim.
pub(super) fn position_of_candidate(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.get(8..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*field))
}

/// The longest run of whole records at the start of `bytes` that fits into `room`.
pub(super) fn whole_records(bytes: &[u8], room: usize) -> usize {
    let mut end = 0;
    while let Some(total) = bytes.get(end..).and_then(first_record_bytes) {
        if end + total > room {
            break;
        }
        end += total;
    }
    end
}

/// The bytes of the record that `bytes`, which this log itself encoded, begin with.
pub(super) fn first_record_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    Some(record_bytes(u32_at(head, 4) as usize))
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
