//! Memory stays within its budget: dead space comes back, and only live data is ever refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{KS, WRITE, get, get_many, open, put, stat, sweep, tiny};
use ferrokit_engine::{Advice, ErrorKind, KeyspaceId, KvEngine};

#[test]
fn overwrites_with_changing_sizes_never_run_out_of_space() {
    let (_machine, engine) = open(tiny(16));
    // 16 pages hold 64 KiB; 40 keys of up to 600 bytes live, in 1,000 times as many writes.
    for round in 0..1000_usize {
        for key in 0..40_usize {
            let value = vec![key as u8; (round * 37 + key * 101) % 600];
            put(&engine, &key.to_le_bytes(), &value);
        }
    }
    for key in 0..40_usize {
        let value = vec![key as u8; (999 * 37 + key * 101) % 600];
        assert_eq!(get(&engine, KS, &key.to_le_bytes()), Some(value));
    }
    assert!(stat(&engine, "pages_compacted") > 100);
    assert!(stat(&engine, "pages_used_bytes") <= 64 << 10);
}

#[test]
fn too_much_live_data_is_refused_and_deletes_make_room_again() {
    let (_machine, engine) = open(tiny(16));
    let mut stored = 0_u64;
    let error = loop {
        match engine.put(KS, &stored.to_le_bytes(), &[7; 300], None, &WRITE).wait() {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.kind().advice()), (ErrorKind::OutOfSpace, Advice::FreeSpace));
    assert!(stored > 100, "most of the memory is used before a write is refused: {stored}");
    for key in 0..stored {
        assert_eq!(get(&engine, KS, &key.to_le_bytes()), Some(vec![7; 300]), "key {key}");
    }
    // Overwriting in place still works, and so does all else once a quarter is gone.
    put(&engine, &0_u64.to_le_bytes(), &[8; 300]);
    for key in (0..stored).step_by(4) {
        engine.delete(KS, &key.to_le_bytes(), &WRITE).wait().unwrap();
    }
    for round in 0..20_u64 {
        for key in (0..stored).filter(|key| key % 4 != 0) {
            put(&engine, &key.to_le_bytes(), &vec![9; 290 + (key + round) as usize % 10]);
        }
    }
    assert_eq!(sweep(&engine, KS, 10).len() as u64, stored - stored.div_ceil(4));
}

#[test]
fn a_full_engine_stays_refusing_however_often_one_tries() {
    let (_machine, engine) = open(tiny(8));
    let mut refused = 0;
    for key in 0..2000_u64 {
        let put = engine.put(KS, &key.to_le_bytes(), &[7; 200], None, &WRITE).wait();
        refused += u64::from(put.is_err_and(|error| error.kind() == ErrorKind::OutOfSpace));
    }
    let len = engine.keyspace_len(KS).wait().unwrap().entries;
    assert_eq!(len + refused, 2000);
    assert_eq!(sweep(&engine, KS, 100).len() as u64, len);
    // A refused write leaves neither a record nor an entry behind.
    for key in 0..2000_u64 {
        engine.delete(KS, &key.to_le_bytes(), &WRITE).wait().unwrap();
    }
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, 0);
    for key in 0..60_u64 {
        put(&engine, &key.to_le_bytes(), &[7; 200]);
    }
}

#[test]
fn a_cleared_keyspace_gives_its_memory_back() {
    let (_machine, engine) = open(tiny(16));
    for round in 0..50_u64 {
        for key in 0..100_u64 {
            let key = (round, key);
            put(&engine, format!("{key:?}").as_bytes(), &[1; 200]);
        }
        engine.clear_keyspace(KS, &WRITE).wait().unwrap();
        assert_eq!(sweep(&engine, KS, 100).len(), 0);
    }
}

#[test]
fn expired_records_give_their_memory_back() {
    let (machine, engine) = open(tiny(16));
    for round in 0..20_u64 {
        let expire_at = Some(machine.host().env.clock.now().plus(10));
        for key in 0..100_u64 {
            let name = format!("{:?}", (round, key));
            engine.put(KS, name.as_bytes(), &[1; 200], expire_at, &WRITE).wait().unwrap();
        }
        machine.clock().advance(std::time::Duration::from_millis(2000));
    }
}

#[test]
fn maintenance_compacts_before_memory_is_short() {
    let (machine, engine) = open(tiny(256));
    for round in 0..40_usize {
        for key in 0..20_usize {
            put(&engine, &key.to_le_bytes(), &vec![1; 100 + (round * 97) % 500]);
        }
        machine.host().settle();
    }
    assert!(stat(&engine, "pages_used_bytes") < 64 << 10, "of 1 MiB, for 12 KiB of live data");
    assert!(stat(&engine, "pages_compacted") > 0);
}

#[test]
fn a_batch_that_does_not_fit_leaves_nothing() {
    let (_machine, engine) = open(tiny(16));
    let mut stored = 0_u64;
    while engine.put(KS, &stored.to_le_bytes(), &[7; 300], None, &WRITE).wait().is_ok() {
        stored += 1;
    }
    let mut batch = ferrokit_engine::WriteBatch::new();
    for attempt in 0..50_u64 {
        batch.clear();
        batch.delete(KS, &1_u64.to_le_bytes());
        // The small ones still fit; the records of those are given up again.
        for key in 0..4_u64 {
            batch.put(KS, format!("small {attempt} {key}").as_bytes(), &[1; 8], None);
            batch.put(KS, format!("large {attempt} {key}").as_bytes(), &[1; 900], None);
        }
        let error = engine.write(&batch, &WRITE).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfSpace);
        assert_eq!(sweep(&engine, KS, 100).len() as u64, stored);
    }
    assert_eq!(get(&engine, KS, &1_u64.to_le_bytes()), Some(vec![7; 300]));
    engine.clear_keyspace(KS, &WRITE).wait().unwrap();
    engine.write(&batch, &WRITE).wait().unwrap();
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, 8);
}

#[test]
fn a_batch_refused_half_way_gives_its_records_up_again() {
    let (_machine, engine) = open(tiny(16));
    let mut written = 0_u64;
    // The batch that is refused has written some of its records by then.
    for number in 0..100_u64 {
        let mut batch = ferrokit_engine::WriteBatch::new();
        for key in 0..8_u64 {
            batch.put(KS, format!("{number} {key}").as_bytes(), &[1; 400], None);
        }
        written += u64::from(engine.write(&batch, &WRITE).wait().is_ok());
    }
    assert!((8..20).contains(&written), "{written}");
    assert_eq!(sweep(&engine, KS, 100).len() as u64, written * 8);
    for key in 0..8_u64 {
        engine.delete(KS, format!("0 {key}").as_bytes(), &WRITE).wait().unwrap();
        engine.delete(KS, format!("1 {key}").as_bytes(), &WRITE).wait().unwrap();
    }
    // Compaction passes what was given up.
    for round in 0..200_usize {
        put(&engine, b"k", &vec![2; round * 7]);
    }
}

#[test]
fn a_full_index_is_refused_and_loses_nothing() {
    let config = ferrokit_hybridlog::HybridLogConfig { index_bytes_max: 64, ..tiny(256) };
    let (_machine, engine) = open(config);
    let mut stored = 0_u64;
    let error = loop {
        match engine.put(KS, &stored.to_le_bytes(), b"v", None, &WRITE).wait() {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    assert!(error.to_string().contains("index_max"), "{error}");
    assert_eq!(sweep(&engine, KS, 3).len() as u64, stored);
    // Deleted keys give their slots back.
    for key in 0..stored {
        engine.delete(KS, &key.to_le_bytes(), &WRITE).wait().unwrap();
    }
    for key in 0..30 * stored {
        put(&engine, &key.to_le_bytes(), b"v");
        engine.delete(KS, &key.to_le_bytes(), &WRITE).wait().unwrap();
    }
}

#[test]
fn the_index_grows_with_its_keys() {
    let (_machine, engine) = open(tiny(256));
    let other = KeyspaceId(1);
    for key in 0..5000_u64 {
        put(&engine, &key.to_le_bytes(), &key.to_le_bytes());
        if key % 100 == 0 {
            engine.put(other, &key.to_le_bytes(), b"other", None, &WRITE).wait().unwrap();
        }
    }
    assert!(stat(&engine, "index_buckets") >= 512);
    for key in 0..5000_u64 {
        assert_eq!(get(&engine, KS, &key.to_le_bytes()), Some(key.to_le_bytes().to_vec()));
    }
    assert_eq!(sweep(&engine, KS, 7).len(), 5000);
    assert_eq!(sweep(&engine, other, 7).len(), 50);
}

#[test]
fn long_values_are_overwritten_for_ever_in_little_memory() {
    let (_, engine) = open(tiny(16));
    let longest = engine.capabilities().max_value_bytes;
    assert!(longest > 4096, "it takes several pages");
    for round in 0..200_u8 {
        // With and without the job, which never runs here but when it is stepped.
        let len = longest - usize::from(round) % 7 * 900;
        put(&engine, b"long", &vec![round; len]);
        put(&engine, b"short", &[round; 10]);
        assert!(get(&engine, KS, b"long").unwrap() == vec![round; len]);
    }
    engine.delete(KS, b"long", &WRITE).wait().unwrap();
    // What it took is free: twice as many others find room.
    for round in 0..3 {
        put(&engine, b"a", &vec![round; longest]);
        put(&engine, b"b", &vec![round; longest]);
        let both = get_many(&engine, &[b"a", b"b"]);
        assert!(both.iter().all(|it| it.as_ref().unwrap() == &vec![round; longest]));
    }
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, 3, "pieces are not counted");
}

#[test]
fn a_long_value_that_finds_no_room_leaves_what_was_there() {
    let (_, engine) = open(tiny(16));
    let longest = engine.capabilities().max_value_bytes;
    put(&engine, b"kept", &vec![1; longest]);
    let mut filled = 0_u32;
    let refused = loop {
        let key = filled.to_be_bytes();
        match engine.put(KS, &key, &vec![2; longest], None, &WRITE).wait() {
            Ok(_) => filled += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::OutOfSpace, "{refused}");
    assert!(filled > 1);
    assert!(get(&engine, KS, b"kept").unwrap() == vec![1; longest]);
    // What the refused one took is given back at once.
    put(&engine, b"small", &[3; 500]);
    for n in 0..filled {
        engine.delete(KS, &n.to_be_bytes(), &WRITE).wait().unwrap();
    }
    put(&engine, b"again", &vec![4; longest]);
    assert!(get(&engine, KS, b"kept").unwrap() == vec![1; longest]);
}
