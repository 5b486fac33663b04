//! Writes the seeds of the corpora: small valid images, by the code that writes them in operation.

use std::path::Path;

use ferrokit_engine::{
    Error, ErrorKind, KeyspaceId, KvEngine, Result, UnixMillis, WriteBatch, WriteOptions,
};
use ferrokit_lsm::{LsmConfig, LsmEngine, fuzzing};
use ferrokit_redis::dump;
use ferrokit_redis::hyperloglog::HyperLogLog;
use ferrokit_server::fuzzing::Commands;
use ferrokit_storage::sim::SimMachine;
use ferrokit_storage::{Compression, Host, OpenMode, log};

const DIRECTORY: &str = "db";
const SEGMENT_HEADER_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 32;

fn main() -> Result<()> {
    let variants = [
        ("plain", Compression::None, 10, 64 << 10),
        ("lz4", Compression::Lz4, 10, 64 << 10),
        ("zstd_two_level_index_no_filter", Compression::Zstd(1), 0, 256),
    ];
    for (name, compression, filter_bits_per_key, index_split_bytes) in variants {
        let config = LsmConfig {
            memtable_bytes: 4096,
            block_bytes: 256,
            restart_interval: 3,
            log_segment_bytes: 4096,
            log_buffer_bytes: 4096,
            file_bytes: 4096,
            level_base_bytes: 4096,
            value_bytes_max: 2048,
            compression,
            filter_bits_per_key,
            index_split_bytes,
            ..LsmConfig::new(DIRECTORY)
        };
        let host = SimMachine::new(1).host();
        fill(&host, config)?;
        keep_files(&host, name)?;
    }
    for (name, bytes) in RESP {
        keep("resp_parser", name, bytes);
    }
    for (name, url) in URLS {
        keep("engine_url", name, url.as_bytes());
    }
    for (name, arguments) in BIT_FIELDS {
        keep("bit_field", name, arguments);
    }
    keep_payloads();
    keep_arguments();
    keep_sketches();
    Ok(())
}

/// Writes enough of every kind for a few tables, edits and segments.
fn fill(host: &Host, config: LsmConfig) -> Result<()> {
    let engine = LsmEngine::open(host, config)?;
    let options = WriteOptions::default();
    for round in 0..120_u32 {
        let keyspace = KeyspaceId(round % 2);
        let key = format!("key-{:03}", round % 70);
        let value = format!("value {round} ").repeat(4);
        let expire_at = (round % 3 == 0).then_some(UnixMillis(u64::MAX / 4));
        host.wait(engine.put(keyspace, key.as_bytes(), value.as_bytes(), expire_at, &options))?;
        if round % 10 == 9 {
            let mut batch = WriteBatch::new();
            batch.put(keyspace, b"batch", value.as_bytes(), None);
            batch.delete(keyspace, key.as_bytes());
            host.wait(engine.write(&batch, &options))?;
        }
    }
    host.wait(engine.swap_keyspaces(KeyspaceId(0), KeyspaceId(1), &options))?;
    host.wait(engine.clear_keyspace(KeyspaceId(1), &options))?;
    host.wait(engine.put(KeyspaceId(0), b"last", b"", None, &options))?;
    host.settle();
    Ok(())
}

/// Keeps the files of the engine, and checks that the fuzz targets' readers take them.
///
/// Log and manifest do not depend on the variant, so the first one's suffice.
fn keep_files(host: &Host, name: &str) -> Result<()> {
    let is_first = name == "plain";
    let mut paths = Vec::new();
    let mut directories = vec![DIRECTORY.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in host.fs.list(&directory)? {
            let path = format!("{directory}/{}", entry.name);
            if entry.is_dir { directories.push(path) } else { paths.push(path) }
        }
    }
    paths.sort();
    let (mut tables, mut segments, mut manifests) = (0, 0, 0);
    for path in paths {
        let file = host.fs.open(&path, OpenMode::Read)?;
        let len = usize::try_from(file.len()?)
            .map_err(|_| Error::new(ErrorKind::Io, "seeds", "a file beyond the address space"))?;
        let mut bytes = file.read_at(0, len).wait()?;
        println!("{path}: {len} bytes");
        if bytes.starts_with(b"FerroMAN") && is_first {
            fuzzing::read_manifest(&bytes)?;
            keep("manifest", &format!("{name}-{manifests}"), &bytes);
            manifests += 1;
        } else if bytes.starts_with(b"FKLOGSEG") && is_first {
            log::fuzz_segment(&bytes)?;
            while bytes.ends_with(&[0; 64]) {
                bytes.truncate(bytes.len() - 32);
            }
            keep("log_reader", &format!("{name}-{segments}"), &bytes);
            keep_records(&format!("{name}-{segments}"), &bytes);
            segments += 1;
        } else if fuzzing::read_table(&bytes).is_ok_and(|versions| versions > 0) && tables < 2 {
            keep("ferro_sst", &format!("{name}-{tables}"), &bytes);
            tables += 1;
        }
    }
    assert!(tables > 0, "no table was written");
    assert!(!is_first || segments > 0 && manifests > 0, "a kind of seed is missing");
    Ok(())
}

/// Keeps the first record of a segment and those of other lengths.
fn keep_records(name: &str, segment: &[u8]) {
    let (mut at, mut known) = (SEGMENT_HEADER_BYTES, Vec::new());
    while let Some(length) = segment.get(at + 4..at + 8) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let start = at + RECORD_HEADER_BYTES;
        let Some(record) = segment.get(start..start + length) else { break };
        if length > 0 && fuzzing::read_log_record(record) && !known.contains(&length) {
            keep("log_record", &format!("{name}-{length}"), record);
            known.push(length);
        }
        at += (RECORD_HEADER_BYTES + length).next_multiple_of(8);
    }
}

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&directory).expect("a corpus directory");
    std::fs::write(directory.join(name), bytes).expect("a seed");
}

/// Payloads without their footers: the target seals them.
fn keep_payloads() {
    let repeated = b"what repeats is compressed ".repeat(20);
    let values: [(&str, &[u8]); 5] = [
        ("short", b"abc"),
        ("small_integer", b"-100"),
        ("integer", b"2147483647"),
        ("compressed", &repeated),
        ("long", &[b'x'; 20_000]),
    ];
    for (name, value) in values {
        let payload = dump::write_string(value, name == "compressed");
        keep("dump_payload", name, payload.split_last_chunk::<10>().expect("a footer").0);
    }
}

/// Lines of commands, each with arguments of its kind or not.
fn keep_arguments() {
    let names = Commands::names();
    let lines: Vec<Vec<u8>> = (0..names.len().min(256))
        .flat_map(|index| {
            let tails: [&[u8]; 3] = [b" k", b" k 1 l 2", b" k 1 \x80 7"];
            tails.map(|tail| [&[index as u8], tail].concat())
        })
        .filter(|line| !line.contains(&b'\n'))
        .collect();
    for (number, lines) in lines.chunks(48).enumerate() {
        keep("arguments", &format!("commands-{number}"), &lines.join(&b'\n'));
    }
}

fn keep_sketches() {
    let mut sketch = HyperLogLog::new();
    keep("hyperloglog", "empty", sketch.as_bytes());
    for element in 0..100_u32 {
        sketch.add(&element.to_le_bytes(), 3000).expect("a valid one");
    }
    keep("hyperloglog", "sparse", sketch.as_bytes());
    sketch.make_dense().expect("a valid one");
    keep("hyperloglog", "dense", sketch.as_bytes());
}

/// Arguments, and behind a line's end the string they work on.
const BIT_FIELDS: [(&str, &[u8]); 4] = [
    ("reads", b"GET u8 0 GET i64 #1 GET u63 70000\nsome string"),
    ("writes", b"SET i5 100 -7 GET u4 #3 INCRBY u2 9 1\nabc"),
    (
        "overflows",
        b"OVERFLOW SAT INCRBY u8 0 300 overflow fail set i3 4 9 OVERFLOW WRAP INCRBY i64 1 -9",
    ),
    ("wrong", b"GET u64 -1"),
];

/// The first byte says in pieces of how many bytes the rest arrives.
const RESP: [(&str, &[u8]); 5] = [
    (
        "pipeline",
        b"\x07*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nb\0\r\n",
    ),
    ("inline", b"\x03PING\r\nset k \"a b\\x41\\n\" 'it\\'s'\r\n"),
    ("empty", b"\x01*0\r\n*-1\r\n\r\n*1\r\n$0\r\n\r\n"),
    ("half", b"\x02*2\r\n$3\r\nGET\r\n$10\r\nabc"),
    ("giant", b"\x05*1048576\r\n$536870912\r\nab"),
];

const URLS: [(&str, &str); 5] = [
    ("memory", "memory:"),
    ("lsm", "lsm:./data?memtable=64MiB&cache=1GiB&compression=zstd&exact_len=true"),
    ("options", "x:?n=12&b=3KiB&d=100ms&f=false&c=two"),
    ("wrapped", "mvcc+hybridlog:/var/lib/my%20app?d=5s"),
    ("wrong", "lsm:%zz?a=1&a=2"),
];
