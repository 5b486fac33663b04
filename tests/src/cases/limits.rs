//! Limits are facts: up to them everything works, beyond them nothing changes.

use super::prelude::*;

group! { limits, __suite_limits:
    the_longest_key_works,
    a_longer_key_is_refused_everywhere,
    the_longest_value_works,
    a_longer_value_is_refused,
    the_largest_batch_works,
    a_batch_of_too_many_writes_is_refused,
    a_batch_of_too_many_bytes_is_refused,
}

/// What a case is willing to write.
const AFFORDABLE_BYTES: usize = 16 << 20;

fn the_longest_key_works(lab: &Lab) {
    let mut world = lab.open();
    let max = world.capabilities().max_key_bytes.min(AFFORDABLE_BYTES);
    let longest = vec![b'k'; max];
    let mut almost = longest.clone();
    almost[max - 1] = b'l';
    world.put(&longest, b"1");
    world.put(&almost, b"2");
    world.churn(KS);
    assert_eq!(world.get(&longest).as_deref(), Some(&b"1"[..]));
    assert_eq!(world.get(&almost).as_deref(), Some(&b"2"[..]));
    assert_eq!(world.contents(KS).len(), 2);
    world.update(&longest, |_, out| {
        out.push(b'3');
        Update::Put { expire_at: None }
    });
    if world.factory().durable() {
        world.reopen();
        assert_eq!(world.get(&longest).as_deref(), Some(&b"3"[..]));
        assert!(world.delete(&longest));
        assert_eq!(world.contents(KS).len(), 1);
    }
}

fn a_longer_key_is_refused_everywhere(lab: &Lab) {
    let world = lab.open();
    let max = world.capabilities().max_key_bytes;
    if max > AFFORDABLE_BYTES {
        return println!("keys may have {max} bytes: not tried");
    }
    world.put(b"k", b"v");
    let long = vec![b'k'; max + 1];
    let (engine, options) = (world.engine(), world.write_options());
    let refused = ErrorKind::InvalidArgument;
    expect_error(world.wait(engine.put(KS, &long, b"v", None, &options)), refused);
    expect_error(world.wait(engine.delete(KS, &long, &options)), refused);
    let mut change = |_: Option<Entry<'_>>, _: &mut Vec<u8>| Update::Put { expire_at: None };
    expect_error(world.wait(engine.update(KS, &long, &options, &mut change)), refused);
    let mut batch = WriteBatch::new();
    batch.delete(KS, b"k").delete(KS, &long);
    expect_error(world.wait(engine.write(&batch, &options)), refused);
    expect_error(try_read_entry(&world, engine, KS, &long), refused);
    expect_error(world.wait(engine.get_many(KS, &[b"k", &long])), refused);
    assert_eq!(world.contents(KS), Contents::from([(b"k".to_vec(), b"v".to_vec())]));
}

fn the_longest_value_works(lab: &Lab) {
    let mut world = lab.open();
    let max = world.capabilities().max_value_bytes.min(AFFORDABLE_BYTES / 4);
    let mut rng = lab.rng();
    let longest: Vec<u8> = (0..max).map(|_| rng.next_u64() as u8).collect();
    world.put(b"before", b"v");
    world.put(b"k", &longest);
    world.put(b"shorter", &longest[1..]);
    assert!(world.get(b"k").as_ref() == Some(&longest));
    world.churn(KS);
    assert!(world.get(b"k").as_ref() == Some(&longest));
    assert!(world.get(b"shorter").as_deref() == Some(&longest[1..]));
    if world.factory().durable() {
        world.reopen();
        assert!(world.get(b"k").as_ref() == Some(&longest));
        assert_eq!(world.contents(KS).len(), 3);
    }
}

fn a_longer_value_is_refused(lab: &Lab) {
    let world = lab.open();
    let max = world.capabilities().max_value_bytes;
    world.put(b"k", b"old");
    // Zeroed pages: even a limit of a GiB costs next to nothing here.
    let long = vec![0; max + 1];
    let options = world.write_options();
    let op = world.engine().put(KS, b"k", &long, None, &options);
    let error = expect_error(world.wait(op), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains(&max.to_string()), "the limit is named: {error}");
    assert_eq!(world.get(b"k").as_deref(), Some(&b"old"[..]));
}

fn the_largest_batch_works(lab: &Lab) {
    let mut world = lab.open();
    let facts = world.capabilities();
    let ops = facts.max_batch_ops.min(20_000).min(facts.max_batch_bytes / 16);
    let mut batch = WriteBatch::new();
    for n in 0..ops {
        batch.put(KS, &key(n), &[1], None);
    }
    world.write(&batch);
    assert_eq!(world.contents(KS).len(), ops);
    if world.factory().durable() {
        world.reopen();
        assert_eq!(world.contents(KS).len(), ops);
    }
}

fn a_batch_of_too_many_writes_is_refused(lab: &Lab) {
    let world = lab.open();
    let max = world.capabilities().max_batch_ops;
    if max > 1 << 21 {
        return println!("a batch may have {max} writes: not tried");
    }
    let mut batch = WriteBatch::new();
    for n in 0..=max {
        batch.put(KS, &(n as u32).to_be_bytes(), &[], None);
    }
    let op = world.engine().write(&batch, &world.write_options());
    expect_error(world.wait(op), ErrorKind::InvalidArgument);
    assert!(world.contents(KS).is_empty());
}

fn a_batch_of_too_many_bytes_is_refused(lab: &Lab) {
    let world = lab.open();
    let facts = world.capabilities().clone();
    if facts.max_batch_bytes > 4 * AFFORDABLE_BYTES {
        return println!("a batch may have {} bytes: not tried", facts.max_batch_bytes);
    }
    let value = vec![7; facts.max_value_bytes.min(1 << 20)];
    let mut batch = WriteBatch::new();
    while batch.bytes() <= facts.max_batch_bytes {
        batch.put(KS, &key(batch.len()), &value, None);
    }
    if batch.len() > facts.max_batch_ops {
        return println!("a batch reaches its number of writes first: not tried");
    }
    let op = world.engine().write(&batch, &world.write_options());
    expect_error(world.wait(op), ErrorKind::InvalidArgument);
    assert!(world.contents(KS).is_empty());
}
