//! [`RunningServer`]: a server process, from its start until nothing of it is left.
//!
//! It is in a process group of its own, so that a Ctrl-C reaches it through this program alone; the
//! kernel kills it should this program be killed. Dropping it kills the group and removes its
//! directory; [`RunningServer::stop`] asks first, and checks how it ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrokit_engine::{Env, Error, ErrorKind, Result};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use super::plan::ServerPlan;
use super::raw::die_with_parent;
use super::stop::Stop;
use super::subject::{ServerKind, Subject};
use super::usage::ServerUsage;

/// A server that is not ready by then has failed.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A server that has not ended by then is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// Another process may take a free port before the server does.
const PORTS_TRIED: usize = 3;
/// How much of a log is shown when a server fails.
const LOG_BYTES_SHOWN: usize = 1500;
/// What identifies a server is in the first bytes of its answer.
const IDENTITY_BYTES_MAX: usize = 64 << 10;
const READY_LINE: &str = "ready to accept connections port=";

/// A server that accepts connections.
pub struct RunningServer {
    env: Env,
    /// The server, its process group's leader. Not waited for before its group is killed: until then
    /// no other process can have its number.
    child: Child,
    name: String,
    directory: PathBuf,
    address: SocketAddr,
}

impl RunningServer {
    /// Starts a server in `directory`, which is not there yet, and waits until it is ready.
    ///
    /// # Errors
    /// `Io` with the end of its log if it does not become ready; `Closed` on a stop.
    pub fn start(
        env: &Env,
        subject: &Subject,
        plan: &ServerPlan,
        directory: &Path,
        stop: &Stop,
    ) -> Result<Self> {
        for attempt in 1.. {
            let mut server = Self::spawn(env, subject, plan, directory)?;
            match server.wait_until_ready(subject.kind, stop) {
                Ok(()) => return Ok(server),
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < PORTS_TRIED => {}
                Err(error) => return Err(server.explained(error)),
            }
        }
        Err(Error::invalid("bench.server.start", "no port was tried"))
    }

    fn spawn(env: &Env, subject: &Subject, plan: &ServerPlan, directory: &Path) -> Result<Self> {
        let failed = |error| {
            Error::io("bench.server.start", error).with_file(&directory.display().to_string())
        };
        let data = directory.join("data");
        DirBuilder::new().recursive(true).create(&data).map_err(failed)?;
        let log = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(directory.join("log"))
            .map_err(failed)?;
        let port = if subject.kind == ServerKind::Ferrokit { 0 } else { free_port()? };
        let mut command = Command::new(subject.program());
        command
            .args(subject.arguments(plan, port, &data.display().to_string()))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0);
        die_with_parent(&mut command);
        let child = command.spawn().map_err(|error| {
            Error::io("bench.server.start", error)
                .with_file(&subject.program().display().to_string())
        })?;
        Ok(Self {
            env: env.clone(),
            child,
            name: subject.name.clone(),
            directory: directory.to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        })
    }

    /// `Conflict` if it ends by itself, as it does when its port is taken.
    fn wait_until_ready(&mut self, kind: ServerKind, stop: &Stop) -> Result<()> {
        let deadline = self.env.clock.monotonic() + START_PATIENCE;
        while !self.is_ready(kind) {
            if self.has_ended()? {
                return Err(Error::new(ErrorKind::Conflict, "bench.server.start", "it ended"));
            }
            if self.env.clock.monotonic() > deadline {
                let message = format!("not ready after {} s", START_PATIENCE.as_secs());
                return Err(Error::new(ErrorKind::Io, "bench.server.start", message));
            }
            stop.sleep(&self.env, POLL_INTERVAL)?;
        }
        Ok(())
    }

    fn is_ready(&mut self, kind: ServerKind) -> bool {
        // Whoever answers on the port must be this process.
        let (request, field) = match kind {
            ServerKind::Ferrokit => {
                let port = self.log().split_once(READY_LINE).and_then(|(_, rest)| {
                    // The whole number is there when something follows it.
                    rest.split_once(|next: char| !next.is_ascii_digit())?.0.parse().ok()
                });
                port.inspect(|port| self.address.set_port(*port));
                return port.is_some();
            }
            ServerKind::Redis | ServerKind::Valkey => ("INFO server\r\n", "process_id:"),
            ServerKind::Memcached => ("stats\r\n", "STAT pid "),
        };
        let answer = ask(self.address, request, field).unwrap_or_default();
        answer.parse().is_ok_and(|pid: u32| pid == self.child.id())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn usage(&self) -> Result<ServerUsage> {
        ServerUsage::of(Pid::from_child(&self.child))
    }

    /// Stops the server and removes its directory.
    ///
    /// # Errors
    /// `Io` with the end of its log if it does not end by itself, or ends with an error.
    pub fn stop(mut self) -> Result<()> {
        let failed = |error: rustix::io::Errno| Error::io("bench.server.stop", error.into());
        if !self.has_ended()? {
            kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(failed)?;
        }
        let deadline = self.env.clock.monotonic() + STOP_PATIENCE;
        while !self.has_ended()? {
            if self.env.clock.monotonic() > deadline {
                let message = format!("it did not end within {} s", STOP_PATIENCE.as_secs());
                let error = Error::new(ErrorKind::Io, "bench.server.stop", message);
                return Err(self.explained(error));
            }
            ferrokit_engine::block_on(self.env.timer.sleep(POLL_INTERVAL));
        }
        self.kill_group();
        let status = self.child.wait().map_err(|error| Error::io("bench.server.stop", error))?;
        if status.success() {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Io, "bench.server.stop", format!("it ended: {status}"));
        Err(self.explained(error))
    }

    /// An error with the server's name and what it logged last; a stop needs no explanation.
    pub fn explained(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Closed {
            return error;
        }
        let log = self.log();
        let mut start = log.len().saturating_sub(LOG_BYTES_SHOWN);
        while !log.is_char_boundary(start) {
            start += 1;
        }
        let log = log.get(start..).unwrap_or_default().trim();
        let message = format!("{} failed: {error}; the end of its log:\n{log}", self.name);
        Error::new(error.kind(), "bench.server", message)
    }

    fn log(&self) -> String {
        let text = read_text(&self.directory.join("log"));
        text.unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
    }

    /// Whether the process has ended; it is not waited for.
    fn has_ended(&self) -> Result<bool> {
        let pid = WaitId::Pid(Pid::from_child(&self.child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(pid, options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(Error::io("bench.server.stop", error.into())),
        }
    }

    /// Kills what is left of the group. The child must not have been waited for.
    fn kill_group(&self) {
        // Nobody left is what is wanted.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // A child that was waited for has no group any more, and its number may be another's.
        if self.has_ended().is_ok() {
            self.kill_group();
            let _ = self.child.wait();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("ferrokit-bench: {} stays: {error}", self.directory.display());
        }
    }
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Error::io("bench.server.port", error))
}

/// Sends a request, and answers what follows `field` in a line of the answer.
fn ask(address: SocketAddr, request: &str, field: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_PATIENCE)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.set_write_timeout(Some(ANSWER_PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.len() < IDENTITY_BYTES_MAX {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        if let Some((_, rest)) = text.split_once(field)
            && let Some((value, _)) = rest.split_once("\r\n")
        {
            return Ok(value.to_owned());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[expect(clippy::disallowed_methods, reason = "what another program wrote, not an engine's file")]
fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
