//! [`Change`]: how a new value takes effect while the server runs.

use super::cell::Problem;
use crate::shared::Shared;

/// How a parameter acts when CONFIG SET changes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// It is read when the server starts, and fixed then.
    AtStart,
    /// It is read whenever it matters.
    AtOnce,
    /// It is handed to those it concerns; if they refuse, the old value stays.
    Applied(fn(&Shared) -> Result<(), Problem>),
}

/// Listens at another port.
pub(super) fn port(shared: &Shared) -> Result<(), Problem> {
    listen(shared, "Unable to listen on this port. Check server logs.")
}

/// Listens at other addresses.
pub(super) fn bind(shared: &Shared) -> Result<(), Problem> {
    listen(shared, "Failed to bind to specified addresses.")
}

fn listen(shared: &Shared, refusal: &'static str) -> Result<(), Problem> {
    let port = shared.listening.change(&shared.settings).map_err(|error| {
        tracing::warn!(%error, "the server listens where it did");
        refusal
    })?;
    if let (Some(port), Some(row)) = (port, super::row(b"port")) {
        // 0 has become a free one.
        shared.settings.assign(row, &[port.to_string().as_bytes()])?;
    }
    Ok(())
}

/// More clients need more descriptors.
pub(super) fn max_clients(shared: &Shared) -> Result<(), Problem> {
    let wanted = usize::try_from(shared.settings.maxclients.get_unsigned()).unwrap_or(usize::MAX);
    let allowed = crate::server::clients_within_descriptors(wanted);
    if allowed < wanted {
        return Err(format!(
            "The operating system is not able to handle the specified number of clients, try with \
             {allowed}"
        )
        .into());
    }
    shared.clients.set_limit(wanted);
    Ok(())
}

/// What concerns the engine is applied when it is open.
pub(super) fn durability(shared: &Shared) -> Result<(), Problem> {
    if shared.is_loading() {
        return Ok(());
    }
    shared.apply_durability().map_err(|error| error.to_string().into())
}

/// Where checkpoints go from now on. The files of the engine stay where they are.
pub(super) fn directory(shared: &Shared) -> Result<(), Problem> {
    let absolute = absolute_directory(&shared.settings.dir.to_text())?;
    if let Some(row) = super::row(b"dir") {
        shared.settings.assign(row, &[absolute.as_bytes()])?;
    }
    Ok(())
}

/// The absolute path of a directory that is there.
pub(crate) fn absolute_directory(path: &str) -> Result<String, Problem> {
    let absolute = std::fs::canonicalize(path).map_err(|error| describe(&error))?;
    if !absolute.is_dir() {
        return Err("Not a directory".into());
    }
    absolute.into_os_string().into_string().map_err(|_| "the path is not UTF-8".into())
}

/// An error of the system without its number.
fn describe(error: &std::io::Error) -> Problem {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned().into()
}

pub(super) fn check_file_name(name: &[u8]) -> Result<(), Problem> {
    if name.contains(&b'/') || matches!(name, b"." | b"..") {
        return Err("dbfilename can't be a path, just a filename".into());
    }
    if name.is_empty() {
        return Err("dbfilename can't be empty".into());
    }
    std::str::from_utf8(name).map(drop).map_err(|_| "argument must be UTF-8".into())
}

pub(super) fn key_events(shared: &Shared) -> Result<(), Problem> {
    shared.refresh_interest();
    Ok(())
}

pub(super) fn string_limit(shared: &Shared) -> Result<(), Problem> {
    shared.apply_string_limit();
    Ok(())
}

pub(super) fn data_limit(shared: &Shared) -> Result<(), Problem> {
    if shared.is_loading() {
        return Ok(());
    }
    shared.apply_data_limit().map_err(Problem::from)
}

pub(super) fn client_limit(shared: &Shared) -> Result<(), Problem> {
    shared.keep_client_limit();
    Ok(())
}

pub(super) fn sketch_limit(shared: &Shared) -> Result<(), Problem> {
    shared.apply_sketch_limit();
    Ok(())
}

/// Keys beyond a lower limit are forgotten at once.
pub(super) fn tracking_limit(shared: &Shared) -> Result<(), Problem> {
    shared.tracking.keep_bounds();
    Ok(())
}

pub(super) fn log_level(shared: &Shared) -> Result<(), Problem> {
    shared.logs.set_level(shared.settings.loglevel.get());
    Ok(())
}

pub(super) fn check_socket_address(address: &[u8]) -> Result<(), Problem> {
    let is_address = address.is_empty()
        || std::str::from_utf8(address)
            .is_ok_and(|address| address.parse::<std::net::SocketAddr>().is_ok());
    if is_address { Ok(()) } else { Err("argument must be an address and a port, or empty".into()) }
}
