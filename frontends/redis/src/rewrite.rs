//! Atomic rewriting of one string, for what no command of Redis does: compare-and-swap, and updates
//! by a caller's own function.

use ferrokit_engine::{Entry, Update};

use crate::db::Db;
use crate::events::{Event, EventClass};
use crate::refusal::Result;
use crate::strings::{Expiry, StringEntry};
use crate::value::StringWriter;

/// What a rewrite makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// It is left as it is.
    Keep,
    /// What was written is its new value, with this expiry.
    Put(Expiry),
    /// It is removed.
    Delete,
}

impl Db<'_> {
    /// Rewrites a string in one atomic step: `rewrite` is lent the present one, writes the new one
    /// if it wants to, and says which. It may run more than once, the last time counts. Whether the
    /// key was changed.
    ///
    /// # Errors
    /// `WRONG_TYPE`, those of `rewrite` (nothing is changed then), those of the engine.
    pub async fn rewrite_string(
        &mut self,
        key: &[u8],
        mut rewrite: impl FnMut(Option<StringEntry<'_>>, &mut StringWriter<'_>) -> Result<Rewrite>
        + Send,
    ) -> Result<bool> {
        let mut outcome = Ok(Rewrite::Keep);
        let mut existed = false;
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            existed = current.is_some();
            let mut writer = StringWriter::new(out, false);
            outcome = current
                .map(StringEntry::of)
                .transpose()
                .and_then(|current| rewrite(current, &mut writer));
            writer.finish();
            match outcome {
                Ok(Rewrite::Put(expiry)) => {
                    let kept = current.and_then(|entry| entry.expire_at);
                    Update::Put { expire_at: expiry.applied_to(kept) }
                }
                Ok(Rewrite::Delete) => Update::Delete,
                Ok(Rewrite::Keep) | Err(_) => Update::Keep,
            }
        };
        let is_changed = self.update(key, &mut change).await?;
        match outcome? {
            Rewrite::Put(expiry) => {
                if !existed {
                    self.notify(Event::new(EventClass::NEW, "new"), key);
                }
                self.happened(Event::string("set"), key);
                if matches!(expiry, Expiry::At(_)) {
                    self.notify(Event::generic("expire"), key);
                }
            }
            Rewrite::Delete if is_changed => self.happened(Event::generic("del"), key),
            Rewrite::Delete | Rewrite::Keep => {}
        }
        Ok(is_changed)
    }
}
