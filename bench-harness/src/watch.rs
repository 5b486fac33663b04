//! [`Watch`]: what a person sees while it goes on: a bar with a rate and an estimate of the end on a
//! terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of a number of runs.
pub struct Watch {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Watch {
    /// Of `runs` runs, on standard error.
    pub fn new(runs: usize) -> Self {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let target = match is_terminal {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(runs as u64), target);
        let template = "{bar:30} {pos}/{len} runs, {elapsed} gone, about {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if is_terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, is_terminal }
    }

    /// A run begins.
    pub fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if !self.is_terminal {
            let (run, runs) = (self.bar.position() + 1, self.bar.length().unwrap_or(0));
            eprint!("[{run}/{runs}] {what} ... ");
        }
    }

    /// It ended.
    pub fn end(&self, how: &str) {
        if !self.is_terminal {
            eprintln!("{how}");
        }
        self.bar.inc(1);
    }

    /// A run is left out.
    pub fn skip(&self) {
        self.bar.inc(1);
    }

    /// Something to know.
    pub fn note(&self, what: &str) {
        match self.is_terminal {
            true => self.bar.println(what),
            false => eprintln!("{what}"),
        }
    }

    /// Writes to standard output, above the bar.
    pub fn print(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
