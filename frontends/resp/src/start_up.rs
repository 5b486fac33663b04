//! From a command line to a [`Config`].

use std::sync::Arc;

use ferrokit_engine::{Error, Result};

use crate::cli::CommandLine;
use crate::config::Config;
use crate::logs::Logs;
use crate::settings::Settings;
use crate::settings::change::absolute_directory;
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
        // Before the working directory changes.
        let absolute =
            std::path::absolute(file).map_err(|error| Error::io("configuration", error))?;
        settings.set_file(absolute.to_string_lossy().into_owned());
    }
    loader.text("standard input", input)?;
    loader.environment(variables)?;
    for words in &line.lines {
        loader.line(words, &Origin::CommandLine)?;
    }
    let demands_durability = loader.given.contains(&"appendonly") && settings.appendonly.get();
    enter_directory(&settings)?;
    let without_effect = std::mem::take(&mut loader.without_effect);
    let logs = Logs::start(&settings)?;
    if !without_effect.is_empty() {
        tracing::warn!(parameters = without_effect.join(", "), "these have no effect here");
    }
    Ok(Config { settings, logs, demands_durability, ..Config::default() })
}

/// Makes `dir` the working directory.
fn enter_directory(settings: &Settings) -> Result<()> {
    let wanted = settings.dir.to_text();
    let refused = |why: &str| {
        Error::invalid(
            "configuration",
            format!("--dir '{wanted}': {why}; create it, or name another"),
        )
    };
    let absolute = absolute_directory(&wanted).map_err(|why| refused(&why))?;
    std::env::set_current_dir(&absolute).map_err(|error| refused(&error.to_string()))?;
    settings.settle("dir", &absolute)
}
