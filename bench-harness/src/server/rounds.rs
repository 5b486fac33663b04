//! [`Rounds`]: every plan on every server, in interleaved rounds: A, B, C, A, B, C, ...

use std::io::Write;
use std::path::PathBuf;

use ferrokit_engine::{Env, Error, ErrorKind, Result};

use super::measure::{ServerMeasurement, Target, measure};
use super::output::{ServerSeries, table, write_measurement, write_ratios};
use super::plan::ServerPlan;
use super::running::RunningServer;
use super::stop::Stop;
use super::subject::Subject;

/// What is compared.
pub struct Rounds {
    /// The servers.
    pub subjects: Vec<Subject>,
    /// Which of them the others are compared with.
    pub baseline: usize,
    /// What each of them does.
    pub plans: Vec<ServerPlan>,
    /// How often.
    pub rounds: usize,
    /// Where the runs' directories are made; each is removed after its run.
    pub directory: PathBuf,
}

impl Rounds {
    /// Runs everything. `json` gets a line for each run and each ratio as soon as it is known,
    /// `report` the table of each plan; progress goes to stderr.
    ///
    /// # Errors
    /// The error of the first run that fails; `Closed` on a stop.
    pub fn run(
        &self,
        env: &Env,
        stop: &Stop,
        json: &mut dyn Write,
        report: &mut dyn FnMut(&str),
    ) -> Result<()> {
        self.plans.iter().try_for_each(ServerPlan::check)?;
        for plan in &self.plans {
            let mut all: Vec<ServerSeries> =
                self.subjects.iter().map(|s| series(s, plan)).collect();
            for round in 0..self.rounds {
                for (subject, series) in self.subjects.iter().zip(&mut all) {
                    if series.unsupported.is_some() {
                        continue;
                    }
                    eprint!(
                        "{}, {}, round {}/{} {} ... ",
                        plan.command,
                        plan.driving(),
                        round + 1,
                        self.rounds,
                        subject.name
                    );
                    match self.run_one(env, stop, subject, plan) {
                        Ok(measurement) => {
                            eprintln!("{:.0} operations/s", measurement.ops_per_s());
                            write_measurement(json, plan, series, round, &measurement)?;
                            series.measurements.push(measurement);
                        }
                        Err(error) if error.kind() == ErrorKind::Unsupported => {
                            eprintln!("cannot: {error}");
                            series.unsupported = Some(error.to_string());
                        }
                        Err(error) => {
                            eprintln!("failed");
                            return Err(error);
                        }
                    }
                }
            }
            let baseline = all.get(self.baseline).ok_or_else(|| {
                Error::invalid("bench.server", "the baseline is none of the servers")
            })?;
            write_ratios(json, plan, baseline, &all)?;
            report(&table(plan, baseline, &all));
        }
        Ok(())
    }

    fn run_one(
        &self,
        env: &Env,
        stop: &Stop,
        subject: &Subject,
        plan: &ServerPlan,
    ) -> Result<ServerMeasurement> {
        stop.check()?;
        let directory = self.directory.join(subject.kind.name());
        let server = RunningServer::start(env, subject, plan, &directory, stop)?;
        let target = Target {
            address: server.address(),
            protocol: subject.kind.protocol(),
            usage: &|| server.usage(),
        };
        match measure(env, plan, &target, stop) {
            Ok(measurement) => server.stop().map(|()| measurement),
            Err(error) if error.kind() == ErrorKind::Unsupported => Err(error),
            Err(error) => Err(server.explained(error)),
        }
    }
}

fn series(subject: &Subject, plan: &ServerPlan) -> ServerSeries {
    ServerSeries {
        name: subject.name.clone(),
        settings: subject.settings(plan),
        measurements: Vec::new(),
        unsupported: None,
    }
}
