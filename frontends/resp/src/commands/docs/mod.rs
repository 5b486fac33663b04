//! COMMAND DOCS: what a command is for, and how it is called.
//!
//! Its summary and the like are in its row; what only COMMAND DOCS tells is here, by group.

mod alone;
mod arguments;
mod bitmaps;
mod connection;
mod generic;
mod hyperloglog;
mod pubsub;
mod server;
mod strings;
mod transactions;

use super::table::CommandInfo;
use crate::resp::Reply;

/// What COMMAND DOCS tells of a command beyond its row.
#[derive(Debug)]
struct Docs {
    /// As in the row.
    name: &'static str,
    /// In the notation of [`arguments`].
    arguments: &'static str,
    /// What changed, and in which version.
    history: &'static [(&'static str, &'static str)],
    /// Since when it is deprecated, and what to use instead.
    replaced: Option<(&'static str, &'static str)>,
    /// It is for the system rather than for its users.
    is_internal: bool,
}

const fn takes(name: &'static str, arguments: &'static str) -> Docs {
    Docs { name, arguments, history: &[], replaced: None, is_internal: false }
}

impl Docs {
    const fn changed(self, history: &'static [(&'static str, &'static str)]) -> Self {
        Self { history, ..self }
    }

    const fn replaced(self, version: &'static str, by: &'static str) -> Self {
        Self { replaced: Some((version, by)), ..self }
    }

    const fn internal(self) -> Self {
        Self { is_internal: true, ..self }
    }

    /// In the words of COMMAND DOCS.
    fn flags(&self) -> impl Iterator<Item = &'static str> + Clone {
        let flags = [(self.replaced.is_some(), "deprecated"), (self.is_internal, "syscmd")];
        flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name)
    }
}

const GROUPS: &[&[Docs]] = &[
    alone::DOCS,
    bitmaps::DOCS,
    connection::DOCS,
    generic::DOCS,
    hyperloglog::DOCS,
    pubsub::DOCS,
    server::DOCS,
    strings::DOCS,
    transactions::DOCS,
];

/// Of a command without arguments or history.
const PLAIN: &Docs = &takes("", "");

fn of(name: &str) -> &'static Docs {
    GROUPS.iter().flat_map(|docs| docs.iter()).find(|docs| docs.name == name).unwrap_or(PLAIN)
}

/// Writes a command's name and its documentation.
pub(super) fn write(reply: &mut Reply, row: &CommandInfo) {
    let docs = of(row.name);
    let facts = [
        ("summary", row.summary),
        ("since", row.since),
        ("group", row.group),
        ("complexity", row.complexity),
    ];
    let facts = facts.into_iter().filter(|(_, text)| !text.is_empty());
    let flags = docs.flags();
    let has_flags = flags.clone().next().is_some();
    let others = [
        has_flags,
        docs.replaced.is_some(),
        docs.replaced.is_some(),
        !docs.history.is_empty(),
        !docs.arguments.is_empty(),
        !row.subcommands.is_empty(),
    ];
    reply.bulk(row.name.as_bytes());
    reply.map(facts.clone().count() + others.into_iter().filter(|is_there| *is_there).count());
    facts.for_each(|(name, text)| text_of(reply, name, text));
    if has_flags {
        reply.bulk(b"doc_flags");
        reply.set(flags.clone().count());
        flags.for_each(|flag| reply.status(flag));
    }
    if let Some((version, by)) = docs.replaced {
        text_of(reply, "deprecated_since", version);
        text_of(reply, "replaced_by", by);
    }
    if !docs.history.is_empty() {
        reply.bulk(b"history");
        reply.set(docs.history.len());
        for (version, change) in docs.history {
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !docs.arguments.is_empty() {
        reply.bulk(b"arguments");
        arguments::write(reply, docs.arguments);
    }
    if !row.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(row.subcommands.len());
        row.subcommands.iter().for_each(|subcommand| write(reply, subcommand));
    }
}

fn text_of(reply: &mut Reply, name: &str, text: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_arguments_is_of_the_notation() {
        for docs in GROUPS.iter().flat_map(|docs| docs.iter()) {
            assert!(arguments::is_valid(docs.arguments), "{}: {}", docs.name, docs.arguments);
            assert_eq!(of(docs.name).arguments, docs.arguments, "{} is there twice", docs.name);
        }
    }
}
