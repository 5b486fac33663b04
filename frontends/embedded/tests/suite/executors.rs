//! Any executor, or none.

use std::future::Future;

use ferrokit::{Ferrokit, SetOptions, Update, block_on};

/// What each executor runs: tasks beside each other, a stream, a watch, a transaction.
async fn work<J: Future<Output = i64>>(
    kv: Ferrokit,
    spawn: impl Fn(std::pin::Pin<Box<dyn Future<Output = i64> + Send>>) -> J,
) {
    let mut watch = kv.watch("n").await.unwrap();
    let tasks: Vec<J> = (0..8)
        .map(|_| {
            let kv = kv.clone();
            spawn(Box::pin(async move {
                for _ in 0..49 {
                    kv.incr("n").await.unwrap();
                }
                kv.incr("n").await.unwrap()
            }))
        })
        .collect();
    let mut last = 0;
    for task in tasks {
        last = last.max(task.await);
    }
    assert_eq!(last, 400);
    while watch.next().await.unwrap().unwrap().unwrap() != "400" {}
    let entries = kv.scan(..).unwrap().to_vec().await.unwrap();
    assert_eq!(entries.len(), 1);
    kv.close().await.unwrap();
}

fn open(name: &str) -> (Ferrokit, std::path::PathBuf) {
    let directory = format!("ferrokit-executors-{name}-{}", std::process::id());
    let directory = std::env::temp_dir().join(directory);
    let kv = block_on(ferrokit::open(format!("lsm:{}", directory.display()))).unwrap();
    (kv, directory)
}

#[test]
fn tokio_runs_it() {
    let (kv, directory) = open("tokio");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(work(kv, |task| {
        let task = tokio::spawn(task);
        async { task.await.unwrap() }
    }));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn smol_runs_it() {
    let (kv, directory) = open("smol");
    smol::block_on(work(kv, smol::spawn));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_bare_block_on_runs_it() {
    let (kv, directory) = open("bare");
    block_on(work(kv, |task| task));
    std::fs::remove_dir_all(directory).unwrap();
}

/// A store is opened by any of them, too.
#[test]
fn a_store_opens_inside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let kv = runtime.block_on(ferrokit::open("memory:")).unwrap();
    smol::block_on(kv.set("k", "v")).unwrap();
    assert_eq!(runtime.block_on(kv.get("k")).unwrap().unwrap(), "v");
}

#[test]
fn every_future_is_send_and_handles_are_shared() {
    fn is_send<T: Send>(_: &T) {}
    fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let kv = block_on(ferrokit::open("memory:")).unwrap();
    is_shared(&kv);
    is_send(&kv.get("k"));
    is_send(&kv.set(String::from("k"), vec![1_u8]));
    is_send(&kv.set_with("k", "v", SetOptions::new().get()));
    is_send(&kv.mget(["a", "b"]));
    is_send(&kv.mset([("a", "b")]));
    is_send(&kv.incr_by_float("f", 1.5));
    is_send(&kv.update("k", |_| Update::Keep));
    is_send(&kv.compare_and_swap("k", None, None));
    is_send(&kv.rename("a", "b"));
    is_send(&kv.del_many(["a"]));
    is_send(&kv.flush_all());
    is_send(&kv.collect_expired(1));
    is_send(&kv.watch("k"));
    is_send(&kv.snapshot());
    is_send(&kv.checkpoint("d"));
    is_send(&kv.close());
    is_send(&ferrokit::open("memory:"));
    is_send(&kv.scan(..).unwrap());
    is_send(&kv.scan(..).unwrap().to_vec());
    is_send(&kv.keys().next());
    is_send(&kv.transaction(["a"]));
    let mut watch = block_on(kv.watch("k")).unwrap();
    is_send(&watch.next());
    is_shared(&block_on(kv.snapshot()).unwrap());
    let mut transaction = block_on(kv.transaction(["a"]));
    is_send(&transaction.set("a", "b"));
    is_send(&transaction.commit());
}
