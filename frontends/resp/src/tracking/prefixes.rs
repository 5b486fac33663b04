//! [`Prefixes`]: clients that are told of every change under a prefix (broadcast mode).

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::client::{Client, flag, lock};
use crate::push::Invalidation;

/// Above so many bytes of keys they are told at once, not at the end of the command.
const NOTED_BYTES_MAX: usize = 1 << 20;

/// A prefix, its clients, and what changed under it since they were last told.
#[derive(Default)]
struct Prefix {
    clients: HashMap<u64, Arc<Client>>,
    /// Keys, and who changed them; 0 if more than one did.
    noted: BTreeMap<Box<[u8]>, u64>,
    noted_bytes: usize,
}

/// All prefixes. Without any, nothing is locked.
#[derive(Default)]
pub(super) struct Prefixes {
    by_text: Mutex<BTreeMap<Box<[u8]>, Prefix>>,
    count: AtomicUsize,
    has_notes: AtomicBool,
}

impl Prefixes {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, prefix: &[u8], client: &Arc<Client>) {
        let mut by_text = lock(&self.by_text);
        let entry = by_text.entry(prefix.into()).or_default();
        entry.clients.insert(client.id, Arc::clone(client));
        self.count.store(by_text.len(), Ordering::SeqCst);
    }

    pub(super) fn remove(&self, client: &Client) {
        if self.count() == 0 {
            return;
        }
        let mut by_text = lock(&self.by_text);
        by_text.retain(|_, prefix| {
            prefix.clients.remove(&client.id);
            !prefix.clients.is_empty()
        });
        self.count.store(by_text.len(), Ordering::SeqCst);
    }

    /// Notes a change under the prefixes the key begins with; whether that is much already.
    pub(super) fn note(&self, key: &[u8], by: u64) -> bool {
        if self.count() == 0 {
            return false;
        }
        let mut by_text = lock(&self.by_text);
        let mut is_much = false;
        for (_, prefix) in by_text.iter_mut().filter(|(text, _)| key.starts_with(text)) {
            match prefix.noted.get_mut(key) {
                Some(before) if *before != by => *before = 0,
                Some(_) => {}
                None => {
                    prefix.noted_bytes += key.len();
                    prefix.noted.insert(key.into(), by);
                }
            }
            is_much |= prefix.noted_bytes > NOTED_BYTES_MAX;
            self.has_notes.store(true, Ordering::Release);
        }
        is_much
    }

    pub(super) fn has_notes(&self) -> bool {
        self.has_notes.load(Ordering::Acquire)
    }

    /// Tells what was noted, to each client but what it did itself and does not want to hear.
    pub(super) fn flush(&self, mut send: impl FnMut(&Arc<Client>, &Invalidation)) {
        let mut by_text = lock(&self.by_text);
        self.has_notes.store(false, Ordering::Release);
        for prefix in by_text.values_mut() {
            let noted = std::mem::take(&mut prefix.noted);
            prefix.noted_bytes = 0;
            if noted.is_empty() {
                continue;
            }
            let push_but_of = |own: u64| {
                let others = noted.iter().filter(|(_, by)| **by != own);
                let keys: Vec<&[u8]> = others.map(|(key, _)| &**key).collect();
                (!keys.is_empty()).then(|| Invalidation::of(&keys))
            };
            let all = push_but_of(u64::MAX);
            for client in prefix.clients.values() {
                let did_some = noted.values().any(|by| *by == client.id);
                if client.is(flag::NO_LOOP) && did_some {
                    push_but_of(client.id).iter().for_each(|push| send(client, push));
                } else {
                    all.iter().for_each(|push| send(client, push));
                }
            }
        }
    }
}
