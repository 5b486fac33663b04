//! [`Logs`]: where the log goes, and how much of it.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::{Error, Result};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::settings::Settings;
use crate::settings::choices::{LogFormat, LogLevel};

type Filter = reload::Handle<LevelFilter, Registry>;

/// The log of the process, if the server made it. Clones are of the same log.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    filter: Option<Arc<Filter>>,
    output: Option<Output>,
}

impl Logs {
    /// Logs as the parameters say: to a file, or to standard error, in colour only to a terminal.
    ///
    /// Call it once in a process: a second log has no effect.
    ///
    /// # Errors
    /// `InvalidArgument` if the file cannot be opened.
    pub fn start(settings: &Settings) -> Result<Self> {
        let output = Output::open(&settings.logfile.to_text())?;
        let is_colour_unwanted =
            std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = output.0.is_none() && io::stderr().is_terminal();
        let format = tracing_subscriber::fmt::layer()
            .with_writer(output.clone())
            .with_ansi(is_terminal && !is_colour_unwanted);
        let (filter, handle) = reload::Layer::new(settings.loglevel.get().filter());
        let format = match settings.log_format.get() {
            LogFormat::Text => format.boxed(),
            LogFormat::Json => format.json().boxed(),
        };
        // Only a log that is there already makes this fail.
        let _ = tracing_subscriber::registry().with(filter).with(format).try_init();
        Ok(Self { filter: Some(Arc::new(handle)), output: Some(output) })
    }

    /// Logs so much from now on.
    pub(crate) fn set_level(&self, level: LogLevel) {
        if let Some(filter) = &self.filter {
            // It fails only when the log is gone, at the very end.
            let _ = filter.reload(level.filter());
        }
    }

    /// Opens the file again, for whoever has moved it away. If that fails, the log stays where it is.
    pub fn reopen(&self) {
        let reopened = self.output.as_ref().map_or(Ok(()), Output::reopen);
        if let Err(error) = reopened {
            tracing::error!(%error, "the log is not opened again");
        }
    }
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::TRACE,
            Self::Verbose => LevelFilter::DEBUG,
            Self::Notice => LevelFilter::INFO,
            Self::Warning => LevelFilter::WARN,
            Self::Nothing => LevelFilter::OFF,
        }
    }
}

/// A file that is appended to; without one, standard error.
#[derive(Debug, Clone)]
struct Output(Option<Arc<LogFile>>);

#[derive(Debug)]
struct LogFile {
    path: String,
    file: Mutex<Arc<File>>,
}

impl Output {
    fn open(path: &str) -> Result<Self> {
        if path.is_empty() {
            return Ok(Self(None));
        }
        let file = append_to(path).map_err(|error| {
            Error::invalid("--logfile", format!("\"{path}\": {error}; choose another file"))
        })?;
        let file = Mutex::new(Arc::new(file));
        Ok(Self(Some(Arc::new(LogFile { path: path.to_owned(), file }))))
    }

    fn reopen(&self) -> io::Result<()> {
        if let Some(log) = &self.0 {
            let file = Arc::new(append_to(&log.path)?);
            *log.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        }
        Ok(())
    }
}

fn append_to(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// What one event is written to.
enum LogWriter {
    File(Arc<File>),
    Error(io::Stderr),
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.as_ref().write(bytes),
            Self::Error(error) => error.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        match &self.0 {
            Some(log) => {
                let file = log.file.lock().unwrap_or_else(PoisonError::into_inner);
                LogWriter::File(Arc::clone(&file))
            }
            None => LogWriter::Error(io::stderr()),
        }
    }
}
