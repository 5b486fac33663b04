//! Counting different elements: PFADD, PFCOUNT, PFMERGE, PFDEBUG; see
//! [`hyperloglog`](crate::hyperloglog).

use ferrokit_engine::Entry;

use crate::db::{Db, ManyVisitor};
use crate::events::{Event, EventClass};
use crate::hyperloglog::{Encoding, HyperLogLog, Union, View};
use crate::refusal::{Refusal, Result};
use crate::strings::{Edit, StringEntry};

const NEW: Event = Event::new(EventClass::NEW, "new");
const PF_ADD: Event = Event::string("pfadd");

/// Unites what is visited; the first refusal counts, in the order of the keys.
struct Uniting {
    union: Union,
    refused: Option<(usize, Refusal)>,
}

impl Uniting {
    fn new() -> Self {
        Self { union: Union::new(), refused: None }
    }

    fn finish(self) -> Result<Union> {
        self.refused.map_or(Ok(self.union), |(_, refusal)| Err(refusal))
    }
}

impl ManyVisitor for Uniting {
    fn restart(&mut self) {
        *self = Self::new();
    }

    fn visit(&mut self, index: usize, entry: Entry<'_>) {
        let added = StringEntry::of(entry).and_then(|string| Ok(self.union.add(string.bytes)?));
        if let Err(refusal) = added
            && self.refused.as_ref().is_none_or(|(first, _)| index < *first)
        {
            self.refused = Some((index, refusal));
        }
    }
}

impl Db<'_> {
    /// PFADD: whether anything changed. Without elements it makes an empty one, if there is none.
    ///
    /// # Errors
    /// `WRONG_TYPE`, those of a string that is no HyperLogLog; those of the engine.
    pub async fn pf_add(&mut self, key: &[u8], elements: &[&[u8]]) -> Result<bool> {
        let bytes_max = self.store().sparse_sketch_bytes_max();
        let (is_new, is_changed) = self
            .edit_string(key, |current, out| {
                if let Some(current) = current {
                    let view = View::of(current)?;
                    if !elements.iter().any(|element| view.may_change_by(element)) {
                        return Ok(Edit::Keep((false, false)));
                    }
                }
                let mut sketch = HyperLogLog::of(current)?;
                let mut is_changed = current.is_none();
                for element in elements {
                    is_changed |= sketch.add(element, bytes_max)?;
                }
                if !is_changed {
                    return Ok(Edit::Keep((false, false)));
                }
                sketch.invalidate();
                out.extend(sketch.as_bytes());
                Ok(Edit::Put((current.is_none(), true)))
            })
            .await?;
        if is_new {
            self.notify(NEW, key);
        }
        if is_changed {
            self.happened(PF_ADD, key);
        }
        Ok(is_changed)
    }

    /// PFCOUNT: about how many different elements were added to any of the keys. The count of one
    /// key is kept in its value.
    ///
    /// # Errors
    /// `WRONG_TYPE`, those of a string that is no HyperLogLog; those of the engine.
    pub async fn pf_count(&mut self, keys: &[&[u8]]) -> Result<u64> {
        let [key] = keys else {
            let mut uniting = Uniting::new();
            let found = self.read_many(keys, &mut uniting).await?;
            self.looked_up_many(keys.len(), found);
            return Ok(uniting.finish()?.count());
        };
        let mut cached = Ok(None);
        let mut look = |bytes: &[u8]| cached = View::of(bytes).map(View::cached_cardinality);
        if !self.get(key, &mut look).await? {
            return Ok(0);
        }
        if let Some(cardinality) = cached? {
            return Ok(cardinality);
        }
        let (cardinality, is_stored) = self
            .edit_string(key, |current, out| {
                let Some(current) = current else { return Ok(Edit::Keep((0, false))) };
                let cardinality = View::of(current)?.count()?;
                let mut sketch = HyperLogLog::of(Some(current))?;
                sketch.cache(cardinality);
                out.extend(sketch.as_bytes());
                Ok(Edit::Put((cardinality, true)))
            })
            .await?;
        if is_stored {
            self.modified(key);
        }
        Ok(cardinality)
    }

    /// PFMERGE: adds the sources to the destination, which is made if it is not there.
    ///
    /// # Errors
    /// `WRONG_TYPE`, those of a string that is no HyperLogLog; those of the engine.
    pub async fn pf_merge(&mut self, destination: &[u8], sources: &[&[u8]]) -> Result<()> {
        let bytes_max = self.store().sparse_sketch_bytes_max();
        let keys: Vec<&[u8]> =
            std::iter::once(destination).chain(sources.iter().copied()).collect();
        let mut scope = self.begin(self.key_set(keys.iter().copied())).await;
        let mut db = self.within(&mut scope);
        let mut uniting = Uniting::new();
        let found = db.read_each(&keys, &mut uniting).await?;
        db.looked_up_many(keys.len(), found);
        let union = uniting.finish()?;
        let is_new = db
            .edit_string(destination, |current, out| {
                let mut sketch = HyperLogLog::of(current)?;
                union.merge_into(&mut sketch, bytes_max)?;
                out.extend(sketch.as_bytes());
                Ok(Edit::Put(current.is_none()))
            })
            .await?;
        if is_new {
            db.notify(NEW, destination);
        }
        db.happened(PF_ADD, destination);
        self.commit(scope).await
    }

    /// PFDEBUG TODENSE: whether it was sparse; `None` without the key.
    ///
    /// # Errors
    /// `WRONG_TYPE`, those of a string that is no HyperLogLog; those of the engine.
    pub async fn pf_make_dense(&mut self, key: &[u8]) -> Result<Option<bool>> {
        self.edit_string(key, |current, out| {
            let Some(current) = current else { return Ok(Edit::Keep(None)) };
            if View::of(current)?.encoding() == Encoding::Dense {
                return Ok(Edit::Keep(Some(false)));
            }
            let mut sketch = HyperLogLog::of(Some(current))?;
            sketch.make_dense()?;
            out.extend(sketch.as_bytes());
            Ok(Edit::Put(Some(true)))
        })
        .await
    }

    /// Looks at the HyperLogLog of a key; `None` without the key.
    ///
    /// # Errors
    /// `WRONG_TYPE`, those of a string that is no HyperLogLog, those of `look`; those of the engine.
    pub async fn pf_look<T: Send>(
        &mut self,
        key: &[u8],
        mut look: impl FnMut(View<'_>) -> Result<T> + Send,
    ) -> Result<Option<T>> {
        let mut seen = None;
        let mut visit =
            |bytes: &[u8]| seen = Some(View::of(bytes).map_err(Refusal::from).and_then(&mut look));
        self.get(key, &mut visit).await?;
        seen.transpose()
    }
}
