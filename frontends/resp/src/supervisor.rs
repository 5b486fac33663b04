//! What whoever supervises the process is told: readiness to systemd, and a file with its number.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use ferrokit_engine::{Error, Result};
use ferrokit_storage::Host;
use ferrokit_storage::atomic_file::{replace_file, split};

use crate::settings::Settings;
use crate::settings::choices::Supervised;

/// The variable that names systemd's socket.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells whoever supervises the process; nobody, if nobody does.
pub struct Supervisor {
    socket: Option<SocketAddr>,
    pid_file: Option<String>,
    has_written: bool,
    host: Host,
}

impl Supervisor {
    /// As the parameters `supervised` and `pidfile` say.
    ///
    /// # Errors
    /// `InvalidArgument` where systemd was promised and is not there.
    pub fn new(settings: &Settings, host: &Host) -> Result<Self> {
        let name = match settings.supervised.get() {
            Supervised::No => None,
            Supervised::Auto | Supervised::Systemd => std::env::var(SOCKET_VARIABLE).ok(),
        };
        let socket = name.map(|name| address(&name)).transpose().map_err(|error| {
            Error::invalid("--supervised", format!("{SOCKET_VARIABLE}: {error}"))
        })?;
        if socket.is_none() && settings.supervised.get() == Supervised::Systemd {
            return Err(Error::invalid(
                "--supervised",
                format!("{SOCKET_VARIABLE} is not set; use auto where systemd may be absent"),
            ));
        }
        let pid_file = Some(settings.pidfile.to_text()).filter(|path| !path.is_empty());
        Ok(Self { socket, pid_file, has_written: false, host: host.clone() })
    }

    /// The server listens, and opens its engine.
    pub fn loading(&self) {
        self.tell("STATUS=Opening the engine\n");
    }

    /// The server serves.
    ///
    /// # Errors
    /// `InvalidArgument` if the file with the process's number cannot be written.
    pub fn ready(&mut self) -> Result<()> {
        if let Some(path) = &self.pid_file {
            self.write_number(path).map_err(|error| {
                Error::invalid("--pidfile", format!("\"{path}\": {error}; choose another file"))
            })?;
            self.has_written = true;
        }
        self.tell("READY=1\nSTATUS=Ready to accept connections\n");
        Ok(())
    }

    /// The server is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping\n");
    }

    fn write_number(&self, path: &str) -> Result<()> {
        let (directory, name) = split(path);
        let number = format!("{}\n", std::process::id()).into_bytes();
        self.host.wait(replace_file(self.host.fs.as_ref(), directory, name, number))
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.socket else { return };
        let told = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(state.as_bytes(), address));
        if let Err(error) = told {
            tracing::warn!(%error, "systemd was not told");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(path) = self.pid_file.as_ref().filter(|_| self.has_written) {
            // Who has taken it away has done our work.
            let _ = self.host.fs.remove_file(path);
        }
    }
}

fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
