//! Reads and writes of single keys, and batched reads.

use super::prelude::*;

group! { point, __suite_point:
    put_then_get,
    a_later_put_wins,
    an_absent_key_is_not_found,
    delete_makes_absent,
    deleting_an_absent_key_is_no_error,
    a_deleted_key_can_come_back,
    existence_is_told_when_asked,
    existence_is_not_told_unasked,
    the_empty_key_is_a_key,
    the_empty_value_is_a_value,
    any_bytes_are_a_key,
    keys_that_are_prefixes_of_each_other_differ,
    values_of_every_length,
    a_value_grows_and_shrinks,
    a_large_value,
    many_keys,
    many_keys_after_maintenance,
    many_overwrites_of_few_keys,
    get_many_answers_each_key,
    get_many_of_nothing,
    get_many_of_one_key_many_times,
    get_many_agrees_with_get,
    the_expiry_is_lent_with_the_value,
    sequences_rise: SequenceNumbers,
    no_sequences_without_the_capability: NotSequenceNumbers,
    an_applied_write_is_visible_and_its_ticket_commits,
    an_applied_read_hands_out_a_ticket_that_commits,
}

fn put_then_get(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    assert_eq!(world.get(b"k").as_deref(), Some(&b"v"[..]));
}

fn a_later_put_wins(lab: &Lab) {
    let world = lab.open();
    for n in 0..20 {
        world.put(b"k", &value(n, 8));
        assert_eq!(world.get(b"k"), Some(value(n, 8)));
    }
}

fn an_absent_key_is_not_found(lab: &Lab) {
    let world = lab.open();
    assert_eq!(world.get(b"absent"), None);
    world.put(b"absent-not", b"v");
    assert_eq!(world.get(b"absent"), None);
}

fn delete_makes_absent(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    world.put(b"other", b"v");
    assert!(world.delete(b"k"));
    assert_eq!(world.get(b"k"), None);
    assert_eq!(world.get(b"other").as_deref(), Some(&b"v"[..]));
}

fn deleting_an_absent_key_is_no_error(lab: &Lab) {
    let world = lab.open();
    assert!(!world.delete(b"k"));
    assert!(!world.delete(b"k"));
    assert_eq!(world.get(b"k"), None);
}

fn a_deleted_key_can_come_back(lab: &Lab) {
    let world = lab.open();
    for n in 0..5 {
        world.put(b"k", &value(n, 10));
        assert_eq!(world.get(b"k"), Some(value(n, 10)));
        assert!(world.delete(b"k"));
        assert!(!world.delete(b"k"));
        assert_eq!(world.get(b"k"), None);
    }
}

fn existence_is_told_when_asked(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options().reporting_existed();
    for (round, expected) in [(0, false), (1, true), (2, true)] {
        let new = value(round, 5);
        let op = world.engine().put(KS, b"k", &new, None, &options);
        assert_eq!(world.wait(op).unwrap().existed, Some(expected), "put {round}");
    }
    for expected in [true, false] {
        let op = world.engine().delete(KS, b"k", &options);
        assert_eq!(world.wait(op).unwrap().existed, Some(expected));
    }
    world.put(b"k", b"v");
    world.churn(KS);
    assert!(world.delete(b"k"), "told for a record that has long been flushed");
    assert!(!world.delete(b"k"));
}

fn existence_is_not_told_unasked(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    let options = world.write_options();
    let op = world.engine().put(KS, b"k", b"w", None, &options);
    assert_eq!(world.wait(op).unwrap().existed, None);
    assert_eq!(world.wait(world.engine().delete(KS, b"k", &options)).unwrap().existed, None);
}

fn the_empty_key_is_a_key(lab: &Lab) {
    let world = lab.open();
    assert_eq!(world.get(b""), None);
    world.put(b"", b"empty");
    world.put(b"\0", b"zero");
    assert_eq!(world.get(b"").as_deref(), Some(&b"empty"[..]));
    assert_eq!(world.contents(KS).len(), 2);
    assert!(world.delete(b""));
    assert_eq!(world.get(b""), None);
    assert_eq!(world.get(b"\0").as_deref(), Some(&b"zero"[..]));
}

fn the_empty_value_is_a_value(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"");
    assert_eq!(world.get(b"k").as_deref(), Some(&b""[..]));
    world.put(b"k", b"v");
    world.put(b"k", b"");
    assert_eq!(world.get(b"k").as_deref(), Some(&b""[..]));
    assert!(world.delete(b"k"));
    assert_eq!(world.get(b"k"), None);
}

fn any_bytes_are_a_key(lab: &Lab) {
    let world = lab.open();
    let mut rng = lab.rng();
    let mut expected = Contents::new();
    for byte in 0..=255u8 {
        expected.insert(vec![byte], vec![byte; 3]);
    }
    for len in [1, 2, 8, 9, 15, 16, 17, 64] {
        expected.insert(vec![0xff; len], vec![1; len]);
        expected.insert(vec![0x00; len], vec![2; len]);
    }
    for n in 0..100 {
        expected.insert(rng.bytes(40), value(n, 5));
    }
    for (key, value) in &expected {
        world.put(key, value);
    }
    for (key, value) in &expected {
        assert_eq!(world.get(key).as_ref(), Some(value), "{key:?}");
    }
    assert_eq!(world.contents(KS), expected);
}

fn keys_that_are_prefixes_of_each_other_differ(lab: &Lab) {
    let world = lab.open();
    let longest = vec![b'a'; 40.min(world.capabilities().max_key_bytes)];
    for len in 0..=longest.len() {
        world.put(&longest[..len], &value(len, 4));
    }
    for len in (0..=longest.len()).step_by(2) {
        assert!(world.delete(&longest[..len]));
    }
    for len in 0..=longest.len() {
        let expected = (len % 2 == 1).then(|| value(len, 4));
        assert_eq!(world.get(&longest[..len]), expected, "length {len}");
    }
}

fn values_of_every_length(lab: &Lab) {
    let world = lab.open();
    let max = 530.min(world.capabilities().max_value_bytes);
    for len in 0..=max {
        world.put(&key(len), &vec![len as u8; len]);
    }
    for len in 0..=max {
        assert_eq!(world.get(&key(len)), Some(vec![len as u8; len]), "length {len}");
    }
}

fn a_value_grows_and_shrinks(lab: &Lab) {
    let world = lab.open();
    let mut rng = lab.rng();
    let max = 2000.min(world.capabilities().max_value_bytes);
    world.put(b"before", b"b");
    for n in 0..200 {
        let mut new = value(n, rng.below(max));
        new.truncate(max);
        world.put(b"k", &new);
        assert_eq!(world.get(b"k"), Some(new), "round {n}");
    }
    assert_eq!(world.get(b"before").as_deref(), Some(&b"b"[..]), "a neighbour is untouched");
}

fn a_large_value(lab: &Lab) {
    let mut world = lab.open();
    let len = (1 << 20).min(world.capabilities().max_value_bytes);
    let mut rng = lab.rng();
    let large: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
    world.put(b"k", &large);
    assert!(world.get(b"k").as_ref() == Some(&large), "a large value reads back");
    if world.factory().durable() {
        world.reopen();
        assert!(world.get(b"k").as_ref() == Some(&large), "also after reopening");
    }
}

fn write_many(world: &World, keys: usize) -> Contents {
    let mut expected = Contents::new();
    for n in 0..keys {
        // An order that is neither that of the keys nor its reverse.
        let n = (n * 7919) % keys;
        world.put(&key(n), &value(n, 20));
        expected.insert(key(n), value(n, 20));
    }
    for n in (0..keys).step_by(3) {
        world.put(&key(n), &value(n + 1, 30));
        expected.insert(key(n), value(n + 1, 30));
    }
    for n in (0..keys).step_by(5) {
        assert!(world.delete(&key(n)));
        expected.remove(&key(n));
    }
    expected
}

fn many_keys(lab: &Lab) {
    let world = lab.open();
    let expected = write_many(&world, 1500);
    for n in 0..1500 {
        assert_eq!(world.get(&key(n)).as_ref(), expected.get(&key(n)), "key {n}");
    }
    assert_eq!(world.contents(KS), expected);
}

fn many_keys_after_maintenance(lab: &Lab) {
    let mut world = lab.open();
    let expected = write_many(&world, 700);
    world.churn(KS);
    world.reopen_if_durable();
    world.churn(KS);
    for n in 0..700 {
        assert_eq!(world.get(&key(n)).as_ref(), expected.get(&key(n)), "key {n}");
    }
    assert_eq!(world.contents(KS), expected);
}

fn many_overwrites_of_few_keys(lab: &Lab) {
    let world = lab.open();
    for n in 0..2000 {
        world.put(&key(n % 3), &value(n, 40));
    }
    world.churn(KS);
    for (n, last) in [(0, 1998), (1, 1999), (2, 1997)] {
        assert_eq!(world.get(&key(n)), Some(value(last, 40)));
    }
    assert_eq!(world.contents(KS).len(), 3);
}

fn get_many_answers_each_key(lab: &Lab) {
    let world = lab.open();
    world.put(b"a", b"1");
    world.put(b"c", b"3");
    let found = world.get_many(&[b"c", b"b", b"a"]);
    assert_eq!(found, [Some(b"3".to_vec()), None, Some(b"1".to_vec())]);
}

fn get_many_of_nothing(lab: &Lab) {
    let world = lab.open();
    world.put(b"a", b"1");
    assert!(world.get_many(&[]).is_empty());
}

fn get_many_of_one_key_many_times(lab: &Lab) {
    let world = lab.open();
    world.put(b"a", b"1");
    let found = read_many(&world, world.engine(), KS, &[b"a", b"a", b"x", b"a"]);
    assert_eq!(found, [Some(b"1".to_vec()), Some(b"1".to_vec()), None, Some(b"1".to_vec())]);
}

fn get_many_agrees_with_get(lab: &Lab) {
    let world = lab.open();
    let mut expected = write_many(&world, 600);
    world.churn(KS);
    for n in (0..300).step_by(4) {
        world.put(&key(n), b"newer");
        expected.insert(key(n), b"newer".to_vec());
    }
    let keys: Vec<Vec<u8>> = (0..700).map(|n| key((n * 31) % 700)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let found = read_many(&world, world.engine(), KS, &keys);
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found, world.get(key), "{key:?}");
        assert_eq!(found.as_ref(), expected.get(*key), "{key:?}");
    }
}

fn the_expiry_is_lent_with_the_value(lab: &Lab) {
    let world = lab.open();
    let later = world.now().plus(60_000);
    world.put_until(b"k", b"v", later);
    world.put(b"forever", b"v");
    for _ in 0..2 {
        assert_eq!(world.entry(KS, b"k").unwrap().expire_at, Some(later));
        assert_eq!(world.entry(KS, b"forever").unwrap().expire_at, None);
        world.churn(KS);
    }
    world.put(b"k", b"v");
    assert_eq!(world.entry(KS, b"k").unwrap().expire_at, None, "a put replaces the expiry too");
}

fn sequences_rise(lab: &Lab) {
    let mut world = lab.open();
    let first = world.put(b"a", b"1").sequence.expect("writes are numbered");
    let second = world.put(b"b", b"1").sequence.expect("writes are numbered");
    let third = world.put(b"a", b"2").sequence.expect("writes are numbered");
    assert!(first < second && second < third);
    assert_eq!(world.entry(KS, b"a").unwrap().sequence, Some(third));
    assert_eq!(world.entry(KS, b"b").unwrap().sequence, Some(second));
    let updated = world.update(b"a", |_, out| {
        out.push(b'3');
        Update::Put { expire_at: None }
    });
    assert!(updated.sequence.expect("updates are numbered") > third);
    let kept = world.update(b"a", |_, _| Update::Keep);
    assert_eq!(kept.sequence, None, "nothing was written");
    if world.factory().durable() {
        world.reopen();
        assert_eq!(world.entry(KS, b"b").unwrap().sequence, Some(second));
        assert!(world.put(b"c", b"1").sequence > updated.sequence, "numbers go on");
    }
}

fn no_sequences_without_the_capability(lab: &Lab) {
    let world = lab.open();
    assert_eq!(world.put(b"a", b"1").sequence, None);
    assert_eq!(world.entry(KS, b"a").unwrap().sequence, None);
}

fn an_applied_write_is_visible_and_its_ticket_commits(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options().applied();
    let mut tickets = CommitTicket::NONE;
    for n in 0..50 {
        let new = value(n, 9);
        let written = world.wait(world.engine().put(KS, b"k", &new, None, &options));
        tickets = tickets.join(written.unwrap().ticket);
        let mut found = None;
        let mut visit = |entry: Entry<'_>| found = Some(entry.value.to_vec());
        let op = world.engine().get_with(KS, b"k", &ReadOptions::APPLIED, &mut visit);
        world.wait(op).unwrap();
        assert_eq!(found, Some(new));
    }
    world.wait(world.engine().committed(tickets)).unwrap();
    world.wait(world.engine().committed(tickets)).unwrap();
    world.wait(world.engine().committed(CommitTicket::NONE)).unwrap();
}

fn an_applied_read_hands_out_a_ticket_that_commits(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options();
    let written = world.wait(world.engine().put(KS, b"k", b"v", None, &options)).unwrap();
    assert_eq!(written.ticket, CommitTicket::NONE, "nothing is left to wait for");
    let mut visit = |_: Entry<'_>| {};
    let op = world.engine().get_with(KS, b"k", &ReadOptions::default(), &mut visit);
    assert_eq!(world.wait(op).unwrap().ticket, CommitTicket::NONE);
    let op = world.engine().get_with(KS, b"k", &ReadOptions::APPLIED, &mut visit);
    let seen = world.wait(op).unwrap();
    world.wait(world.engine().committed(seen.ticket)).unwrap();
}
