//! The engines, and a simulated machine for each case.

use ferrokit::{Builder, Ferrokit};
use ferrokit_storage::Host;
use ferrokit_storage::sim::SimMachine;

/// Each engine of the registry, and the wrapper, by name.
pub(crate) const URLS: &[(&str, &str)] = &[
    ("dash", "dash:?capacity=64MiB"),
    ("hybridlog", "hybridlog:?memory=64MiB&page=1MiB"),
    ("lsm", "lsm:data?memtable=64KiB"),
    ("memory", "memory:"),
    ("mvcc", "mvcc+hybridlog:?memory=64MiB&page=1MiB"),
];

pub(crate) fn url(name: &str) -> &'static str {
    URLS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// A store on a machine, and what moves both on.
pub(crate) struct Case {
    pub(crate) kv: Ferrokit,
    pub(crate) machine: SimMachine,
    pub(crate) host: Host,
}

impl Case {
    pub(crate) fn open(url: &str, machine: SimMachine) -> Self {
        let host = machine.host();
        let kv = host.wait(Builder::new(url).host(host.clone()).open()).unwrap();
        Self { kv, machine, host }
    }

    pub(crate) fn on(name: &str) -> Self {
        Self::open(url(name), SimMachine::new(7))
    }

    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.host.wait(future)
    }

    pub(crate) fn close(self) {
        self.host.wait(self.kv.close()).unwrap();
    }
}

/// One test per case and engine: a case is a `fn(&Case)`.
macro_rules! on_every_engine {
    ($($case:ident),* $(,)?) => {
        crate::common::on_engine!(dash: $($case),*);
        crate::common::on_engine!(hybridlog: $($case),*);
        crate::common::on_engine!(lsm: $($case),*);
        crate::common::on_engine!(memory: $($case),*);
        crate::common::on_engine!(mvcc: $($case),*);

        #[test]
        fn no_engine_is_left_out() {
            for info in ferrokit::engines() {
                assert!(crate::common::URLS.iter().any(|(name, _)| *name == info.name));
            }
        }
    };
}
pub(crate) use on_every_engine;

macro_rules! on_engine {
    ($engine:ident: $($case:ident),*) => {
        mod $engine {
            $(
                #[test]
                fn $case() {
                    let case = crate::common::Case::on(stringify!($engine));
                    super::$case(&case);
                    case.close();
                }
            )*
        }
    };
}
pub(crate) use on_engine;

/// The value as text, for comparisons.
pub(crate) fn text(value: Option<ferrokit::Bytes>) -> Option<String> {
    value.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}
