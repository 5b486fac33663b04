//! Counters that many tasks count at once, on tokio.
//!
//!     cargo run --example counters

use ferrokit::{Durability, Ferrokit, Result};

/// Counts a visit of a page: in all, and by day.
async fn visit(kv: &Ferrokit, page: &str, day: &str) -> Result<()> {
    kv.incr(format!("visits:{page}")).await?;
    kv.incr(format!("visits:{page}:{day}")).await?;
    Ok(())
}

pub(crate) async fn run(url: &str) -> Result<()> {
    let kv = ferrokit::open(url).await?;
    // A count that a power cut may take back a little: nobody waits for a device.
    let hasty = kv.with_durability(Durability::Memory)?;
    let visitors: Vec<_> = (0..8)
        .map(|visitor| {
            let kv = hasty.clone();
            tokio::spawn(async move {
                let day = if visitor % 2 == 0 { "monday" } else { "tuesday" };
                for _ in 0..100 {
                    visit(&kv, "home", day).await?;
                }
                kv.incr_by_float("seconds spent", 0.1).await
            })
        })
        .collect();
    for visitor in visitors {
        visitor.await.expect("a visitor does not panic")?;
    }
    assert_eq!(kv.get("visits:home").await?.as_deref(), Some(&b"800"[..]));
    assert_eq!(kv.incr_by("visits:home:monday", 0).await?, 400);
    assert_eq!(kv.get("seconds spent").await?.as_deref(), Some(&b"0.8"[..]));

    let mut counters = kv.keys().matching("visits:*");
    while let Some(key) = counters.next().await {
        let key = key?;
        println!("{key:?}: {:?}", kv.get(&key).await?);
    }
    kv.close().await
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    runtime.block_on(run("memory:"))
}
