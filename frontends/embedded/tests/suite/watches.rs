//! Watches, on every engine.

use std::time::Duration;

use ferrokit::{Batch, Bytes, ErrorKind, Watch};

use crate::common::{Case, on_every_engine, text};

on_every_engine!(
    a_watch_tells_of_every_kind_of_change,
    changes_come_as_one_when_nobody_looks,
    a_watch_tells_when_its_key_expires,
    a_watch_ends_with_its_store,
);

async fn next(watch: &mut Watch) -> Option<String> {
    text(watch.next().await.unwrap().unwrap())
}

async fn is_quiet(watch: &mut Watch) -> bool {
    let mut next = std::pin::pin!(watch.next());
    std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx))).await.is_pending()
}

fn a_watch_tells_of_every_kind_of_change(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let mut watch = kv.watch("k").await.unwrap();
        assert_eq!(watch.key(), "k");
        kv.set("other", "1").await.unwrap();
        kv.db(1).unwrap().set("k", "elsewhere").await.unwrap();
        kv.del("k").await.unwrap();
        assert!(is_quiet(&mut watch).await);
        let some = |value: &str| Some(value.to_owned());
        kv.set("k", "1").await.unwrap();
        assert_eq!(next(&mut watch).await, some("1"));
        kv.incr("k").await.unwrap();
        assert_eq!(next(&mut watch).await, some("2"));
        let mut batch = Batch::new();
        kv.write(batch.set("k", "3").set("l", "4")).await.unwrap();
        assert_eq!(next(&mut watch).await, some("3"));
        kv.rename("l", "k").await.unwrap();
        assert_eq!(next(&mut watch).await, some("4"));
        kv.flush().await.unwrap();
        assert_eq!(next(&mut watch).await, None);
        kv.swap_databases(0, 1).await.unwrap();
        assert_eq!(next(&mut watch).await, some("elsewhere"));
        let mut transaction = kv.transaction(["k"]).await;
        transaction.set("k", "5").await.unwrap();
        assert!(is_quiet(&mut watch).await);
        transaction.commit().await.unwrap();
        assert_eq!(next(&mut watch).await, some("5"));
        kv.compare_and_swap("k", Some(b"4"), None).await.unwrap();
        assert!(is_quiet(&mut watch).await);
        kv.compare_and_swap("k", Some(b"5"), None).await.unwrap();
        assert_eq!(next(&mut watch).await, None);
        assert!(is_quiet(&mut watch).await);
    });
}

fn changes_come_as_one_when_nobody_looks(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let mut watch = kv.watch("k").await.unwrap();
        let mut another = kv.watch("k").await.unwrap();
        for n in 0..100 {
            kv.set("k", n.to_string()).await.unwrap();
        }
        assert_eq!(next(&mut watch).await.unwrap(), "99");
        assert!(is_quiet(&mut watch).await);
        drop(watch);
        assert_eq!(next(&mut another).await.unwrap(), "99");
        kv.set("k", "100").await.unwrap();
        assert_eq!(next(&mut another).await.unwrap(), "100");
    });
}

fn a_watch_tells_when_its_key_expires(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        kv.set_ex("k", "v", Duration::from_secs(5)).await.unwrap();
        let before = kv.now();
        let mut watch = kv.watch("k").await.unwrap();
        assert_eq!(next(&mut watch).await, None);
        assert_eq!(kv.now(), before.plus(5000));
        // An expiry that was put off is not told before its time.
        kv.set_ex("k", "w", Duration::from_secs(5)).await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), "w");
        kv.expire("k", Duration::from_secs(9)).await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), "w");
        assert_eq!(next(&mut watch).await, None);
        assert_eq!(kv.now(), before.plus(14_000));
    });
}

fn a_watch_ends_with_its_store(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let mut watch = kv.watch("k").await.unwrap();
        assert!(is_quiet(&mut watch).await);
        kv.close().await.unwrap();
        assert!(watch.next().await.is_none());
        assert!(watch.next().await.is_none());
        assert!(kv.get("k").await.unwrap_err().is_closed());
    });
}

/// There is a bound, and a watch that ends makes room.
#[test]
fn watches_are_bounded() {
    let case = Case::on("memory");
    let kv = &case.kv;
    case.wait(async {
        let watch = async |n: u32| kv.watch(Bytes::from(n.to_string())).await;
        let mut watches = Vec::new();
        for n in 0..1 << 16 {
            watches.push(watch(n).await.unwrap());
        }
        let refused = watch(1 << 16).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooManyWatches);
        watches.pop();
        watch(1 << 16).await.unwrap();
    });
}
