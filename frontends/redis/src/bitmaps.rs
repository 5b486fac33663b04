//! Bits of strings: SETBIT, BITCOUNT, BITOP, BITFIELD and their like; see [`bits`](crate::bits).

use ferrokit_engine::Entry;

use crate::bits::{self, BitOperation, BitRange, BitsError, Combination, FieldProgram, Written};
use crate::db::{Db, ManyVisitor};
use crate::events::{Event, EventClass};
use crate::refusal::{Refusal, Result};
use crate::strings::{Edit, StringEntry};
use crate::value::StringWriter;

const NEW: Event = Event::new(EventClass::NEW, "new");
const SET_BIT: Event = Event::string("setbit");

/// Combines strings as they are visited.
struct Combining {
    combination: Combination,
    operation: BitOperation,
    is_wrong_type: bool,
}

impl ManyVisitor for Combining {
    fn restart(&mut self) {
        self.combination = Combination::new(self.operation);
        self.is_wrong_type = false;
    }

    fn visit(&mut self, _: usize, entry: Entry<'_>) {
        match StringEntry::of(entry) {
            Ok(string) => self.combination.add(string.bytes),
            Err(_) => self.is_wrong_type = true,
        }
    }
}

impl Db<'_> {
    /// SETBIT: the bit that was there. The string becomes as long as the offset asks for.
    ///
    /// # Errors
    /// `WRONG_TYPE`, an offset beyond the longest string; those of the engine.
    pub async fn set_bit(&mut self, key: &[u8], offset: u64, bit: bool) -> Result<bool> {
        let bytes_max = self.store().string_bytes_max();
        let (before, is_new, is_changed) = self
            .edit_string(key, |current, out| {
                let bytes = current.unwrap_or_default();
                let before = bits::get(bytes, offset);
                let len = bits::len_with(bytes.len(), offset);
                if len == bytes.len() && before == bit {
                    return Ok(Edit::Keep((before, false, false)));
                }
                if len > bytes_max {
                    return Err(BitsError::Offset.into());
                }
                out.extend(bytes);
                out.resize(len);
                bits::set(out.bytes(), offset, bit);
                Ok(Edit::Put((before, current.is_none(), true)))
            })
            .await?;
        if is_new {
            self.notify(NEW, key);
        }
        if is_changed {
            self.happened(SET_BIT, key);
        }
        Ok(before)
    }

    /// GETBIT; 0 without the key.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn get_bit(&mut self, key: &[u8], offset: u64) -> Result<bool> {
        let mut bit = false;
        self.get(key, |bytes| bit = bits::get(bytes, offset)).await?;
        Ok(bit)
    }

    /// BITCOUNT; 0 without the key.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn bit_count(&mut self, key: &[u8], range: BitRange) -> Result<u64> {
        let mut count = 0;
        self.get(key, |bytes| count = bits::count(bytes, range)).await?;
        Ok(count)
    }

    /// BITPOS. Without the key everything is zero.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn bit_position(
        &mut self,
        key: &[u8],
        bit: bool,
        range: BitRange,
    ) -> Result<Option<u64>> {
        let mut found = None;
        let is_there = self.get(key, |bytes| found = bits::position(bytes, bit, range)).await?;
        Ok(if is_there || bit { found } else { Some(0) })
    }

    /// BITOP: the length of the result; an empty one removes the destination.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn bit_op(
        &mut self,
        operation: BitOperation,
        destination: &[u8],
        sources: &[&[u8]],
    ) -> Result<usize> {
        let keys = sources.iter().copied().chain([destination]);
        let mut scope = self.begin(self.key_set(keys)).await;
        let mut db = self.within(&mut scope);
        let combination = Combination::new(operation);
        let mut combining = Combining { combination, operation, is_wrong_type: false };
        let found = db.read_each(sources, &mut combining).await?;
        db.looked_up_many(sources.len(), found);
        if combining.is_wrong_type {
            return Err(Refusal::WRONG_TYPE);
        }
        if found < sources.len() {
            combining.combination.add(b"");
        }
        let result = combining.combination.finish();
        if result.is_empty() {
            if db.remove(destination).await? {
                db.happened(Event::generic("del"), destination);
            }
        } else {
            db.put_built_string(destination, &result).await?;
            db.happened(Event::string("set"), destination);
        }
        self.commit(scope).await?;
        Ok(result.len())
    }

    /// Stores a string that was computed, in the place of whatever the key held.
    pub(crate) async fn put_built_string(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let mut stored = Vec::with_capacity(bytes.len() + 1);
        let mut writer = StringWriter::new(&mut stored, true);
        writer.extend(bytes);
        writer.finish();
        let asks = self.tells_of_new_keys();
        if self.put_stored(key, &stored, None, asks).await? == Some(false) {
            self.notify(NEW, key);
        }
        Ok(())
    }

    /// BITFIELD: appends the answers.
    ///
    /// # Errors
    /// `WRONG_TYPE`, a write beyond the longest string; those of the engine.
    pub async fn bit_field(
        &mut self,
        key: &[u8],
        program: &FieldProgram,
        answers: &mut Vec<Option<i64>>,
    ) -> Result<()> {
        let (from, bytes_max) = (answers.len(), self.store().string_bytes_max());
        if program.only_reads() {
            let mut read = |bytes: &[u8]| {
                answers.truncate(from);
                answers.extend(program.read(bytes).map(Some));
            };
            if !self.get(key, &mut read).await? {
                read(b"");
            }
            return Ok(());
        }
        let (is_new, is_changed) = self
            .edit_string(key, |current, out| {
                answers.truncate(from);
                let bytes = current.unwrap_or_default();
                let len = program.len_after(bytes.len());
                if program.last_begin().is_some_and(|byte| byte >= bytes_max as u64) {
                    return Err(BitsError::Offset.into());
                }
                out.extend(bytes);
                out.resize(len);
                let written = program.run(out.bytes(), answers);
                let has_grown = len > bytes.len();
                let is_changed =
                    written == Written::Changed || has_grown && written == Written::Same;
                let outcome = (current.is_none(), is_changed);
                Ok(if has_grown || is_changed { Edit::Put(outcome) } else { Edit::Keep(outcome) })
            })
            .await?;
        if is_new {
            self.notify(NEW, key);
        }
        if is_changed {
            self.happened(SET_BIT, key);
        }
        Ok(())
    }
}
