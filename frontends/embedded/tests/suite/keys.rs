//! Keys whatever they hold, and databases, on every engine.

use std::time::Duration;

use ferrokit::{ErrorKind, Ttl, Type};

use crate::common::{Case, on_every_engine, text};

on_every_engine!(
    keys_are_there_until_they_are_removed,
    keys_expire,
    expired_keys_are_collected_unasked,
    keys_are_renamed_copied_and_moved,
    databases_are_apart,
    a_value_of_another_type_is_told_from_a_string,
);

fn keys_are_there_until_they_are_removed(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        assert!(!kv.exists("a").await.unwrap());
        kv.mset([("a", "1"), ("b", "2"), ("c", "3")]).await.unwrap();
        assert!(kv.exists("a").await.unwrap());
        assert_eq!(kv.key_type("a").await.unwrap(), Some(Type::String));
        assert_eq!(kv.key_type("z").await.unwrap(), None);
        assert_eq!(kv.dbsize().await.unwrap().entries, 3);
        assert!(kv.del("a").await.unwrap());
        assert!(!kv.del("a").await.unwrap());
        assert_eq!(kv.del_many(["a", "b", "c"]).await.unwrap(), 2);
        kv.set("d", "4").await.unwrap();
        kv.flush().await.unwrap();
        assert!(!kv.exists("d").await.unwrap());
    });
}

fn keys_expire(case: &Case) {
    let kv = &case.kv;
    let pass = |millis| case.machine.clock().advance(Duration::from_millis(millis));
    case.wait(async {
        kv.set_ex("k", "v", Duration::from_millis(10)).await.unwrap();
        pass(9);
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(Duration::from_millis(1)));
        pass(1);
        assert_eq!(kv.get("k").await.unwrap(), None);
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Absent);
        assert!(!kv.expire("k", Duration::from_secs(1)).await.unwrap());

        kv.set("k", "v").await.unwrap();
        assert!(kv.expire("k", Duration::from_nanos(1)).await.unwrap());
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(Duration::from_millis(1)));
        assert!(kv.expire("k", Duration::from_nanos(1_000_001)).await.unwrap());
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(Duration::from_millis(2)));
        assert!(kv.persist("k").await.unwrap());
        assert!(!kv.persist("k").await.unwrap());
        pass(1000);
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Forever);
        assert!(kv.expire_at("k", kv.now()).await.unwrap());
        assert!(!kv.exists("k").await.unwrap());

        // A counter keeps its expiry, a set ends it.
        kv.set_ex("n", "1", Duration::from_millis(10)).await.unwrap();
        kv.incr("n").await.unwrap();
        pass(10);
        assert_eq!(kv.incr("n").await.unwrap(), 1);
    });
}

fn expired_keys_are_collected_unasked(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        for n in 0..200 {
            kv.set_ex(format!("k{n}"), "v", Duration::from_secs(1)).await.unwrap();
        }
        kv.set("kept", "v").await.unwrap();
        case.machine.clock().advance(Duration::from_secs(1));
        for _ in 0..100 {
            kv.collect_expired(20).await.unwrap();
        }
    });
    case.host.settle();
    let len = case.wait(kv.dbsize()).unwrap();
    // The hybrid log's sweeps free nothing: it does that itself, when its memory runs short.
    let frees_later = kv.capabilities().engine == "hybridlog";
    assert!(len.entries == 1 || !len.exact || frees_later, "{len:?}");
    assert_eq!(case.wait(kv.keys().to_vec()).unwrap(), ["kept"]);
}

fn keys_are_renamed_copied_and_moved(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        kv.set_ex("a", "1", Duration::from_secs(5)).await.unwrap();
        assert!(kv.copy("a", "b").await.unwrap());
        assert!(!kv.copy("a", "b").await.unwrap());
        assert!(!kv.copy("absent", "c").await.unwrap());
        kv.set("a", "2").await.unwrap();
        assert!(kv.copy_over("a", "b").await.unwrap());
        assert_eq!(text(kv.get("b").await.unwrap()).unwrap(), "2");
        assert!(!kv.rename_nx("a", "b").await.unwrap());
        kv.rename("a", "c").await.unwrap();
        assert!(kv.rename_nx("c", "d").await.unwrap());
        assert_eq!(text(kv.get("d").await.unwrap()).unwrap(), "2");
        let absent = kv.rename("absent", "x").await.unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NoSuchKey);
        assert!(kv.move_to("d", 1).await.unwrap());
        assert!(!kv.move_to("d", 1).await.unwrap());
        assert!(!kv.move_to("b", 0).await.unwrap());
        assert_eq!(text(kv.db(1).unwrap().get("d").await.unwrap()).unwrap(), "2");
    });
}

fn databases_are_apart(case: &Case) {
    let kv = &case.kv;
    let other = kv.db(kv.databases() - 1).unwrap();
    case.wait(async {
        kv.set("k", "here").await.unwrap();
        other.set("k", "there").await.unwrap();
        assert_eq!(text(kv.get("k").await.unwrap()).unwrap(), "here");
        kv.swap_databases(0, kv.databases() - 1).await.unwrap();
        assert_eq!(text(kv.get("k").await.unwrap()).unwrap(), "there");
        kv.flush().await.unwrap();
        assert_eq!(text(other.get("k").await.unwrap()).unwrap(), "here");
        other.flush_all().await.unwrap();
        assert_eq!(other.dbsize().await.unwrap().entries, 0);
    });
    let refused = kv.db(kv.databases()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSuchDatabase);
}

fn a_value_of_another_type_is_told_from_a_string(case: &Case) {
    let kv = &case.kv;
    // A hash, as ferrokit-redis marks it.
    let options = ferrokit_engine::WriteOptions::with_durability(kv.durability());
    let keyspace = ferrokit_engine::KeyspaceId::DEFAULT;
    case.wait(kv.engine().put(keyspace, b"h", b"\xF9...", None, &options)).unwrap();
    case.wait(async {
        assert_eq!(kv.key_type("h").await.unwrap(), Some(Type::Hash));
        assert_eq!(kv.get("h").await.unwrap_err().kind(), ErrorKind::WrongType);
        assert_eq!(kv.append("h", "x").await.unwrap_err().kind(), ErrorKind::WrongType);
        let swapped = kv.compare_and_swap("h", None, Some(b"x")).await;
        assert_eq!(swapped.unwrap_err().kind(), ErrorKind::WrongType);
        assert_eq!(kv.mget(["h"]).await.unwrap(), [None]);
        assert!(kv.exists("h").await.unwrap());
        if let Ok(entries) = kv.scan(..) {
            assert_eq!(entries.to_vec().await.unwrap(), []);
        }
        assert_eq!(kv.keys().to_vec().await.unwrap(), ["h"]);
        kv.set("h", "a string").await.unwrap();
        assert_eq!(kv.key_type("h").await.unwrap(), Some(Type::String));
    });
}
