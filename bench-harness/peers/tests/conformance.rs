//! The point, batch and scan cases of the conformance suite on every adapter, on real files.

use std::sync::Arc;

use ferrokit_bench::subject::{Adapter, SubjectSettings};
use ferrokit_bench_peers::PEERS;
use ferrokit_conformance::{EngineFactory, Options};
use ferrokit_engine::{Durability, EngineUrl, ErrorKind, KvEngine, Result};
use ferrokit_storage::Host;

/// For caches and buffers together: enough for the least parts of every engine.
const MEMORY_BYTES: u64 = 64 << 20;

type Exclusion = (&'static str, &'static str);

const EXPIRY: &str = "the adapter has no time to live";
const CLEAR: &str = "the adapter has no keyspaces to clear";
const EMPTY_KEY: &str = "the engine takes no empty key";

const ADAPTERS: &[Exclusion] = &[
    ("point::the_expiry_is_lent_with_the_value", EXPIRY),
    ("batch::a_batch_carries_expiries", EXPIRY),
    ("scan::entries_come_with_value_expiry_and_sequence", EXPIRY),
    ("scan::a_cleared_keyspace_is_empty", CLEAR),
];
const WITHOUT_EMPTY_KEYS: &[Exclusion] = &[
    ("point::the_expiry_is_lent_with_the_value", EXPIRY),
    ("batch::a_batch_carries_expiries", EXPIRY),
    ("scan::entries_come_with_value_expiry_and_sequence", EXPIRY),
    ("scan::a_cleared_keyspace_is_empty", CLEAR),
    ("point::the_empty_key_is_a_key", EMPTY_KEY),
    ("point::keys_that_are_prefixes_of_each_other_differ", EMPTY_KEY),
    ("point::any_bytes_are_a_key", EMPTY_KEY),
    ("scan::prefixes", EMPTY_KEY),
    ("scan::bytes_are_compared_unsigned", EMPTY_KEY),
];

/// Opens an adapter by its name.
struct Factory {
    name: &'static str,
    durable: bool,
    exclusions: &'static [Exclusion],
}

const fn on_disk(name: &'static str) -> Factory {
    Factory { name, durable: true, exclusions: ADAPTERS }
}

const fn on_disk_without_empty_keys(name: &'static str) -> Factory {
    Factory { name, durable: true, exclusions: WITHOUT_EMPTY_KEYS }
}

const fn in_memory(name: &'static str) -> Factory {
    Factory { name, durable: false, exclusions: ADAPTERS }
}

fn adapter(name: &str) -> &'static Adapter {
    PEERS.iter().find(|adapter| adapter.name == name).expect("an adapter of this name")
}

impl EngineFactory for Factory {
    fn name(&self) -> &'static str {
        self.name
    }

    fn open(&self, _: &Host, directory: &str, _: &Options) -> Result<Arc<dyn KvEngine>> {
        let durability = if self.durable { Durability::Os } else { Durability::Memory };
        let settings = SubjectSettings {
            directory: directory.to_owned(),
            memory_bytes: MEMORY_BYTES,
            durability,
        };
        let url = EngineUrl::parse(&format!("{}:", self.name))?;
        Ok((adapter(self.name).open)(&url, &settings)?.engine)
    }

    fn durable(&self) -> bool {
        self.durable
    }

    fn exclusions(&self) -> &[Exclusion] {
        self.exclusions
    }
}

macro_rules! suites {
    ($($name:ident: $factory:ident),* $(,)?) => {
        $(ferrokit_conformance::suite!(
            $name, $factory(stringify!($name)), on: Threads, groups: [point, batch, scan]
        );)*

        #[test]
        fn every_adapter_has_its_suite() {
            let suites = [$(stringify!($name)),*];
            assert_eq!(PEERS.iter().map(|adapter| adapter.name).collect::<Vec<_>>(), suites);
        }
    };
}

suites! {
    rocksdb: on_disk,
    fjall: on_disk_without_empty_keys,
    surrealkv: on_disk_without_empty_keys,
    slatedb: on_disk_without_empty_keys,
    redb: on_disk,
    lmdb: on_disk_without_empty_keys,
    sled: on_disk,
    dashmap: in_memory,
    papaya: in_memory,
    scc: in_memory,
    skiplist: in_memory,
}

#[test]
fn unknown_options_are_refused() {
    for adapter in PEERS {
        let settings = SubjectSettings {
            directory: "/dev/null/nowhere".to_owned(),
            memory_bytes: MEMORY_BYTES,
            durability: Durability::Memory,
        };
        let url = EngineUrl::parse(&format!("{}:?no_such_option=1", adapter.name)).unwrap();
        let refused = (adapter.open)(&url, &settings).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        assert!(refused.to_string().contains("no_such_option"), "{refused}");
    }
}
