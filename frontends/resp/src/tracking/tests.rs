use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::client::Ends;
use crate::resp::{Protocol, Reply};

struct Fixture {
    clients: Arc<Clients>,
    tracking: Tracking,
}

fn fixture(keys_max: &str) -> Fixture {
    let settings = Arc::new(Settings::default());
    settings.set("tracking-table-max-keys", keys_max).unwrap();
    let clients = Arc::new(Clients::new(1, Arc::clone(&settings), 1 << 30));
    Fixture { tracking: Tracking::new(Arc::clone(&clients), settings), clients }
}

impl Fixture {
    fn tracker(&self) -> Arc<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let ends = Ends { peer: address, local: address, descriptor: 0 };
        let client = self.clients.connect(0, ends, 0).unwrap();
        let mut reply = Reply::new(Protocol::Resp2, 1 << 20);
        client.set_protocol(Protocol::Resp3, &mut reply);
        client.set_flag(flag::TRACKING, true);
        self.tracking.add(&client);
        client
    }
}

/// The keys a client was told of, in order.
fn told(client: &Client) -> Vec<String> {
    let mut reply = Reply::new(Protocol::Resp3, 1 << 30);
    client.take_pushes(&mut reply);
    let text = String::from_utf8(reply.unsent().to_vec()).unwrap();
    text.split("\r\n").filter(|line| line.starts_with("key")).map(str::to_owned).collect()
}

#[test]
fn the_table_keeps_its_bounds_and_whoever_is_forgotten_is_told() {
    let fixture = fixture("10");
    let client = fixture.tracker();
    for number in 0..100 {
        fixture.tracking.remember(format!("key{number}").as_bytes(), client.id);
        fixture.tracking.remember(format!("key{number}").as_bytes(), client.id);
        assert!(fixture.tracking.keys() <= 10);
    }
    assert_eq!((fixture.tracking.keys(), fixture.tracking.items()), (10, 10));
    let mut forgotten = told(&client);
    assert_eq!(forgotten.len(), 90);
    // Told of each once: of those that were forgotten, and of the others as they change.
    (0..100).for_each(|number| fixture.tracking.modified(format!("key{number}").as_bytes(), 0));
    forgotten.extend(told(&client));
    forgotten.sort_unstable();
    forgotten.dedup();
    assert_eq!(forgotten.len(), 100);
    assert_eq!((fixture.tracking.keys(), fixture.tracking.items()), (0, 0));
    assert_eq!(fixture.tracking.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn when_nobody_tracks_any_more_the_table_is_empty() {
    let fixture = fixture("0");
    let (one, other) = (fixture.tracker(), fixture.tracker());
    fixture.tracking.remember(b"key1", one.id);
    fixture.tracking.remove(&one);
    fixture.tracking.remove(&one);
    assert_eq!(fixture.tracking.keys(), 1);
    fixture.tracking.remove(&other);
    assert_eq!((fixture.tracking.keys(), fixture.tracking.items()), (0, 0));
    assert_eq!(fixture.tracking.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn changes_under_a_prefix_are_told_together_but_not_to_who_made_them() {
    let fixture = fixture("0");
    let (all, others) = (fixture.tracker(), fixture.tracker());
    for client in [&all, &others] {
        client.set_flag(flag::BROADCAST, true);
        fixture.tracking.broadcast(b"key", client);
    }
    others.set_flag(flag::NO_LOOP, true);
    for (key, by) in [("key2", others.id), ("key1", 77), ("key2", others.id), ("other", 77)] {
        fixture.tracking.modified(key.as_bytes(), by);
    }
    assert_eq!(told(&all), [""; 0], "told before the command was over");
    fixture.tracking.flush();
    assert_eq!(told(&all), ["key1", "key2"]);
    assert_eq!(told(&others), ["key1"]);
    // A key two clients changed is nobody's own.
    fixture.tracking.modified(b"key3", others.id);
    fixture.tracking.modified(b"key3", 77);
    fixture.tracking.flush();
    assert_eq!(told(&others), ["key3"]);
    fixture.tracking.remove(&others);
    fixture.tracking.remove(&all);
    assert_eq!((fixture.tracking.prefixes(), fixture.tracking.clients()), (0, 0));
}

/// However much changes at once, no change is lost.
#[test]
fn many_changes_at_once_are_all_told() {
    let fixture = fixture("0");
    let client = fixture.tracker();
    client.set_flag(flag::BROADCAST, true);
    fixture.tracking.broadcast(b"", &client);
    let long = "y".repeat(10_000);
    let keys: Vec<String> = (0..300).map(|number| format!("key{number:03}{long}")).collect();
    keys.iter().for_each(|key| fixture.tracking.modified(key.as_bytes(), 1));
    fixture.tracking.flush();
    let mut all = told(&client);
    all.sort_unstable();
    assert!(all == keys, "{} of {}", all.len(), keys.len());
}
