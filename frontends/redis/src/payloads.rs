//! Values as payloads: DUMP and RESTORE; see [`dump`](crate::dump).

use ferrokit_engine::{Entry, UnixMillis};

use crate::db::Db;
use crate::dump;
use crate::events::Event;
use crate::refusal::{Refusal, Result};
use crate::value::{Value, encode_string};

/// How RESTORE stores a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// When it expires, if ever.
    pub expire_at: Option<UnixMillis>,
    /// Whether a key that is there is replaced.
    pub replaces: bool,
    /// For how many seconds nobody accessed it.
    pub idle_secs: Option<u32>,
    /// How often it was accessed: the logarithmic count.
    pub frequency: Option<u8>,
}

impl Db<'_> {
    /// DUMP: the payload of a key; `None` without the key.
    ///
    /// # Errors
    /// A type of value that has no payload; those of the engine.
    pub async fn dump(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut payload = None;
        let mut visit = |entry: Entry<'_>| {
            let string = Value::decode(entry.value).as_string();
            payload = Some(string.map(|bytes| dump::write_string(bytes, true)));
        };
        let is_there = self.read(key, &mut visit).await?;
        self.looked_up(key, is_there);
        match payload {
            Some(None) => Err(Refusal::text("ERR DUMP knows no payload for this type of value")),
            payload => Ok(payload.flatten()),
        }
    }

    /// RESTORE: whether it happened; not if the key is there, unless it `replaces`. A value that
    /// has expired is not stored, and what it replaces is removed.
    ///
    /// # Errors
    /// A payload that is damaged, or holds another type than a string; those of the engine.
    pub async fn restore(
        &mut self,
        key: &[u8],
        payload: &[u8],
        options: &RestoreOptions,
    ) -> Result<bool> {
        let value = dump::read_string(payload, self.store().string_bytes_max())?;
        if options.expire_at.is_some_and(|at| at <= self.store().now()) {
            return self.restore_expired(key, options.replaces).await;
        }
        let mut scratch = Vec::new();
        let stored = encode_string(&value, &mut scratch);
        let (expire_at, event) = (options.expire_at, Event::generic("restore"));
        let is_put = self.put_value(key, stored, expire_at, options.replaces, event).await?;
        if is_put && (options.idle_secs.is_some() || options.frequency.is_some()) {
            self.set_access(key, options.idle_secs.unwrap_or(0), options.frequency);
        }
        Ok(is_put)
    }

    async fn restore_expired(&mut self, key: &[u8], replaces: bool) -> Result<bool> {
        if !replaces {
            return Ok(!self.peek(key, &mut |_| {}).await?);
        }
        if self.remove(key).await? {
            self.happened(Event::generic("del"), key);
        }
        Ok(true)
    }
}
