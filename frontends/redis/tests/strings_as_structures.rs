//! Bitmaps, HyperLogLogs and payloads over the memory engine: what pure functions cannot show.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};

use ferrokit_engine::{Env, KeyspaceId, KvEngine, UnixMillis, block_on};
use ferrokit_redis::bits::{BitOperation, BitRange, FieldProgram};
use ferrokit_redis::{
    ClientId, Db, Event, EventClass, Interest, Observer, Refusal, RestoreOptions, Store, Tally,
};
use ferrokit_storage::{Host, IoBackend};

const DB0: KeyspaceId = KeyspaceId(0);

/// Notes the events of strings and keys, and which keys are modified.
#[derive(Default)]
struct Events {
    events: Mutex<Vec<String>>,
    modified: Mutex<Vec<String>>,
}

impl Observer for Events {
    fn event(&self, event: Event, _: KeyspaceId, key: &[u8]) {
        let text = format!("{} {}", event.name, String::from_utf8_lossy(key));
        self.events.lock().unwrap().push(text);
    }

    fn modified(&self, _: KeyspaceId, key: &[u8], _: ClientId) {
        self.modified.lock().unwrap().push(format!("! {}", String::from_utf8_lossy(key)));
    }

    fn flushed(&self, _: Option<KeyspaceId>, _: ClientId) {}
}

struct Fixture {
    store: Store,
    events: Arc<Events>,
}

impl Fixture {
    fn new() -> Self {
        let host = Host::system(IoBackend::Threads).unwrap();
        let engine: Arc<dyn KvEngine> = ferrokit_engines::open(&host, "memory:").unwrap();
        let store = Store::new(engine, &Env::system());
        let events = Arc::new(Events::default());
        assert!(store.set_observer(Arc::clone(&events) as Arc<dyn Observer>).is_ok());
        let interest = [EventClass::GENERIC, EventClass::STRING, EventClass::NEW]
            .map(Interest::in_events)
            .into_iter()
            .fold(Interest::MODIFICATIONS, Interest::and);
        store.set_interest(interest);
        Self { store, events }
    }

    fn run<T>(
        &self,
        run: impl AsyncFnOnce(&mut Db<'_>) -> Result<T, Refusal>,
    ) -> Result<T, String> {
        let mut tally = Tally::default();
        let mut db = self.store.db(DB0, ClientId(1), &mut tally);
        block_on(run(&mut db)).map_err(|refusal| refusal.to_string())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = None;
        self.run(async |db| db.get(key, |bytes| value = Some(bytes.to_vec())).await).unwrap();
        value
    }

    fn set(&self, key: &[u8], value: &[u8]) {
        self.run(async |db| db.set(key, value, None).await).unwrap();
        self.events();
    }

    /// The events since the last time, then the modifications.
    fn events(&self) -> Vec<String> {
        let mut told = std::mem::take(&mut *self.events.events.lock().unwrap());
        told.append(&mut self.events.modified.lock().unwrap());
        told
    }
}

fn program(text: &str) -> FieldProgram {
    FieldProgram::parse(text.split(' ').map(str::as_bytes), 1 << 29).unwrap()
}

#[test]
fn only_what_changes_a_bitmap_is_told() {
    let it = Fixture::new();
    let set = |offset, bit| it.run(async |db| db.set_bit(b"b", offset, bit).await);
    assert_eq!(set(9, false), Ok(false));
    assert_eq!(it.events(), ["new b", "setbit b", "! b"]);
    assert_eq!(it.get(b"b"), Some(vec![0, 0]));
    assert_eq!(set(9, false), Ok(false));
    assert_eq!(it.events(), Vec::<String>::new());
    assert_eq!((set(8, true), set(8, true), set(0, true)), (Ok(false), Ok(true), Ok(false)));
    assert_eq!(it.events(), ["setbit b", "setbit b", "! b", "! b"]);
    assert_eq!(it.get(b"b"), Some(vec![0x80, 0x80]));
    // It begins as values of other types do in the engine.
    assert_eq!(it.run(async |db| db.bit_count(b"b", BitRange::ALL).await), Ok(2));

    let field = |text| {
        let mut answers = Vec::new();
        it.run(async |db| db.bit_field(b"b", &program(text), &mut answers).await).unwrap();
        answers
    };
    assert_eq!(field("GET u8 0 GET u8 100"), [Some(128), Some(0)]);
    assert_eq!(field("SET u8 0 128"), [Some(128)]);
    assert_eq!(field("OVERFLOW FAIL SET u8 24 256"), [None]);
    assert_eq!(it.events(), Vec::<String>::new());
    assert_eq!(it.get(b"b").map(|value| value.len()), Some(4));
    assert_eq!(field("INCRBY u8 24 7 GET u8 24"), [Some(7), Some(7)]);
    assert_eq!(it.events(), ["setbit b", "! b"]);
}

#[test]
fn a_combination_replaces_its_destination_or_removes_it() {
    let it = Fixture::new();
    it.set(b"a", b"\x0f\xff");
    it.set(b"b", b"\xff");
    let combine = |operation, sources: &[&[u8]]| {
        it.run(async |db| db.bit_op(operation, b"to", sources).await)
    };
    assert_eq!(combine(BitOperation::And, &[b"a", b"b"]), Ok(2));
    assert_eq!(it.events(), ["new to", "set to", "! to"]);
    assert_eq!(it.get(b"to"), Some(vec![0x0f, 0]));
    assert_eq!(combine(BitOperation::And, &[b"a", b"none"]), Ok(2));
    assert_eq!(it.get(b"to"), Some(vec![0, 0]));
    assert_eq!(combine(BitOperation::Not, &[b"to"]), Ok(2));
    assert_eq!(it.get(b"to"), Some(vec![0xff, 0xff]));
    it.events();
    assert_eq!(combine(BitOperation::Or, &[b"none"]), Ok(0));
    assert_eq!((it.get(b"to"), it.events()), (None, vec!["del to".into(), "! to".into()]));
    assert_eq!(combine(BitOperation::Or, &[b"none"]), Ok(0));
    assert_eq!(it.events(), Vec::<String>::new());
}

#[test]
fn counts_are_kept_and_merges_tell_of_the_destination() {
    let it = Fixture::new();
    let add = |key: &[u8], elements: &[&[u8]]| it.run(async |db| db.pf_add(key, elements).await);
    let count = |keys: &[&[u8]]| it.run(async |db| db.pf_count(keys).await);
    assert_eq!((count(&[b"h"]), count(&[b"h", b"i"])), (Ok(0), Ok(0)));
    assert_eq!((add(b"h", &[]), add(b"h", &[])), (Ok(true), Ok(false)));
    assert_eq!(it.events(), ["new h", "pfadd h", "! h"]);
    assert_eq!((add(b"h", &[b"a", b"b"]), add(b"h", &[b"b"])), (Ok(true), Ok(false)));
    assert_eq!(it.events(), ["pfadd h", "! h"]);
    assert_eq!((count(&[b"h"]), it.events()), (Ok(2), vec!["! h".into()]));
    assert_eq!((count(&[b"h"]), it.events()), (Ok(2), vec![]));
    add(b"i", &[b"b", b"c"]).unwrap();
    assert_eq!(count(&[b"h", b"i", b"none"]), Ok(3));
    it.events();
    assert_eq!(it.run(async |db| db.pf_merge(b"to", &[b"h", b"i"]).await), Ok(()));
    assert_eq!(
        (it.events(), count(&[b"to"])),
        (["new to", "pfadd to", "! to"].map(String::from).to_vec(), Ok(3))
    );
    assert_eq!(it.run(async |db| db.pf_make_dense(b"to").await), Ok(Some(true)));
    assert_eq!(
        (add(b"to", &[b"a"]), add(b"to", &[b"d"]), count(&[b"to"])),
        (Ok(false), Ok(true), Ok(4))
    );

    it.set(b"foreign", b"HYLL");
    let foreign = "WRONGTYPE Key is not a valid HyperLogLog string value.";
    assert_eq!(count(&[b"h", b"foreign"]), Err(foreign.into()));
    assert_eq!(add(b"foreign", &[b"a"]), Err(foreign.into()));
    assert_eq!(it.run(async |db| db.pf_merge(b"foreign", &[b"h"]).await), Err(foreign.into()));
    assert_eq!(it.get(b"foreign"), Some(b"HYLL".to_vec()));
}

#[test]
fn a_payload_is_restored_unless_a_key_is_in_its_way_or_its_time_is_over() {
    let it = Fixture::new();
    let dump = |key: &[u8]| it.run(async |db| db.dump(key).await);
    let restore = |payload: &[u8], options: &RestoreOptions| {
        it.run(async |db| db.restore(b"to", payload, options).await)
    };
    assert_eq!(dump(b"a"), Ok(None));
    it.set(b"a", b"\xf8 looks like a list");
    let payload = dump(b"a").unwrap().unwrap();
    let (plain, replacing) =
        (RestoreOptions::default(), RestoreOptions { replaces: true, ..Default::default() });
    assert_eq!(restore(&payload, &plain), Ok(true));
    assert_eq!(it.events(), ["new to", "restore to", "! to"]);
    assert_eq!(it.get(b"to"), it.get(b"a"));
    assert_eq!((restore(&payload, &plain), restore(&payload, &replacing)), (Ok(false), Ok(true)));
    let over = Some(UnixMillis(1));
    it.events();
    assert_eq!(restore(&payload, &RestoreOptions { expire_at: over, ..plain }), Ok(false));
    assert_eq!(it.events(), Vec::<String>::new());
    assert_eq!(restore(&payload, &RestoreOptions { expire_at: over, ..replacing }), Ok(true));
    assert_eq!((it.get(b"to"), it.events()), (None, vec!["del to".into(), "! to".into()]));
    assert_eq!(restore(&payload, &RestoreOptions { expire_at: over, ..plain }), Ok(true));
    assert_eq!(
        restore(b"damaged", &plain),
        Err("ERR DUMP payload version or checksum are wrong".into())
    );
}

#[test]
fn operations_are_send() {
    fn check<T: Send>(_: T) {}
    let it = Fixture::new();
    let mut tally = Tally::default();
    let mut db = it.store.db(DB0, ClientId(1), &mut tally);
    check(db.set_bit(b"k", 1, true));
    check(db.bit_op(BitOperation::Or, b"k", &[b"a"]));
    check(db.bit_field(b"k", &program("GET u8 0"), &mut Vec::new()));
    check(db.pf_add(b"k", &[b"a"]));
    check(db.pf_count(&[b"k"]));
    check(db.pf_merge(b"k", &[b"a"]));
    check(db.get_pair(b"a", b"b"));
    check(db.restore(b"k", b"", &RestoreOptions::default()));
}
