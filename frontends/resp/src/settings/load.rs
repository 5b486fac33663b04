//! [`Loader`]: parameters from command line, environment and files, before the server starts.
//!
//! Whatever is said later counts: the configuration file, what standard input adds, the environment,
//! the command line. Only `save` adds up, as in Redis: its first line replaces the default, further
//! ones add to it, and an empty one clears it.

use std::fs::OpenOptions;
use std::io::{self, Read};

use ferrokit_engine::{Error, Result};

use super::foreign::{self, Foreign};
use super::words::split_line;
use super::{Row, Settings, row};

/// Files that include each other are followed so deep.
const INCLUDE_DEPTH_MAX: usize = 16;
/// A file of parameters is not longer.
pub(super) const FILE_BYTES_MAX: usize = 16 << 20;

/// Where a line comes from, for errors.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    CommandLine,
    Environment,
    File { name: String, line: usize },
}

impl Origin {
    /// What to say before the error of a parameter.
    fn of(&self, name: &str) -> String {
        match self {
            Self::CommandLine => format!("--{name}"),
            Self::Environment => variable(name),
            Self::File { name: file, line } => format!("{file}, line {line}: {name}"),
        }
    }
}

/// The environment variable of a parameter.
pub(crate) fn variable(name: &str) -> String {
    let name: String = name.replace('-', "_").to_ascii_uppercase();
    format!("{VARIABLE_PREFIX}{name}")
}

const VARIABLE_PREFIX: &str = "FERROKIT_";

/// Reads parameters into [`Settings`].
pub(crate) struct Loader<'s> {
    settings: &'s Settings,
    /// `save` was said before.
    has_save: bool,
    /// Parameters of Redis that have no effect here, and why.
    pub(crate) without_effect: Vec<String>,
    /// Parameters that were given a value.
    pub(crate) given: Vec<&'static str>,
    /// Other files may be read.
    may_include: bool,
}

impl<'s> Loader<'s> {
    pub(crate) fn new(settings: &'s Settings) -> Self {
        Self {
            settings,
            has_save: false,
            without_effect: Vec::new(),
            given: Vec::new(),
            may_include: true,
        }
    }

    /// One that reads no file: an `include` is refused.
    pub(crate) fn of_text(settings: &'s Settings) -> Self {
        Self { may_include: false, ..Self::new(settings) }
    }

    /// Takes a file by its name: TOML if it ends so, the syntax of redis.conf otherwise.
    pub(crate) fn file(&mut self, path: &str) -> Result<()> {
        self.file_at(path, 0)
    }

    fn file_at(&mut self, path: &str, depth: usize) -> Result<()> {
        if depth > INCLUDE_DEPTH_MAX {
            return Err(refused(format!("{path}: includes are nested too deep; is it a circle?")));
        }
        let text = read(path).map_err(|error| {
            refused(format!("{path}: the configuration file cannot be read: {error}"))
        })?;
        self.text_at(path, &text, depth)
    }

    /// Takes the lines of a text: TOML if its name ends so, the syntax of redis.conf otherwise.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> Result<()> {
        self.text_at(name, text, 0)
    }

    fn text_at(&mut self, name: &str, text: &str, depth: usize) -> Result<()> {
        if is_toml(name) {
            return super::toml::lines(name, text)?.into_iter().try_for_each(|(line, words)| {
                let origin = Origin::File { name: name.to_owned(), line };
                self.line(&words, &origin)
            });
        }
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words = split_line(line.as_bytes()).ok_or_else(|| {
                let number = index + 1;
                refused(format!("{name}, line {number}: a quote is not closed, or not at the end"))
            })?;
            let origin = Origin::File { name: name.to_owned(), line: index + 1 };
            match words.as_slice() {
                [word, ..] if word.eq_ignore_ascii_case(b"include") && !self.may_include => {
                    return Err(refused(format!("{}: no file is read here", origin.of("include"))));
                }
                [word, path] if word.eq_ignore_ascii_case(b"include") => {
                    self.file_at(&String::from_utf8_lossy(path), depth + 1)?;
                }
                _ => self.line(&words, &origin)?,
            }
        }
        Ok(())
    }

    /// Takes the variables of the environment that are parameters.
    pub(crate) fn environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<()> {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) else { continue };
            let name = name.replace('_', "-");
            let Some(row) = row(name.as_bytes()) else { continue };
            let words = super::words::of_value((row.cell)(self.settings), value.as_bytes());
            self.assign(row, &words, &Origin::Environment)?;
        }
        Ok(())
    }

    /// Takes a parameter and its words.
    pub(crate) fn line(&mut self, line: &[Vec<u8>], origin: &Origin) -> Result<()> {
        let Some((name, words)) = line.split_first() else { return Ok(()) };
        let shown = String::from_utf8_lossy(name).to_ascii_lowercase();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        if let Some(row) = row(name) {
            return self.assign(row, &words, origin);
        }
        match foreign::find(name) {
            Some(Foreign { is_harmless: true, why, .. }) => {
                self.without_effect.push(format!("{shown} ({why})"));
                Ok(())
            }
            Some(foreign) if foreign.admits(&words) => Ok(()),
            Some(Foreign { why, .. }) => {
                Err(refused(format!("{}: {why}; leave it out", origin.of(&shown))))
            }
            None => Err(refused(format!(
                "{}: unknown parameter; ferrokit-server --help lists them",
                origin.of(&shown)
            ))),
        }
    }

    fn assign(&mut self, row: &'static Row, words: &[&[u8]], origin: &Origin) -> Result<()> {
        let cell = (row.cell)(self.settings);
        let mut all = words.to_vec();
        // A list may be one word with spaces.
        if let [word] = words
            && cell.is_list()
        {
            all = super::words::of_value(cell, word);
        }
        let before = cell.show();
        if row.name == "save" && self.has_save && !matches!(all.as_slice(), [] | [b""]) {
            let mut sum = super::words::of_value(cell, &before);
            sum.retain(|word| !word.is_empty());
            sum.append(&mut all);
            all = sum;
        }
        self.has_save |= row.name == "save";
        self.given.push(row.name);
        cell.set(&all).map_err(|problem| {
            let said: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            let said = if row.name == "requirepass" { String::new() } else { said.join(" ") };
            refused(format!("{} '{said}': {problem}", origin.of(row.name)))
        })
    }
}

/// Whether a file of that name holds TOML.
pub(super) fn is_toml(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".toml")
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = OpenOptions::new().read(true).open(path)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    if text.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(text)
}

pub(crate) fn refused(text: String) -> Error {
    Error::invalid("configuration", text)
}
