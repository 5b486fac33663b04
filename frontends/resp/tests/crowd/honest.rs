//! Clients that ask for something now and then and read what they are answered.

use std::fmt;
use std::io::{Read, Write};
use std::time::Duration;

use ferrokit_engine::Env;

use crate::support::Client;

/// So many of them ask at once.
const ABREAST: usize = 32;

/// Honest clients: all are idle but a few, each in its turn.
pub(crate) struct Honest {
    clients: Vec<Client>,
    next: usize,
    round: usize,
}

impl Honest {
    pub(crate) fn connect(port: u16, count: usize) -> Self {
        let clients = (0..count).map(|_| Client::connect(port)).collect();
        let mut honest = Self { clients, next: 0, round: 0 };
        // An idle connection is one that has done something.
        for client in &mut honest.clients {
            assert_eq!(client.ask("PING").text(), "PONG");
        }
        honest
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// They ask, one group after the other, for so long.
    pub(crate) fn ask_for(&mut self, time: Duration) -> Latencies {
        let clock = Env::system().clock;
        let (start, mut latencies) = (clock.monotonic(), Latencies::default());
        while clock.monotonic() - start < time {
            self.ask(&mut latencies);
        }
        latencies.0.sort_unstable();
        latencies
    }

    /// The next group sets and reads a key of each.
    fn ask(&mut self, latencies: &mut Latencies) {
        let clock = Env::system().clock;
        let end = (self.next + ABREAST).min(self.clients.len());
        let group = &mut self.clients[self.next..end];
        let mut asked = Vec::with_capacity(ABREAST);
        for (index, client) in group.iter_mut().enumerate() {
            let key = format!("honest:{}", self.next + index);
            let value = format!("{:08}", self.round);
            let (request, reply) = match self.round % 2 {
                0 => (
                    format!("SET {key} {value}\r\nGET {key}\r\n"),
                    format!("+OK\r\n$8\r\n{value}\r\n"),
                ),
                _ => (format!("GET {key}\r\n"), format!("$8\r\n{:08}\r\n", self.round - 1)),
            };
            asked.push((clock.monotonic(), reply));
            client.0.write_all(request.as_bytes()).unwrap();
        }
        let mut got = [0; 64];
        for (client, (since, reply)) in group.iter_mut().zip(&asked) {
            let got = &mut got[..reply.len()];
            client.0.read_exact(got).unwrap();
            latencies.0.push(clock.monotonic() - *since);
            assert_eq!(got, reply.as_bytes());
        }
        self.next = end % self.clients.len();
        self.round += usize::from(self.next == 0);
    }
}

/// How long answers took, sorted.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.0.len() as f64 * percent / 100.0) as usize;
        self.0[rank.min(self.0.len() - 1)]
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.0.len())?;
        for percent in [50.0, 99.0, 99.9, 100.0] {
            write!(f, ", p{percent} {:?}", self.percentile(percent))?;
        }
        Ok(())
    }
}
