//! What every [`ObjectTier`] must do, whatever lies under it. [`run`] panics when it misbehaves.

use ferrokit_engine::{ErrorKind, Result};

use super::fs_suite::{Waiter, pattern};
use crate::object::{ObjectEntry, ObjectTier};

/// Runs every case in a tier that is empty.
pub fn run(tier: &dyn ObjectTier, waiter: &impl Waiter) {
    what_was_put_is_read(tier, waiter);
    names(tier, waiter);
    absent_objects(tier, waiter);
    given_up(tier, waiter);
}

fn put(tier: &dyn ObjectTier, waiter: &impl Waiter, name: &str, parts: &[&[u8]]) -> Result<()> {
    let mut upload = tier.upload(name)?;
    for part in parts {
        waiter.wait(upload.append(part.to_vec()))?;
    }
    waiter.wait(upload.finish())
}

/// Any range of an object of many parts, more than one request takes.
fn what_was_put_is_read(tier: &dyn ObjectTier, waiter: &impl Waiter) {
    let data = pattern(1, (9 << 20) + 7);
    let parts: Vec<&[u8]> = data.chunks(3 << 20).collect();
    put(tier, waiter, "large", &parts).expect("an object");
    let object = tier.open("large", data.len() as u64).expect("the object");
    assert!(object.path().contains("large"), "{}", object.path());
    for (offset, len) in [(0, 10), ((3 << 20) - 5, 10), (0, data.len()), (data.len() - 1, 1)] {
        let bytes = waiter.wait(object.read_at(offset as u64, len)).expect("a range");
        assert_eq!(bytes, data[offset..offset + len], "{len} bytes from {offset}");
    }
    for (offset, len) in [(data.len() - 1, 2), (data.len() + 1, 1), (1 << 40, 10)] {
        let error = waiter.wait(object.read_at(offset as u64, len)).expect_err("beyond the end");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
    assert_eq!(waiter.wait(object.read_at(5, 0)).expect("nothing"), b"");
    waiter.wait(tier.delete("large")).expect("deleted");
}

fn names(tier: &dyn ObjectTier, waiter: &impl Waiter) {
    for (name, bytes) in [("b-2", 2), ("a-1", 1), ("b-1", 3)] {
        put(tier, waiter, name, &[&vec![7; bytes]]).expect("an object");
    }
    let entry = |name: &str, bytes| ObjectEntry { name: name.to_owned(), bytes };
    let listed = |prefix| waiter.wait(tier.list(prefix)).expect("a list");
    assert_eq!(listed(""), [entry("a-1", 1), entry("b-1", 3), entry("b-2", 2)]);
    assert_eq!(listed("b-"), [entry("b-1", 3), entry("b-2", 2)]);
    assert_eq!(listed("b"), listed("b-"));
    assert_eq!(listed("c"), []);
    waiter.wait(tier.delete("b-1")).expect("deleted");
    assert_eq!(listed("b-"), [entry("b-2", 2)]);
    for name in ["", "../a", "a/b", ".a", "a.tmp", "a b"] {
        let error = tier.upload(name).err().expect("a refusal");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}: {error}");
    }
}

fn absent_objects(tier: &dyn ObjectTier, waiter: &impl Waiter) {
    waiter.wait(tier.delete("absent")).expect("nothing to do");
    let read =
        tier.open("absent", 10).and_then(|object| waiter.wait(object.read_at(0, 10)).map(drop));
    assert_eq!(read.expect_err("absent").kind(), ErrorKind::NotFound);
}

/// An upload that is not finished leaves no object.
fn given_up(tier: &dyn ObjectTier, waiter: &impl Waiter) {
    let mut upload = tier.upload("c-1").expect("an upload");
    waiter.wait(upload.append(vec![1; 100])).expect("a part");
    drop(upload);
    waiter.wait(tier.remove_unfinished("c-")).expect("removed");
    assert_eq!(waiter.wait(tier.list("c-")).expect("a list"), []);
}
