//! What the README shows, run.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use ferrokit::{Result, block_on};

const README: &str = include_str!("../../../README.md");
const THIS: &str = include_str!("readme.rs");

async fn shown() -> Result<()> {
    // It begins here:
    let kv = ferrokit::open("lsm:./data").await?; // another engine: another URL
    kv.set("greeting", "hello").await?; // durable when it completes
    kv.set_ex("session:7", "ada", Duration::from_secs(1800)).await?;
    kv.incr("visits").await?;

    let mut sessions = kv.scan_prefix("session:")?; // a Stream, in either direction
    while let Some(entry) = sessions.next().await {
        let (key, user) = entry?;
        println!("{key:?} is {user:?}'s");
    }

    let mut transfer = kv.transaction(["alice", "bob"]).await; // all or nothing
    if transfer.incr_by("alice", -30).await? >= 0 {
        transfer.incr_by("bob", 30).await?;
        transfer.commit().await?;
    }
    kv.checkpoint("./backup").await?; // while reads and writes go on
    kv.close().await?;
    // It ends here.
    Ok(())
}

/// The words between two marks, however they are laid out.
fn words<'t>(source: &'t str, begin: &str, end: &str) -> Vec<&'t str> {
    let (_, rest) = source.split_once(begin).unwrap();
    let (between, _) = rest.split_once(end).unwrap();
    between.split_whitespace().collect()
}

#[test]
fn the_readme_shows_what_is_run_here() {
    let begin = "    // It begins here:\n";
    let run = words(THIS, begin, "    // It ends here.\n");
    assert_eq!(words(README, "```rust,ignore\n", "```"), run);
}

/// The only test that cares for the working directory, in a process of its own.
#[test]
fn what_the_readme_shows_works() {
    let directory = std::env::temp_dir().join(format!("ferrokit-readme-{}", std::process::id()));
    std::fs::DirBuilder::new().recursive(true).create(&directory).unwrap();
    std::env::set_current_dir(&directory).unwrap();
    block_on(shown()).unwrap();
    let kv = block_on(ferrokit::open("lsm:./backup")).unwrap();
    assert_eq!(block_on(kv.get("greeting")).unwrap().unwrap(), "hello");
    assert!(block_on(kv.exists("session:7")).unwrap());
    assert!(!block_on(kv.exists("bob")).unwrap());
    block_on(kv.close()).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}
