//! Reading records that are not in memory.

use ferrokit_engine::{Op, Result};

use super::Store;
use super::known::{Asked, ChainRecord, ColdKey, ColdValue, Known};
use super::tiers::Tiers;
use crate::address::LogicalAddress;
use crate::disk::image::{self, FIXED_BYTES, StoredRecord};
use crate::primitive::Ordering;

/// Bytes read at first: most records are shorter, and the rest of a longer one is read then.
const FIRST_READ_BYTES: usize = 1024;

/// A record's bytes, or the sign that the log was truncated beyond it meanwhile.
enum Fetched {
    Record(Vec<u8>),
    Gone,
}

impl Tiers {
    /// Begins to read the record at `address`; `None` if it was given up.
    fn begin_read(&self, address: LogicalAddress) -> Option<(usize, Op<'static, Vec<u8>>)> {
        let (page, offset) =
            (address.page(self.page_words_log2), address.offset(self.page_words_log2));
        let offset = offset as u64 * 8;
        let left = (1_u64 << self.page_words_log2) * 8 - offset;
        let len = left.min(FIRST_READ_BYTES as u64) as usize;
        Some((len, self.segments.read(page, offset, len)?))
    }

    /// The bytes of the record at `address`, of which the first are being read.
    async fn finish_read(
        &self,
        address: LogicalAddress,
        begun: Option<(usize, Op<'static, Vec<u8>>)>,
    ) -> Result<Fetched> {
        let Some((len, first)) = begun else { return Ok(Fetched::Gone) };
        let bytes = first.await?;
        let (page, offset) =
            (address.page(self.page_words_log2), address.offset(self.page_words_log2));
        let left = (1_usize << self.page_words_log2) * 8 - offset * 8;
        let wanted =
            image::checked_bytes(&bytes).filter(|wanted| (FIXED_BYTES..=left).contains(wanted));
        let bytes = match wanted {
            None => return Err(self.damaged(address)),
            Some(wanted) if wanted <= len => bytes,
            Some(wanted) => match self.segments.read(page, offset as u64 * 8, wanted) {
                Some(read) => read.await?,
                None => return Ok(Fetched::Gone),
            },
        };
        self.cold_reads.fetch_add(1, Ordering::Relaxed);
        Ok(Fetched::Record(bytes))
    }

    fn damaged(&self, address: LogicalAddress) -> ferrokit_engine::Error {
        let (page, offset) =
            (address.page(self.page_words_log2), address.offset(self.page_words_log2));
        self.segments.corruption(page, offset as u64 * 8, "a record does not match its checksum")
    }

    fn parse<'b>(&self, address: LogicalAddress, bytes: &'b [u8]) -> Result<StoredRecord<'b>> {
        image::read_record(bytes, address).ok_or_else(|| self.damaged(address))
    }
}

impl Store {
    /// Reads what was asked for. What was given up meanwhile stays unknown: who asked looks again.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(super) async fn read_cold(&self, asked: Vec<Asked>, known: &mut Known) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        // All first reads are under way before the first is waited for.
        let begun: Vec<_> = asked
            .into_iter()
            .map(|asked| {
                let (Asked::Key { start, .. } | Asked::Chain { start, .. }) = asked;
                let read = tiers.begin_read(start);
                (asked, read)
            })
            .collect();
        for (asked, read) in begun {
            match asked {
                Asked::Key { start, begin, space, key } => {
                    let chain = Chain { start, begin, first: read };
                    self.read_key(tiers, chain, space, key, known).await?;
                }
                Asked::Chain { start, begin } => {
                    let chain = Chain { start, begin, first: read };
                    self.read_chain(tiers, chain, known).await?;
                }
            }
        }
        Ok(())
    }

    async fn read_key(
        &self,
        tiers: &Tiers,
        chain: Chain,
        space: u64,
        key: Box<[u8]>,
        known: &mut Known,
    ) -> Result<()> {
        let Chain { start, begin, first } = chain;
        let (mut address, mut read) = (start, first);
        while address >= begin {
            let Fetched::Record(bytes) = tiers.finish_read(address, read).await? else {
                return Ok(());
            };
            let record = tiers.parse(address, &bytes)?;
            let previous = record.header.previous();
            if record.space == space && record.key == &*key && !record.header.is_removed() {
                let link = if address == start { previous } else { start };
                known.add_key(start, ColdKey { space, key, address, value: value(&record), link });
                return Ok(());
            }
            address = previous;
            read = if address >= begin { tiers.begin_read(address) } else { None };
        }
        // Else compaction may have moved what lived further down to where this did not look.
        if self.log.begin() == begin {
            let address = LogicalAddress::NULL;
            known.add_key(start, ColdKey { space, key, address, value: None, link: start });
        }
        Ok(())
    }

    async fn read_chain(&self, tiers: &Tiers, chain: Chain, known: &mut Known) -> Result<()> {
        let Chain { start, begin, first } = chain;
        let (mut address, mut read) = (start, first);
        let mut records = Vec::new();
        while address >= begin {
            let Fetched::Record(bytes) = tiers.finish_read(address, read).await? else {
                return Ok(());
            };
            let record = tiers.parse(address, &bytes)?;
            if !record.header.is_removed() {
                records.push(ChainRecord {
                    space: record.space,
                    hash_low: record.hash_low,
                    key: record.key.to_vec(),
                    value: value(&record),
                });
            }
            address = record.header.previous();
            read = if address >= begin { tiers.begin_read(address) } else { None };
        }
        if self.log.begin() == begin {
            known.add_chain(start, records);
        }
        Ok(())
    }
}

/// The cold part of a chain, of which the first record is being read.
struct Chain {
    start: LogicalAddress,
    begin: LogicalAddress,
    first: Option<(usize, Op<'static, Vec<u8>>)>,
}

/// What a record says of its key.
fn value(record: &StoredRecord<'_>) -> Option<ColdValue> {
    (!record.header.is_tombstone())
        .then(|| ColdValue { value: record.value.to_vec(), expire_at: record.expire_at })
}
