//! [`EngineFactory`]: how the suite opens an engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrokit_engine::{KvEngine, Result};
use ferrokit_storage::Host;

/// Opens one kind of engine. What an engine's crate writes to be tested.
pub trait EngineFactory: Send + Sync + 'static {
    /// The engine's name, for messages.
    fn name(&self) -> &'static str;

    /// Opens the engine in `directory` of the host's file system, creating it if absent. An
    /// engine without files ignores the directory.
    ///
    /// # Errors
    /// Those of the engine's `open`.
    fn open(&self, host: &Host, directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>>;

    /// Whether a closed engine's data are there when its directory is opened again.
    fn durable(&self) -> bool;

    /// Opens what [`Checkpoint::checkpoint`](ferrokit_engine::Checkpoint::checkpoint) wrote.
    ///
    /// # Errors
    /// Those of the engine's `open`.
    fn restore(
        &self,
        host: &Host,
        directory: &str,
        options: &Options,
    ) -> Result<Arc<dyn KvEngine>> {
        self.open(host, directory, options)
    }

    /// Cases that the engine cannot pass because of what it is, though its facts do not tell: each
    /// as `group::case`, with the reason, which the summary prints. A ferrokit engine has none.
    fn exclusions(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// Variations that must not change any answer: sizes of memtable, block and page, compression,
    /// numbers of jobs. The metamorphic cases run each of them, and reopen one with another.
    fn option_sets(&self) -> Vec<Options> {
        vec![Options::default(), Options::tiny()]
    }
}

/// How large an engine's parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Size {
    /// As in operation.
    #[default]
    Default,
    /// As small as they can be: a few KiB of writes must make the engine flush, compact, evict,
    /// split and grow, so that the cases reach its maintenance.
    Tiny,
}

/// Knobs that a factory turns into its engine's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How large the parts are.
    pub size: Size,
    /// Further settings, of the factory's own naming.
    pub values: BTreeMap<String, String>,
}

impl Options {
    /// Parts as small as they can be.
    pub fn tiny() -> Self {
        Self { size: Size::Tiny, values: BTreeMap::new() }
    }

    /// These options with one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Whether the parts are to be as small as they can be.
    pub fn is_tiny(&self) -> bool {
        self.size == Size::Tiny
    }

    /// A setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}
