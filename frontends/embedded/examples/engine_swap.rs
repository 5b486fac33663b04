//! One application on every engine: all that changes is the URL.
//!
//!     cargo run --example engine_swap -- lsm:./data 'hybridlog:?memory=64MiB'

use std::time::Duration;

use ferrokit::{Ferrokit, Result};

/// The application. What not every engine has, it asks for before it is used.
async fn application(kv: &Ferrokit) -> Result<()> {
    kv.mset([("user:1", "ada"), ("user:2", "bob")]).await?;
    kv.set_ex("session:1", "ada", Duration::from_secs(60)).await?;
    kv.append("user:1", " lovelace").await?;
    let users = if kv.capabilities().ordered {
        let entries = kv.scan_prefix("user:")?.to_vec().await?;
        entries.into_iter().map(|(key, _)| key).collect()
    } else {
        let mut keys = kv.keys().matching("user:*").to_vec().await?;
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    assert_eq!(users, ["user:1", "user:2"]);
    assert_eq!(kv.get("user:1").await?.as_deref(), Some(&b"ada lovelace"[..]));
    println!("{kv:?}: {users:?}");
    Ok(())
}

pub(crate) async fn run(url: &str) -> Result<()> {
    let kv = ferrokit::open(url).await?;
    application(&kv).await?;
    kv.close().await
}

fn main() -> Result<()> {
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        urls.push("memory:".to_owned());
    }
    urls.iter().try_for_each(|url| ferrokit::block_on(run(url)))
}
