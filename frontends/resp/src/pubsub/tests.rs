use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::client::Ends;
use crate::resp::{Protocol, Reply};
use crate::settings::Settings;

fn client(id: u64) -> Arc<Client> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let ends = Ends { peer: address, local: address, descriptor: 0 };
    Arc::new(Client::new(id, ends, 0, Arc::new(Settings::default()), 1 << 30))
}

fn taken(client: &Client) -> String {
    let mut reply = Reply::new(Protocol::Resp2, 1 << 30);
    client.take_pushes(&mut reply);
    String::from_utf8(reply.unsent().to_vec()).unwrap()
}

#[test]
fn a_message_reaches_subscribers_of_the_channel_and_of_matching_patterns() {
    let table = Arc::new(PubSub::new(1 << 20));
    let (one, two) = (client(1), client(2));
    let mut first = Subscriptions::new(Arc::clone(&table), Arc::clone(&one));
    let mut second = Subscriptions::new(Arc::clone(&table), Arc::clone(&two));
    assert!(first.subscribe(Kind::Channel, b"news") && first.subscribe(Kind::Pattern, b"n*"));
    assert!(
        second.subscribe(Kind::Pattern, b"n*") && second.subscribe(Kind::ShardChannel, b"news")
    );
    assert_eq!(table.publish(b"news", b"hi"), 3);
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    let by_pattern = "*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    assert_eq!(taken(&one), format!("{message}{by_pattern}"));
    assert_eq!(taken(&two), by_pattern);
    assert_eq!(table.publish_to_shard(b"news", b"x"), 1);
    assert_eq!((first.count_with(Kind::Channel), second.count_with(Kind::Channel)), (2, 1));
    assert_eq!((table.count(Kind::Channel), table.count(Kind::Pattern)), (1, 1));
    drop(first);
    assert_eq!((table.count(Kind::Channel), table.count(Kind::Pattern)), (0, 1));
    second.unsubscribe(Kind::Pattern, b"n*");
    second.unsubscribe(Kind::Pattern, b"n*");
    assert_eq!((table.count(Kind::Pattern), table.publish(b"news", b"hi")), (0, 0));
    assert!(!second.is_empty());
    drop(second);
    assert_eq!(table.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn subscriptions_beyond_the_limit_are_refused() {
    let table = Arc::new(PubSub::new(3 * (SUBSCRIPTION_BYTES + 1)));
    let mut all = Subscriptions::new(Arc::clone(&table), client(1));
    let names = [b"a", b"b", b"c", b"d"];
    let held = names.map(|name| all.subscribe(Kind::Channel, name));
    assert_eq!(held, [true, true, true, false]);
    assert!(all.subscribe(Kind::Channel, b"a"), "it is subscribed to that one");
    all.unsubscribe(Kind::Channel, b"b");
    assert!(all.subscribe(Kind::Pattern, b"d"));
    assert_eq!(table.count(Kind::Channel), 2);
}

/// Channels come and go under messages: whoever stays subscribed gets every one, in order, and at
/// the end the tables are empty.
#[test]
fn messages_are_not_lost_while_others_come_and_go() {
    const MESSAGES: usize = 3000;
    let table = Arc::new(PubSub::new(1 << 20));
    for kind in [Kind::Channel, Kind::Pattern] {
        std::thread::scope(|scope| {
            for id in 0..3 {
                let table = Arc::clone(&table);
                scope.spawn(move || {
                    let mut coming = Subscriptions::new(table, client(id));
                    for _ in 0..MESSAGES {
                        assert!(coming.subscribe(kind, b"c"));
                        coming.unsubscribe(kind, b"c");
                    }
                });
            }
            for round in 0..20 {
                let stays = client(100 + round);
                let mut held = Subscriptions::new(Arc::clone(&table), Arc::clone(&stays));
                assert!(held.subscribe(kind, b"c"));
                for number in 0..MESSAGES / 20 {
                    assert!(table.publish(b"c", number.to_string().as_bytes()) >= 1);
                }
                let text = taken(&stays);
                let got: Vec<usize> =
                    text.split("\r\n").filter_map(|line| line.parse().ok()).collect();
                assert_eq!(got, (0..MESSAGES / 20).collect::<Vec<_>>());
            }
        });
        assert_eq!((table.count(kind), table.publish(b"c", b"x")), (0, 0));
    }
    assert_eq!(table.bytes.load(Ordering::Relaxed), 0);
}
