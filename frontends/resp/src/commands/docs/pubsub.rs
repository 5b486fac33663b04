//! Documentation of pub/sub.

use super::{Docs, takes};

pub(super) const DOCS: &[Docs] = &[
    takes("psubscribe", "pattern:pattern..."),
    takes("publish", "channel:string message:string"),
    takes("pubsub|channels", "[pattern:pattern]"),
    takes("pubsub|numsub", "[channel:string...]"),
    takes("pubsub|shardchannels", "[pattern:pattern]"),
    takes("pubsub|shardnumsub", "[shardchannel:string...]"),
    takes("punsubscribe", "[pattern:pattern...]"),
    takes("spublish", "shardchannel:string message:string"),
    takes("ssubscribe", "shardchannel:string..."),
    takes("subscribe", "channel:string..."),
    takes("sunsubscribe", "[shardchannel:string...]"),
    takes("unsubscribe", "[channel:string...]"),
];
