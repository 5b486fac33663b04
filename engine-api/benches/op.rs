//! What the contract itself costs: a ready `Op` through `dyn KvEngine` beside the same body called
//! directly. The difference is to stay under about 5 ns, with no allocation (asserted here).

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use ferrokit_engine::{
    Entry, KeyspaceId, KvRead, Op, Ordered, ReadOptions, Seen, SweepCursor, Swept,
};

struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: forwards to the system allocator, whose guarantees it keeps; the counter is atomic. If
// it forwarded a wrong layout, memory would be freed with the wrong size.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from System.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The least an engine can do: one comparison, one visit.
struct OneKey {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl OneKey {
    #[inline(never)]
    fn get_direct(&self, key: &[u8], visit: &mut impl FnMut(Entry<'_>)) -> bool {
        let found = key == self.key;
        if found {
            visit(Entry { value: &self.value, expire_at: None, sequence: None });
        }
        found
    }
}

impl KvRead for OneKey {
    fn get_with<'a>(
        &'a self,
        _keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let found = key == self.key;
        if found {
            visit(Entry { value: &self.value, expire_at: None, sequence: None });
        }
        Op::ok(Seen { found: usize::from(found), ..Seen::default() })
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let mut found = 0;
        for (index, key) in keys.iter().enumerate() {
            let mut one = |entry: Entry<'_>| visit(index, entry);
            if let Op::Ready(Ok(seen)) = self.get_with(keyspace, key, options, &mut one) {
                found += seen.found;
            }
        }
        Op::ok(Seen { found, ..Seen::default() })
    }

    fn sweep<'a>(
        &'a self,
        _keyspace: KeyspaceId,
        _cursor: &'a SweepCursor,
        _budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        visit(&self.key, Entry { value: &self.value, expire_at: None, sequence: None });
        Op::ok(Swept { visited: 1, ..Swept::default() })
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        None
    }
}

fn ready_op(c: &mut Criterion) {
    let one = OneKey { key: vec![7; 16], value: vec![9; 100] };
    let key = vec![7; 16];
    let engine: Arc<dyn KvRead> =
        Arc::new(OneKey { key: one.key.clone(), value: one.value.clone() });

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut bytes = 0;
    let mut visit = |entry: Entry<'_>| bytes += entry.value.len();
    let seen =
        engine.get_with(KeyspaceId::DEFAULT, &key, &ReadOptions::default(), &mut visit).wait();
    assert_eq!(seen.map(|seen| seen.found).ok(), Some(1));
    assert_eq!(bytes, 100);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "a ready Op allocated");

    c.bench_function("direct call", |b| {
        b.iter(|| {
            let mut bytes = 0;
            let found = black_box(&one)
                .get_direct(black_box(&key), &mut |entry| bytes += entry.value.len());
            (found, bytes)
        });
    });
    c.bench_function("dyn KvEngine, ready Op", |b| {
        b.iter(|| {
            let mut bytes = 0;
            let mut visit = |entry: Entry<'_>| bytes += entry.value.len();
            let seen = black_box(&engine)
                .get_with(KeyspaceId::DEFAULT, black_box(&key), &ReadOptions::default(), &mut visit)
                .wait();
            (seen.map(|seen| seen.found).unwrap_or(0), bytes)
        });
    });
}

criterion_group!(benches, ready_op);
criterion_main!(benches);
