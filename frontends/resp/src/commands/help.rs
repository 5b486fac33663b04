//! The replies of the HELP subcommands.

use super::{Context, Refusal, shown};
use crate::resp::Reply;

/// What a subcommand with arguments too many is told.
pub(super) fn wrong_subcommand(cx: &Context<'_>, container: &str) -> Refusal {
    let name = shown(cx.args.at(1));
    Refusal::Text(
        format!(
            "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} \
             HELP."
        )
        .into(),
    )
}

/// Writes the help of a container: the lines about its subcommands, and about HELP itself.
pub(super) fn write(reply: &mut Reply, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.status(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.status(line));
    reply.status("HELP");
    reply.status("    Print this help.");
}
