//! Batches and transactions, on every engine.

use std::time::Duration;

use ferrokit::{Batch, EngineErrorKind, ErrorKind, Ttl, Update};

use crate::common::{Case, on_every_engine, text};

on_every_engine!(
    several_keys_are_set_together_or_not_at_all,
    a_batch_is_written_as_a_whole_or_refused,
    a_transaction_shows_its_writes_when_it_commits,
    a_transaction_keeps_other_writers_out,
    a_transaction_is_of_its_keys_alone,
);

fn several_keys_are_set_together_or_not_at_all(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        assert!(kv.mset_nx([("a", "1"), ("b", "2")]).await.unwrap());
        assert!(!kv.mset_nx([("b", "3"), ("c", "3")]).await.unwrap());
        let values = kv.mget(["a", "b", "c", "a"]).await.unwrap();
        let values: Vec<_> = values.into_iter().map(text).collect();
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(values, [some("1"), some("2"), None, some("1")]);
        let owned = vec![(vec![1_u8], vec![2_u8])];
        kv.mset(owned).await.unwrap();
        assert_eq!(kv.mget(Vec::<String>::new()).await.unwrap(), []);
    });
}

fn a_batch_is_written_as_a_whole_or_refused(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        kv.set("gone", "x").await.unwrap();
        let mut batch = Batch::new();
        batch.set("a", "1").set_ex("b", "2", Duration::from_secs(3)).del("gone").set("a", "3");
        kv.write(&batch).await.unwrap();
        assert_eq!(text(kv.get("a").await.unwrap()).unwrap(), "3");
        assert_eq!(kv.ttl("b").await.unwrap(), Ttl::Left(Duration::from_secs(3)));
        assert!(!kv.exists("gone").await.unwrap());
        kv.write(&Batch::new()).await.unwrap();

        batch.clear();
        let too_long = vec![0_u8; kv.capabilities().max_key_bytes + 1];
        batch.set("new", "1").set(too_long, "2");
        let refused = kv.write(&batch).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Engine(EngineErrorKind::InvalidArgument));
        assert!(!kv.exists("new").await.unwrap());
    });
}

fn a_transaction_shows_its_writes_when_it_commits(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        kv.set("a", "1").await.unwrap();
        let mut transaction = kv.transaction(["a", "b", "c"]).await;
        assert_eq!(transaction.incr_by("a", 5).await.unwrap(), 6);
        transaction.set_ex("b", "x", Duration::from_secs(1)).await.unwrap();
        assert_eq!(transaction.append("b", "y").await.unwrap(), 2);
        let kept = transaction.update("b", |_| Update::Keep).await.unwrap();
        assert_eq!(text(kept).unwrap(), "xy");
        assert!(matches!(transaction.ttl("b").await.unwrap(), Ttl::Left(_)));
        assert!(transaction.persist("b").await.unwrap());
        transaction.set("c", "z").await.unwrap();
        assert!(transaction.exists("c").await.unwrap());
        assert!(transaction.del("c").await.unwrap());
        // Readers need no lock.
        assert_eq!(text(kv.get("a").await.unwrap()).unwrap(), "1");
        transaction.commit().await.unwrap();
        assert_eq!(text(kv.get("a").await.unwrap()).unwrap(), "6");
        assert_eq!(kv.ttl("b").await.unwrap(), Ttl::Forever);
        assert!(!kv.exists("c").await.unwrap());

        let mut given_up = kv.transaction(["a"]).await;
        given_up.del("a").await.unwrap();
        given_up.rollback();
        assert_eq!(text(kv.get("a").await.unwrap()).unwrap(), "6");
    });
}

/// A write that was begun meanwhile comes after the transaction.
fn a_transaction_keeps_other_writers_out(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let mut transaction = kv.transaction(["a"]).await;
        let mut write = std::pin::pin!(kv.append("a", "2"));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx)));
        assert!(polled.await.is_pending());
        transaction.set("a", "1").await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(write.await.unwrap(), 2);
        assert_eq!(text(kv.get("a").await.unwrap()).unwrap(), "12");
    });
}

fn a_transaction_is_of_its_keys_alone(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let mut transaction = kv.transaction(["a"]).await;
        let refused = transaction.set("b", "1").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotInTransaction);
        assert!(refused.to_string().contains("\"b\""), "{refused}");
        assert_eq!(transaction.get("b").await.unwrap_err().kind(), ErrorKind::NotInTransaction);
        transaction.commit().await.unwrap();
        assert!(!kv.exists("b").await.unwrap());
    });
}
