//! The report of one or more result files: an HTML page that stands alone, and Markdown.
//!
//! | module | subject |
//! |---|---|
//! | `input` | the lines of result files |
//! | `data` | the same, by workload and engine, with medians and spreads |
//! | `words` | figures with their units, parameters in words |
//! | `markup` | HTML and SVG text; whatever comes from a file is escaped by its types |
//! | `axis`, `bars`, `lines` | plots as inline SVG |
//! | `overview`, `section`, `trends`, `servers` | the parts of the page |
//! | `tables` | tables for both formats |
//! | `page`, `markdown` | the whole |
//!
//! The page needs no network, no script and no font: its style is inline and follows the reader's
//! colour scheme. The same input gives the same bytes.

mod axis;
mod bars;
mod data;
pub mod input;
mod lines;
mod markdown;
mod markup;
mod overview;
mod page;
mod section;
mod servers;
mod tables;
mod trends;
mod words;

use std::fs::OpenOptions;
use std::io::Write;

use ferrokit_engine::{Error, Result};

use data::Report;
use input::Input;

/// What is to be written, and from what.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportOptions {
    /// The results: what `--json` wrote. Runs with equal parameters are taken together, whichever
    /// file they are in.
    #[arg(required = true)]
    files: Vec<String>,
    /// The page to be written.
    #[arg(long)]
    html: Option<String>,
    /// The Markdown file to be written. With neither, Markdown goes to standard output.
    #[arg(long)]
    markdown: Option<String>,
    /// The title.
    #[arg(long, default_value = "Storage engines compared")]
    title: String,
    /// The engine that the others are relative to; unless given, that of the results.
    #[arg(long)]
    baseline: Option<String>,
}

/// Writes the report.
///
/// # Errors
/// `Io`; `InvalidArgument` for files without measurements, or with lines that are no records.
pub fn write(options: &ReportOptions) -> Result<()> {
    let report =
        Report::of(&Input::read(&options.files)?, &options.title, options.baseline.as_deref())?;
    if let Some(path) = &options.html {
        write_file(path, &page::render(&report))?;
    }
    if let Some(path) = &options.markdown {
        write_file(path, &markdown::render(&report))?;
    }
    if options.html.is_none() && options.markdown.is_none() {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(markdown::render(&report).as_bytes());
        written.map_err(|error| Error::io("bench.report", error))?;
    }
    Ok(())
}

fn write_file(path: &str, text: &str) -> Result<()> {
    let failed = |error| Error::io("bench.report", error).with_file(path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
