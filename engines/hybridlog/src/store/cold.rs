//! Reading records that are not in memory.
//!
//! A record is looked for in the read cache first. On an executor's thread all first reads of an
//! operation are under way together; a thread that waits for this operation alone reads by itself.

use ferrokit_engine::{Op, Result, may_block};

use super::chain::Cold;
use super::known::{Asked, ChainRecord, ColdKey, ColdValue, Known};
use super::tiers::Tiers;
use super::{Name, Store};
use crate::address::LogicalAddress;
use crate::disk::image::{self, FIXED_BYTES, StoredRecord};
use crate::keyspaces::owner_of;
use crate::log::record::Copied;
use crate::primitive::Ordering;

/// Bytes read at first: most records are shorter, and the rest of a longer one is read then.
const FIRST_READ_BYTES: usize = 1024;

/// A record's bytes, or the sign that the log was truncated beyond it meanwhile.
enum Fetched {
    Record { bytes: Vec<u8>, is_cached: bool },
    Gone,
}

/// How bytes come from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// On the calling thread, which has nothing else to wait for.
    Now,
    /// Under way together with others.
    Await,
}

/// A record on its way.
enum Coming {
    /// From the read cache.
    Here(Vec<u8>),
    /// Its first `len` bytes are being read.
    Begun { len: usize, first: Op<'static, Vec<u8>> },
    /// It was given up.
    Gone,
}

impl Tiers {
    /// Begins to read the record at `address`.
    fn begin_read(&self, address: LogicalAddress, how: How) -> Coming {
        if let Some(cache) = &self.read_cache
            && let Some(bytes) = cache.get(address, |_, bytes| bytes.to_vec())
        {
            self.read_cache_hits.0.fetch_add(1, Ordering::Relaxed);
            return Coming::Here(bytes);
        }
        let offset = address.offset(self.page_words_log2) as u64 * 8;
        let left = (1_u64 << self.page_words_log2) * 8 - offset;
        let len = left.min(FIRST_READ_BYTES as u64) as usize;
        match self.read_bytes(address, len, how) {
            Some(first) => Coming::Begun { len, first },
            None => Coming::Gone,
        }
    }

    /// `len` bytes from `address` on.
    fn read_bytes(
        &self,
        address: LogicalAddress,
        len: usize,
        how: How,
    ) -> Option<Op<'static, Vec<u8>>> {
        let page = address.page(self.page_words_log2);
        let offset = address.offset(self.page_words_log2) as u64 * 8;
        match how {
            How::Now => self.segments.read_now(page, offset, len).map(Op::from),
            How::Await => self.segments.read(page, offset, len),
        }
    }

    /// The bytes of the record at `address`.
    async fn finish_read(
        &self,
        address: LogicalAddress,
        coming: Coming,
        how: How,
    ) -> Result<Fetched> {
        let (len, first) = match coming {
            Coming::Gone => return Ok(Fetched::Gone),
            Coming::Here(bytes) => return Ok(Fetched::Record { bytes, is_cached: true }),
            Coming::Begun { len, first } => (len, first),
        };
        let mut bytes = first.await?;
        let left = ((1 << self.page_words_log2) - address.offset(self.page_words_log2)) * 8;
        let wanted = image::checked_bytes(&bytes)
            .filter(|wanted| (FIXED_BYTES..=left).contains(wanted))
            .ok_or_else(|| self.damaged(address))?;
        if wanted <= len {
            bytes.truncate(wanted);
        } else {
            let Some(whole) = self.read_bytes(address, wanted, how) else {
                return Ok(Fetched::Gone);
            };
            bytes = whole.await?;
        }
        self.cold_reads.fetch_add(1, Ordering::Relaxed);
        Ok(Fetched::Record { bytes, is_cached: false })
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
    /// Finds out what was asked for, or does it. What was given up meanwhile stays unknown: who asked
    /// looks again.
    ///
    /// # Errors
    /// `Corruption`, `Io`; for pieces to be written, those of a put.
    pub(super) async fn find_out(
        &self,
        operation: &'static str,
        asked: Vec<Asked>,
        known: &mut Known,
    ) -> Result<()> {
        known.forget_unused();
        let mut records = Vec::with_capacity(asked.len());
        for asked in asked {
            match asked {
                Asked::Key { .. } | Asked::Chain { .. } => records.push(asked),
                Asked::Whole { space, manifest } => self.read_whole(space, manifest, known).await?,
                Asked::Pieces { keyspace, key, value } => {
                    let written = self.write_pieces(operation, keyspace, &key, &value).await?;
                    known.add_written(value, written);
                }
            }
        }
        self.read_records(records, known).await
    }

    /// Reads the records that were asked for.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(super) async fn read_records(&self, asked: Vec<Asked>, known: &mut Known) -> Result<()> {
        let Some(tiers) = &self.tiers else { return Ok(()) };
        let how = if asked.len() == 1 && may_block() { How::Now } else { How::Await };
        // All first reads are under way before the first is waited for.
        let begun: Vec<_> = asked
            .into_iter()
            .map(|asked| {
                let read = match asked {
                    Asked::Key { start, .. } | Asked::Chain { start, .. } => {
                        tiers.begin_read(start, how)
                    }
                    Asked::Whole { .. } | Asked::Pieces { .. } => Coming::Gone,
                };
                (asked, read)
            })
            .collect();
        for (asked, first) in begun {
            match asked {
                Asked::Key { start, begin, space, key } => {
                    let chain = Chain { start, begin, first, how };
                    self.read_key(tiers, chain, space, key, known).await?;
                }
                Asked::Chain { start, begin } => {
                    let chain = Chain { start, begin, first, how };
                    self.read_chain(tiers, chain, known).await?;
                }
                // No records.
                Asked::Whole { .. } | Asked::Pieces { .. } => {}
            }
        }
        Ok(())
    }

    /// Appends to `out` what the read cache has of a key in the cold part of its chain, without
    /// waiting; `None` if it lacks something on the way.
    pub(super) fn read_cached(
        &self,
        cold: &Cold<'_>,
        name: &Name<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Option<Copied>> {
        let tiers = self.tiers.as_ref()?;
        let cache = tiers.read_cache.as_ref()?;
        let mut address = cold.address;
        while address >= cold.begin {
            // The key's own record, or what lies behind another's.
            let seen = cache.get(address, |record, _| {
                let header = record.header;
                let is_named = record.space == name.space && record.key == name.key;
                if !is_named || header.is_removed() {
                    return Err(header.previous());
                }
                let (value_len, expire_at) = (record.value.len(), record.expire_at);
                let is_live = !header.is_tombstone() && !self.is_expired(expire_at);
                Ok(is_live.then(|| {
                    out.extend_from_slice(record.value);
                    Copied { value_len, expire_at, is_long: header.is_long() }
                }))
            })?;
            match seen {
                Ok(answer) => {
                    tiers.read_cache_hits.0.fetch_add(1, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(previous) => address = previous,
            }
        }
        // Else compaction may have moved what lived further down to where this did not look.
        (self.log.begin() == cold.begin).then_some(None)
    }

    async fn read_key(
        &self,
        tiers: &Tiers,
        chain: Chain,
        space: u64,
        key: Box<[u8]>,
        known: &mut Known,
    ) -> Result<()> {
        let Chain { start, begin, first, how } = chain;
        let (mut address, mut coming) = (start, first);
        while address >= begin {
            let Fetched::Record { bytes, is_cached } =
                tiers.finish_read(address, coming, how).await?
            else {
                return Ok(());
            };
            let record = tiers.parse(address, &bytes)?;
            let previous = record.header.previous();
            // Of a long value some pieces alone are of no use.
            if !is_cached
                && owner_of(record.space).is_none()
                && tiers.read_cache.as_ref().is_some_and(|it| it.insert(address, &bytes))
            {
                // What the cache takes, the pages have to leave.
                tiers.wake();
            }
            if record.space == space && record.key == &*key && !record.header.is_removed() {
                let link = if address == start { previous } else { start };
                known.add_key(start, ColdKey { space, key, address, value: value(&record), link });
                return Ok(());
            }
            address = previous;
            coming = if address >= begin { tiers.begin_read(address, how) } else { Coming::Gone };
        }
        // Else compaction may have moved what lived further down to where this did not look.
        if self.log.begin() == begin {
            let address = LogicalAddress::NULL;
            known.add_key(start, ColdKey { space, key, address, value: None, link: start });
        }
        Ok(())
    }

    async fn read_chain(&self, tiers: &Tiers, chain: Chain, known: &mut Known) -> Result<()> {
        let Chain { start, begin, first, how } = chain;
        let (mut address, mut coming) = (start, first);
        let mut records = Vec::new();
        while address >= begin {
            let Fetched::Record { bytes, .. } = tiers.finish_read(address, coming, how).await?
            else {
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
            coming = if address >= begin { tiers.begin_read(address, how) } else { Coming::Gone };
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
    first: Coming,
    how: How,
}

/// What a record says of its key.
fn value(record: &StoredRecord<'_>) -> Option<ColdValue> {
    (!record.header.is_tombstone()).then(|| ColdValue {
        value: record.value.to_vec(),
        expire_at: record.expire_at,
        is_long: record.header.is_long(),
    })
}
