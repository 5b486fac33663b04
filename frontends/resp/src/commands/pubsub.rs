//! Publish and subscribe.

use std::sync::Arc;

use super::table::{CommandInfo, Keys, category, flag};
use super::{Context, Handler, Outcome, Refusal, help};
use crate::pubsub::{Kind, Subscriptions};
use crate::session::special;

const PUBSUB: CommandInfo = CommandInfo {
    arity: -2,
    flags: flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    categories: category::PUBSUB,
    group: "pubsub",
    since: "2.0.0",
    ..CommandInfo::DEFAULT
};

const QUERY: u32 = flag::PUBSUB | flag::LOADING | flag::STALE;
const PUBLISH: u32 = QUERY | flag::FAST | flag::MAY_REPLICATE;

pub(super) const ROWS: &[CommandInfo] = &[
    CommandInfo {
        name: "psubscribe",
        complexity: "O(N) where N is the number of patterns to subscribe to.",
        summary: "Listens for messages published to channels that match one or more patterns.",
        handler: Handler::PSubscribe,
        ..PUBSUB
    },
    CommandInfo {
        name: "publish",
        arity: 3,
        flags: PUBLISH,
        complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel \
                     and M is the total number of subscribed patterns (by any client).",
        summary: "Posts a message to a channel.",
        handler: Handler::Publish,
        ..PUBSUB
    },
    CommandInfo {
        name: "pubsub",
        flags: 0,
        categories: 0,
        since: "2.8.0",
        complexity: "Depends on subcommand.",
        summary: "A container for Pub/Sub commands.",
        subcommands: SUBCOMMANDS,
        handler: Handler::Container,
        ..PUBSUB
    },
    CommandInfo {
        name: "punsubscribe",
        arity: -1,
        complexity: "O(N) where N is the number of patterns to unsubscribe.",
        summary: "Stops listening to messages published to channels that match one or more \
                  patterns.",
        handler: Handler::PUnsubscribe,
        ..PUBSUB
    },
    CommandInfo {
        name: "spublish",
        arity: 3,
        flags: PUBLISH,
        keys: Keys::one(&["not_key"]),
        since: "7.0.0",
        complexity: "O(N) where N is the number of clients subscribed to the receiving shard \
                     channel.",
        summary: "Post a message to a shard channel",
        handler: Handler::SPublish,
        ..PUBSUB
    },
    CommandInfo {
        name: "ssubscribe",
        keys: Keys::all(1, &["not_key"]),
        since: "7.0.0",
        complexity: "O(N) where N is the number of shard channels to subscribe to.",
        summary: "Listens for messages published to shard channels.",
        handler: Handler::SSubscribe,
        ..PUBSUB
    },
    CommandInfo {
        name: "subscribe",
        complexity: "O(N) where N is the number of channels to subscribe to.",
        summary: "Listens for messages published to channels.",
        handler: Handler::Subscribe,
        ..PUBSUB
    },
    CommandInfo {
        name: "sunsubscribe",
        arity: -1,
        keys: Keys::all(1, &["not_key"]),
        since: "7.0.0",
        complexity: "O(N) where N is the number of shard channels to unsubscribe.",
        summary: "Stops listening to messages posted to shard channels.",
        handler: Handler::SUnsubscribe,
        ..PUBSUB
    },
    CommandInfo {
        name: "unsubscribe",
        arity: -1,
        complexity: "O(N) where N is the number of channels to unsubscribe.",
        summary: "Stops listening to messages posted to channels.",
        handler: Handler::Unsubscribe,
        ..PUBSUB
    },
];

const SUBCOMMANDS: &[CommandInfo] = &[
    CommandInfo {
        name: "pubsub|channels",
        flags: QUERY,
        since: "2.8.0",
        complexity: "O(N) where N is the number of active channels, and assuming constant time \
                     pattern matching (relatively short channels and patterns)",
        summary: "Returns the active channels.",
        handler: Handler::PubSubChannels,
        ..PUBSUB
    },
    CommandInfo {
        name: "pubsub|help",
        arity: 2,
        flags: flag::LOADING | flag::STALE,
        categories: 0,
        since: "6.2.0",
        summary: "Returns helpful text about the different subcommands.",
        handler: Handler::PubSubHelp,
        ..PUBSUB
    },
    CommandInfo {
        name: "pubsub|numpat",
        arity: 2,
        flags: QUERY,
        since: "2.8.0",
        summary: "Returns a count of unique pattern subscriptions.",
        handler: Handler::PubSubNumPat,
        ..PUBSUB
    },
    CommandInfo {
        name: "pubsub|numsub",
        flags: QUERY,
        since: "2.8.0",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        summary: "Returns a count of subscribers to channels.",
        handler: Handler::PubSubNumSub,
        ..PUBSUB
    },
    CommandInfo {
        name: "pubsub|shardchannels",
        flags: QUERY,
        since: "7.0.0",
        complexity: "O(N) where N is the number of active shard channels, and assuming constant \
                     time pattern matching (relatively short shard channels).",
        summary: "Returns the active shard channels.",
        handler: Handler::PubSubShardChannels,
        ..PUBSUB
    },
    CommandInfo {
        name: "pubsub|shardnumsub",
        flags: QUERY,
        since: "7.0.0",
        complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested \
                     shard channels",
        summary: "Returns the count of subscribers of shard channels.",
        handler: Handler::PubSubShardNumSub,
        ..PUBSUB
    },
];

pub(super) fn publish(cx: &mut Context<'_>) -> Outcome {
    let receivers = cx.shared.pubsub.publish(cx.args.at(1), cx.args.at(2));
    cx.reply.count(receivers);
    Ok(())
}

pub(super) fn spublish(cx: &mut Context<'_>) -> Outcome {
    let receivers = cx.shared.pubsub.publish_to_shard(cx.args.at(1), cx.args.at(2));
    cx.reply.count(receivers);
    Ok(())
}

pub(super) fn subscribe(cx: &mut Context<'_>) -> Outcome {
    subscribe_to(cx, Kind::Channel, b"subscribe");
    Ok(())
}

pub(super) fn psubscribe(cx: &mut Context<'_>) -> Outcome {
    subscribe_to(cx, Kind::Pattern, b"psubscribe");
    Ok(())
}

pub(super) fn ssubscribe(cx: &mut Context<'_>) -> Outcome {
    if cx.session.special & special::EXECUTING != 0 {
        return Err(Refusal::text("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe_to(cx, Kind::ShardChannel, b"ssubscribe");
    Ok(())
}

pub(super) fn unsubscribe(cx: &mut Context<'_>) -> Outcome {
    unsubscribe_from(cx, Kind::Channel, b"unsubscribe");
    Ok(())
}

pub(super) fn punsubscribe(cx: &mut Context<'_>) -> Outcome {
    unsubscribe_from(cx, Kind::Pattern, b"punsubscribe");
    Ok(())
}

pub(super) fn sunsubscribe(cx: &mut Context<'_>) -> Outcome {
    unsubscribe_from(cx, Kind::ShardChannel, b"sunsubscribe");
    Ok(())
}

/// Subscribes to each name and confirms each. At the limit of the server an error ends it; what was
/// confirmed holds.
fn subscribe_to(cx: &mut Context<'_>, kind: Kind, word: &[u8]) {
    cx.session.has_pushed = true;
    cx.session.set_special(special::SUBSCRIBED, true);
    let session = &mut *cx.session;
    let subscriptions = session.subscriptions.get_or_insert_with(|| {
        let table = Arc::clone(&cx.shared.pubsub);
        Box::new(Subscriptions::new(table, Arc::clone(&session.client)))
    });
    for name in cx.args.from(1) {
        if !subscriptions.subscribe(kind, name) {
            cx.shared.stats[session.worker].errors.add(1);
            cx.reply.error("ERR max number of subscriptions reached");
            break;
        }
        cx.reply.push(3);
        cx.reply.bulk(word);
        cx.reply.bulk(name);
        cx.reply.count(subscriptions.count_with(kind));
    }
    forget_if_empty(cx);
}

/// Unsubscribes from each name, or from all of the kind, and confirms each.
fn unsubscribe_from(cx: &mut Context<'_>, kind: Kind, word: &[u8]) {
    cx.session.has_pushed = true;
    let names: Vec<Vec<u8>> = if cx.args.len() > 1 {
        cx.args.from(1).map(<[u8]>::to_vec).collect()
    } else {
        cx.session.subscriptions.as_ref().map(|it| it.names(kind)).unwrap_or_default()
    };
    if names.is_empty() {
        confirm_end(cx, kind, word, None);
    }
    for name in names {
        if let Some(subscriptions) = &mut cx.session.subscriptions {
            subscriptions.unsubscribe(kind, &name);
            if cx.session.special & special::EXECUTING == 0 {
                // Its messages so far come before the confirmation, and none after.
                cx.session.client.take_pushes(cx.reply);
            }
        }
        confirm_end(cx, kind, word, Some(&name));
    }
    forget_if_empty(cx);
}

fn confirm_end(cx: &mut Context<'_>, kind: Kind, word: &[u8], name: Option<&[u8]>) {
    let left = cx.session.subscriptions.as_ref().map_or(0, |it| it.count_with(kind));
    cx.reply.push(3);
    cx.reply.bulk(word);
    match name {
        Some(name) => cx.reply.bulk(name),
        None => cx.reply.null(),
    }
    cx.reply.count(left);
}

/// Without subscriptions the session is as any other.
fn forget_if_empty(cx: &mut Context<'_>) {
    if cx.session.subscriptions.as_ref().is_none_or(|it| it.is_empty()) {
        cx.session.give_up_subscriptions();
    }
}

pub(super) fn channels(cx: &mut Context<'_>) -> Outcome {
    names(cx, Kind::Channel)
}

pub(super) fn shard_channels(cx: &mut Context<'_>) -> Outcome {
    names(cx, Kind::ShardChannel)
}

fn names(cx: &mut Context<'_>, kind: Kind) -> Outcome {
    if cx.args.len() > 3 {
        return Err(help::wrong_subcommand(cx, "PUBSUB"));
    }
    let names = cx.shared.pubsub.names(kind, cx.args.get(2));
    cx.reply.array(names.len());
    names.iter().for_each(|name| cx.reply.bulk(name));
    Ok(())
}

pub(super) fn num_sub(cx: &mut Context<'_>) -> Outcome {
    subscriber_counts(cx, Kind::Channel);
    Ok(())
}

pub(super) fn shard_num_sub(cx: &mut Context<'_>) -> Outcome {
    subscriber_counts(cx, Kind::ShardChannel);
    Ok(())
}

fn subscriber_counts(cx: &mut Context<'_>, kind: Kind) {
    cx.reply.array(2 * (cx.args.len() - 2));
    for name in cx.args.from(2) {
        cx.reply.bulk(name);
        cx.reply.count(cx.shared.pubsub.subscribers(kind, name));
    }
}

pub(super) fn num_pat(cx: &mut Context<'_>) -> Outcome {
    cx.reply.count(cx.shared.pubsub.count(Kind::Pattern));
    Ok(())
}

const HELP: &[&str] = &[
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "PUBSUB", HELP);
    Ok(())
}
