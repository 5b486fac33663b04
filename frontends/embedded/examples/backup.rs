//! A backup of a running store, and a store made of it, without futures.
//!
//!     cargo run --example backup -- ./shop

use ferrokit::{Builder, Result, blocking};

pub(crate) fn run(directory: &str) -> Result<()> {
    let kv = blocking::open(format!("lsm:{directory}/live"))?;
    kv.mset((0..1000).map(|number| (format!("order:{number}"), "paid")))?;

    // Reads and writes go on meanwhile; the copy is of one moment.
    let backup = format!("{directory}/backup");
    let info = kv.checkpoint(&backup)?;
    println!("{} files, {} bytes", info.files, info.bytes);

    // Something goes wrong.
    kv.flush_all()?;
    kv.close()?;

    let restored = Builder::new(format!("lsm:{directory}/restored")).restore(backup);
    let kv = blocking::Ferrokit::from(restored.open_blocking()?);
    assert_eq!(kv.keys().count(), 1000);
    assert_eq!(kv.get("order:7")?.as_deref(), Some(&b"paid"[..]));
    kv.close()
}

fn main() -> Result<()> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "./ferrokit-shop".to_owned()))
}
