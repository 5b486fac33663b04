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
        let template =
            "{bar:30} {pos}/{len} runs, {per_sec}, {elapsed} gone, about {eta} left  {msg}";
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
        self.bar.inc(1);
        if !self.is_terminal {
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let gone = self.bar.elapsed();
            match done < all {
                // Plain proportion: one run is not like the next, and lines are kept.
                true => {
                    let left = gone.mul_f64((all - done) as f64 / done.max(1) as f64);
                    eprintln!("{how} ({} gone, about {} left)", minutes(gone), minutes(left));
                }
                false => eprintln!("{how} ({} in all)", minutes(gone)),
            }
        }
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

/// As 3:07.
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_minutes() {
        assert_eq!(minutes(Duration::from_millis(59_600)), "1:00");
        assert_eq!(minutes(Duration::from_secs(187)), "3:07");
        assert_eq!(minutes(Duration::ZERO), "0:00");
    }
}
