//! A queue of jobs in the order of their keys, worked off by several workers, on smol.
//!
//! A job is a key of its own, so that nothing is rewritten; who removes it has it, and has it alone.
//!
//!     cargo run --example queue -- lsm:./queue

use ferrokit::{Bytes, Ferrokit, Result};

/// Puts a job at the end of the queue.
async fn push(kv: &Ferrokit, job: &str) -> Result<()> {
    let number = kv.incr("queue:last").await?;
    // As many digits as any number has: keys are in the order of their bytes.
    kv.set(format!("job:{number:020}"), job).await
}

/// Takes the first job; `None` if there is none.
async fn pop(kv: &Ferrokit) -> Result<Option<Bytes>> {
    loop {
        let mut jobs = kv.scan_prefix("job:")?.chunk_entries(1);
        let Some(first) = jobs.next().await else { return Ok(None) };
        let (key, _) = first?;
        if let Some(job) = kv.get_del(key).await? {
            return Ok(Some(job));
        }
        // Another worker was faster.
    }
}

pub(crate) async fn run(url: &str) -> Result<()> {
    let kv = ferrokit::open(url).await?;
    for number in 0..30 {
        push(&kv, &format!("job {number}")).await?;
    }
    assert_eq!(pop(&kv).await?.as_deref(), Some(&b"job 0"[..]));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let kv = kv.clone();
            smol::spawn(async move {
                let mut done = 0;
                while pop(&kv).await?.is_some() {
                    done += 1;
                }
                Ok(done)
            })
        })
        .collect();
    let mut done = 1;
    for worker in workers {
        let of_worker: Result<usize> = worker.await;
        done += of_worker?;
    }
    println!("{done} jobs are done");
    assert_eq!(done, 30);
    kv.close().await
}

fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    smol::block_on(run(&url))
}
