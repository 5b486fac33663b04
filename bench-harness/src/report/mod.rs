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

const TITLE: &str = "Storage engines compared";

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
    #[arg(long, default_value = TITLE)]
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
    let input = Input::read(&options.files)?;
    let report = Report::of(&input, &options.title, options.baseline.as_deref())?;
    write_pages(&report, &options.html, &options.markdown)?;
    if options.html.is_none() && options.markdown.is_none() {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(markdown::render(&report).as_bytes());
        written.map_err(|error| Error::io("bench.report", error))?;
    }
    Ok(())
}

/// Writes the report of the lines of a comparison that was just made, as far as it came.
///
/// # Errors
/// As [`write()`], but that there may be no measurement: then there is nothing to be written.
pub fn write_of(
    mut lines: &[u8],
    baseline: Option<&str>,
    html: &Option<String>,
    markdown: &Option<String>,
) -> Result<()> {
    let mut input = Input::default();
    input.read_lines(&mut lines, "the results")?;
    if input.runs.is_empty() {
        return Ok(());
    }
    write_pages(&Report::of(&input, TITLE, baseline)?, html, markdown)
}

fn write_pages(report: &Report, html: &Option<String>, markdown: &Option<String>) -> Result<()> {
    if let Some(path) = html {
        write_file(path, &page::render(report))?;
    }
    if let Some(path) = markdown {
        write_file(path, &markdown::render(report))?;
    }
    Ok(())
}

fn write_file(path: &str, text: &str) -> Result<()> {
    let failed = |error| Error::io("bench.report", error).with_file(path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
