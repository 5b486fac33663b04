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

pub(super) fn durability(shared: &Shared) -> Result<(), Problem> {
    shared.apply_durability().map_err(|error| error.to_string().into())
}

pub(super) fn string_limit(shared: &Shared) -> Result<(), Problem> {
    shared.apply_string_limit();
    Ok(())
}

pub(super) fn data_limit(shared: &Shared) -> Result<(), Problem> {
    shared.apply_data_limit().map_err(Problem::from)
}

pub(super) fn log_level(shared: &Shared) -> Result<(), Problem> {
    shared.logs.set_level(shared.settings.loglevel.get());
    Ok(())
}
