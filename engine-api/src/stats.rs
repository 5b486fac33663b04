//! Counters and gauges of an engine.

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The name: `noun_unit` in snake case (`log_bytes`, `cache_hits`).
    pub name: &'static str,
    /// The value at the moment of the call.
    pub value: u64,
}

/// The figures of an engine at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    entries: Vec<Stat>,
}

impl Stats {
    /// No figures yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a figure.
    pub fn push(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.entries.push(Stat { name, value });
        self
    }

    /// The figure of that name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.entries.iter().find(|stat| stat.name == name).map(|stat| stat.value)
    }

    /// All figures, in the engine's order.
    pub fn iter(&self) -> impl Iterator<Item = Stat> + '_ {
        self.entries.iter().copied()
    }
}
