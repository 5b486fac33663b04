//! ACL, as it is with one user: the default one, who may do everything.

use super::table::{self, CommandInfo, category, flag};
use super::{Context, Handler, Outcome, Refusal, help};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "acl",
    arity: -2,
    since: "6.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for Access List Control commands.",
    subcommands: &[
        CommandInfo {
            name: "acl|cat",
            arity: -2,
            flags: flag::NOSCRIPT | flag::LOADING | flag::STALE,
            since: "6.0.0",
            complexity: "O(1) since the categories and commands are a fixed set.",
            summary: "Lists the ACL categories, or the commands inside a category.",
            handler: Handler::AclCat,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "acl|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "6.0.0",
            summary: "Returns helpful text about the different subcommands.",
            handler: Handler::AclHelp,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "acl|list",
            arity: 2,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            since: "6.0.0",
            complexity: "O(N). Where N is the number of configured users.",
            summary: "Dumps the effective rules in ACL file format.",
            handler: Handler::AclList,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "acl|users",
            arity: 2,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            since: "6.0.0",
            complexity: "O(N). Where N is the number of configured users.",
            summary: "Lists all ACL users.",
            handler: Handler::AclUsers,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "acl|whoami",
            arity: 2,
            flags: flag::NOSCRIPT | flag::LOADING | flag::STALE,
            since: "6.0.0",
            summary: "Returns the authenticated username of the current connection.",
            handler: Handler::AclWhoAmI,
            ..CommandInfo::DEFAULT
        },
    ],
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

/// ACL CAT [category]: the categories, or the commands of one.
pub(super) fn cat(cx: &mut Context<'_>) -> Outcome {
    let Some(asked) = cx.args.get(2) else {
        cx.reply.array(category::NAMES.len());
        category::NAMES.iter().for_each(|(_, name)| cx.reply.bulk(&name.as_bytes()[1..]));
        return Ok(());
    };
    let named = |name: &str| asked.eq_ignore_ascii_case(&name.as_bytes()[1..]);
    let Some((bit, _)) = category::NAMES.iter().find(|(_, name)| named(name)) else {
        let text = format!("ERR Unknown category '{}'", super::shown(asked));
        return Err(Refusal::Text(text.into()));
    };
    let rows = table::all().flat_map(|row| {
        // A container's own categories are its subcommands'.
        let itself = row.subcommands.is_empty().then_some(row);
        itself.into_iter().chain(row.subcommands)
    });
    let names: Vec<&str> =
        rows.filter(|row| row.all_categories() & bit != 0).map(|row| row.name).collect();
    cx.reply.array(names.len());
    names.iter().for_each(|name| cx.reply.bulk(name.as_bytes()));
    Ok(())
}

/// The one user, in the format of an ACL file. A password is not kept as the digest that would stand
/// there.
pub(super) fn list(cx: &mut Context<'_>) -> Outcome {
    if !cx.shared.settings.requirepass.get().is_empty() {
        return Err(Refusal::text("ERR the rules of a user with a password cannot be shown"));
    }
    cx.reply.array(1);
    cx.reply.bulk(b"user default on nopass sanitize-payload ~* &* +@all");
    Ok(())
}

pub(super) fn users(cx: &mut Context<'_>) -> Outcome {
    cx.reply.array(1);
    cx.reply.bulk(b"default");
    Ok(())
}

pub(super) fn who_am_i(cx: &mut Context<'_>) -> Outcome {
    cx.reply.bulk(b"default");
    Ok(())
}

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "LIST",
    "    Show users details in config file format.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "ACL", HELP);
    Ok(())
}
