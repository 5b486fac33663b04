//! From a command line to a [`Config`].

use std::sync::Arc;

use ferrokit_engine::Result;

use crate::cli::CommandLine;
use crate::config::Config;
use crate::logs::Logs;
use crate::settings::Settings;
use crate::settings::load::{Loader, Origin};

/// Reads what the command line names, in the order in which it counts, and starts the log.
///
/// `input` is what standard input holds, if the command line asks for it.
///
/// # Errors
/// `InvalidArgument`, saying in a line what is wrong and where.
pub fn configure(
    line: &CommandLine,
    input: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config> {
    let settings = Arc::new(Settings::default());
    let mut loader = Loader::new(&settings);
    if let Some(file) = &line.file {
        loader.file(file)?;
    }
    loader.text("standard input", input)?;
    loader.environment(variables)?;
    for words in &line.lines {
        loader.line(words, &Origin::CommandLine)?;
    }
    let demands_durability = loader.given.contains(&"appendonly") && settings.appendonly.get();
    let without_effect = std::mem::take(&mut loader.without_effect);
    let logs = Logs::start(&settings)?;
    if !without_effect.is_empty() {
        tracing::warn!(parameters = without_effect.join(", "), "these have no effect here");
    }
    Ok(Config { settings, logs, demands_durability, ..Config::default() })
}
