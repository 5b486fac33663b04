//! Bitmaps, HyperLogLogs, payloads and their like, with the exact bytes of their replies, on every
//! engine. The replies are those of redis-server 7.0.15, unless a comment says otherwise; that of
//! OBJECT HELP is 7.2's.

mod support;

use support::{Client, on_each_engine, request};

/// Runs a script of requests and replies on one connection of a fresh server, engine by engine.
fn script(steps: &[(&str, &str)]) {
    on_each_engine(|server| {
        let mut client = server.client();
        steps.iter().for_each(|(words, reply)| client.check(words, reply));
    });
}

#[test]
fn bitmaps() {
    script(&[
        ("SETBIT b 7 1", ":0\r\n"),
        ("SETBIT b 7 0", ":1\r\n"),
        ("SETBIT b 100 1", ":0\r\n"),
        ("STRLEN b", ":13\r\n"),
        ("GETBIT b 100", ":1\r\n"),
        ("GETBIT b 101", ":0\r\n"),
        ("GETBIT b 4294967295", ":0\r\n"),
        ("GETBIT none 1", ":0\r\n"),
        ("GETBIT b -1", "-ERR bit offset is not an integer or out of range\r\n"),
        ("GETBIT b x", "-ERR bit offset is not an integer or out of range\r\n"),
        ("GETBIT b 4294967296", "-ERR bit offset is not an integer or out of range\r\n"),
        ("SETBIT b 0 2", "-ERR bit is not an integer or out of range\r\n"),
        ("SETBIT b 4294967296 1", "-ERR bit offset is not an integer or out of range\r\n"),
        ("SETBIT b -1 1", "-ERR bit offset is not an integer or out of range\r\n"),
        ("SETBIT b x 9", "-ERR bit offset is not an integer or out of range\r\n"),
        ("SETBIT b 1", "-ERR wrong number of arguments for 'setbit' command\r\n"),
        ("SET s foobar", "+OK\r\n"),
        ("BITCOUNT s", ":26\r\n"),
        ("BITCOUNT s 0 0", ":4\r\n"),
        ("BITCOUNT s 1 1", ":6\r\n"),
        ("BITCOUNT s 1 1 BYTE", ":6\r\n"),
        ("BITCOUNT s 5 30 bit", ":17\r\n"),
        ("BITCOUNT s -2 -1", ":7\r\n"),
        ("BITCOUNT s -1 -2", ":0\r\n"),
        ("BITCOUNT s 0", "-ERR syntax error\r\n"),
        ("BITCOUNT s 0 x", "-ERR value is not an integer or out of range\r\n"),
        ("BITCOUNT s 0 1 NIBBLE", "-ERR syntax error\r\n"),
        ("BITCOUNT s 0 1 BIT x", "-ERR syntax error\r\n"),
        ("BITCOUNT none", ":0\r\n"),
        ("BITCOUNT none 0 -1", ":0\r\n"),
        ("BITPOS s 1", ":1\r\n"),
        ("BITPOS s 0", ":0\r\n"),
        ("BITPOS s 1 2", ":17\r\n"),
        ("BITPOS s 1 2 3", ":17\r\n"),
        ("BITPOS s 1 17 23 BIT", ":17\r\n"),
        ("BITPOS s 2", "-ERR The bit argument must be 1 or 0.\r\n"),
        ("BITPOS s x", "-ERR value is not an integer or out of range\r\n"),
        ("BITPOS s 1 x", "-ERR value is not an integer or out of range\r\n"),
        ("BITPOS s 1 0 x", "-ERR value is not an integer or out of range\r\n"),
        ("BITPOS s 1 0 1 x", "-ERR syntax error\r\n"),
        ("BITPOS s 1 0 1 BIT x", "-ERR syntax error\r\n"),
        ("BITPOS none 0", ":0\r\n"),
        ("BITPOS none 1", ":-1\r\n"),
        ("SET ones ~~", "+OK\r\n"),
        ("BITOP AND and s ones", ":6\r\n"),
        ("BITOP OR or s ones", ":6\r\n"),
        ("BITOP XOR xor s ones none", ":6\r\n"),
        ("BITOP NOT not s", ":6\r\n"),
        ("STRLEN not", ":6\r\n"),
        ("BITCOUNT and", ":9\r\n"),
        ("BITCOUNT or", ":29\r\n"),
        ("BITCOUNT xor", ":20\r\n"),
        ("BITCOUNT not", ":22\r\n"),
        ("BITOP NOT not s s", "-ERR BITOP NOT must be called with a single source key.\r\n"),
        ("BITOP NAND not s s", "-ERR syntax error\r\n"),
        ("BITOP AND not", "-ERR wrong number of arguments for 'bitop' command\r\n"),
        ("BITOP OR not none none", ":0\r\n"),
        ("EXISTS not", ":0\r\n"),
        // As Redis 7.2: arguments are looked at before the key.
        ("BITCOUNT none 0 x", "-ERR value is not an integer or out of range\r\n"),
        ("BITCOUNT none 0 1 NIBBLE", "-ERR syntax error\r\n"),
    ]);
}

#[test]
fn bit_fields() {
    script(&[
        ("BITFIELD f SET i8 0 -100 SET u8 8 255", "*2\r\n:0\r\n:0\r\n"),
        ("BITFIELD f GET i8 0 GET u8 #1 GET i8 #1", "*3\r\n:-100\r\n:255\r\n:-1\r\n"),
        ("BITFIELD f", "*0\r\n"),
        ("BITFIELD f OVERFLOW FAIL INCRBY u8 8 1 GET u8 8", "*2\r\n$-1\r\n:255\r\n"),
        (
            "BITFIELD f OVERFLOW SAT INCRBY u8 8 1 OVERFLOW WRAP INCRBY u8 8 1",
            "*2\r\n:255\r\n:0\r\n",
        ),
        ("BITFIELD f OVERFLOW nope", "-ERR Invalid OVERFLOW type specified\r\n"),
        ("BITFIELD f GET u8", "-ERR syntax error\r\n"),
        (
            "BITFIELD f GET u64 0",
            "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n",
        ),
        (
            "BITFIELD f GET i65 0",
            "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n",
        ),
        ("BITFIELD f GET i64 x", "-ERR bit offset is not an integer or out of range\r\n"),
        ("BITFIELD f SET i8 0 x", "-ERR value is not an integer or out of range\r\n"),
        ("BITFIELD f GET u8 4294967288", "*1\r\n:0\r\n"),
        ("BITFIELD f SET i64 #1 -9223372036854775808", "*1\r\n:0\r\n"),
        ("BITFIELD f OVERFLOW SAT INCRBY i64 #1 -1", "*1\r\n:-9223372036854775808\r\n"),
        ("BITFIELD f INCRBY i64 #1 -1", "*1\r\n:9223372036854775807\r\n"),
        ("BITFIELD_RO f GET u8 0 GET u4 12", "*2\r\n:156\r\n:0\r\n"),
        ("BITFIELD_RO f SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand\r\n"),
        ("BITFIELD_RO none GET u8 0", "*1\r\n:0\r\n"),
        ("BITFIELD_RO f", "*0\r\n"),
        ("OBJECT ENCODING f", "$3\r\nraw\r\n"),
        ("EXPIRE f 100", ":1\r\n"),
        ("BITFIELD f SET u8 0 7", "*1\r\n:156\r\n"),
        ("TTL f", ":100\r\n"),
    ]);
}

#[test]
fn hyperloglogs() {
    script(&[
        ("PFADD h", ":1\r\n"),
        ("PFADD h", ":0\r\n"),
        ("PFADD h a b c", ":1\r\n"),
        ("PFADD h a b c", ":0\r\n"),
        ("PFCOUNT h", ":3\r\n"),
        ("PFADD i c d e", ":1\r\n"),
        ("PFCOUNT h i none", ":5\r\n"),
        ("PFMERGE m h i", "+OK\r\n"),
        ("PFCOUNT m", ":5\r\n"),
        ("PFCOUNT none", ":0\r\n"),
        ("PFMERGE fresh", "+OK\r\n"),
        ("PFDEBUG ENCODING m", "+sparse\r\n"),
        (
            "PFDEBUG DECODE m",
            "$69\r\nZ:7292 v:1,1 Z:1143 v:1,1 Z:4274 v:2,1 Z:2445 v:1,1 Z:622 v:1,1 Z:603\r\n",
        ),
        ("PFDEBUG TODENSE m", ":1\r\n"),
        ("PFDEBUG TODENSE m", ":0\r\n"),
        ("PFDEBUG ENCODING m", "+dense\r\n"),
        ("PFDEBUG DECODE m", "-ERR HLL encoding is not sparse\r\n"),
        ("PFDEBUG NOPE m", "-ERR Unknown PFDEBUG subcommand 'NOPE'\r\n"),
        ("PFDEBUG ENCODING none", "-ERR The specified key does not exist\r\n"),
        ("PFDEBUG ENCODING", "-ERR wrong number of arguments for 'pfdebug' command\r\n"),
        ("PFCOUNT m", ":5\r\n"),
        ("STRLEN m", ":12304\r\n"),
        ("SET s HYLL", "+OK\r\n"),
        ("PFADD s a", "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"),
        ("PFCOUNT s", "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"),
        ("PFCOUNT h s", "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"),
        ("PFMERGE h s", "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"),
        ("PFDEBUG ENCODING s", "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"),
        ("APPEND h x", ":28\r\n"),
        ("PFCOUNT h", ":3\r\n"),
        ("PFADD h z1 z2 z3 z4", ":1\r\n"),
        ("PFCOUNT h i", "-INVALIDOBJ Corrupted HLL object detected\r\n"),
        ("PFMERGE m h", "-INVALIDOBJ Corrupted HLL object detected\r\n"),
        ("PFSELFTEST", "+OK\r\n"),
        ("PFADD", "-ERR wrong number of arguments for 'pfadd' command\r\n"),
        ("PFCOUNT", "-ERR wrong number of arguments for 'pfcount' command\r\n"),
    ]);
}

#[test]
fn longest_common_subsequences() {
    script(&[
        ("SET a ohmytext", "+OK\r\n"),
        ("SET b mynewtext", "+OK\r\n"),
        ("LCS a b", "$6\r\nmytext\r\n"),
        ("LCS a b LEN", ":6\r\n"),
        (
            "LCS a b IDX",
            "*4\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n",
        ),
        (
            "LCS a b IDX MINMATCHLEN 4",
            "*4\r\n$7\r\nmatches\r\n*1\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n$3\r\nlen\r\n:6\r\n",
        ),
        (
            "LCS a b IDX MINMATCHLEN -4 WITHMATCHLEN",
            "*4\r\n$7\r\nmatches\r\n*2\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n*3\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n:2\r\n$3\r\nlen\r\n:6\r\n",
        ),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n",
        ),
        (
            "LCS a b IDX LEN",
            "-ERR If you want both the length and indexes, please just use IDX.\r\n",
        ),
        ("LCS a b MINMATCHLEN", "-ERR syntax error\r\n"),
        ("LCS a b MINMATCHLEN x", "-ERR value is not an integer or out of range\r\n"),
        ("LCS a b NOPE", "-ERR syntax error\r\n"),
        ("LCS a none", "$0\r\n\r\n"),
        ("LCS none none IDX", "*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n"),
        ("LCS a", "-ERR wrong number of arguments for 'lcs' command\r\n"),
        ("SUBSTR a 2 -2", "$5\r\nmytex\r\n"),
    ]);
}

#[test]
fn payloads() {
    script(&[
        ("SET e hello", "+OK\r\n"),
        ("DUMP none", "$-1\r\n"),
        ("RESTORE e 0 x", "-BUSYKEY Target key name already exists.\r\n"),
        ("RESTORE r 0 x", "-ERR DUMP payload version or checksum are wrong\r\n"),
        ("RESTORE r x x", "-ERR value is not an integer or out of range\r\n"),
        ("RESTORE r -1 x", "-ERR Invalid TTL value, must be >= 0\r\n"),
        ("RESTORE r 0 0123456789", "-ERR DUMP payload version or checksum are wrong\r\n"),
        ("RESTORE r 0 x REPLACE NOPE", "-ERR syntax error\r\n"),
        ("RESTORE r 0 x IDLETIME", "-ERR syntax error\r\n"),
        ("RESTORE r 0 x IDLETIME x", "-ERR value is not an integer or out of range\r\n"),
        ("RESTORE r 0 x IDLETIME -1", "-ERR Invalid IDLETIME value, must be >= 0\r\n"),
        ("RESTORE r 0 x FREQ 256", "-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n"),
        ("RESTORE r 0 x FREQ 1 IDLETIME 1", "-ERR syntax error\r\n"),
        ("RESTORE r 0", "-ERR wrong number of arguments for 'restore' command\r\n"),
    ]);
}

#[test]
fn objects() {
    script(&[
        ("SET e hello", "+OK\r\n"),
        ("OBJECT ENCODING e", "$6\r\nembstr\r\n"),
        ("OBJECT ENCODING none", "$-1\r\n"),
        ("OBJECT REFCOUNT e", ":1\r\n"),
        ("OBJECT REFCOUNT none", "$-1\r\n"),
        ("MSET small 9999 large 10000 negative -1 text 09", "+OK\r\n"),
        ("OBJECT REFCOUNT small", ":2147483647\r\n"),
        ("OBJECT REFCOUNT large", ":1\r\n"),
        ("OBJECT REFCOUNT negative", ":1\r\n"),
        ("OBJECT REFCOUNT text", ":1\r\n"),
        ("APPEND digit 1", ":1\r\n"),
        ("OBJECT REFCOUNT digit", ":2147483647\r\n"),
        ("APPEND digit 1", ":2\r\n"),
        ("OBJECT REFCOUNT digit", ":1\r\n"),
        ("OBJECT IDLETIME e", ":0\r\n"),
        ("OBJECT IDLETIME none", "$-1\r\n"),
        (
            "OBJECT FREQ e",
            "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n",
        ),
        ("OBJECT FREQ none", "$-1\r\n"),
        ("OBJECT NOPE e", "-ERR unknown subcommand 'NOPE'. Try OBJECT HELP.\r\n"),
        ("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command\r\n"),
        ("OBJECT", "-ERR wrong number of arguments for 'object' command\r\n"),
        (
            "OBJECT HELP",
            "*15\r\n+OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n+ENCODING <key>\r\n+    Return the kind of internal representation used in order to store the value\r\n+    associated with a <key>.\r\n+FREQ <key>\r\n+    Return the access frequency index of the <key>. The returned integer is\r\n+    proportional to the logarithm of the recent access frequency of the key.\r\n+IDLETIME <key>\r\n+    Return the idle time of the <key>, that is the approximated number of\r\n+    seconds elapsed since the last access to the key.\r\n+REFCOUNT <key>\r\n+    Return the number of references of the value associated with the specified\r\n+    <key>.\r\n+HELP\r\n+    Print this help.\r\n",
        ),
    ]);
}

#[test]
fn sorting_nothing() {
    script(&[
        ("SET e hello", "+OK\r\n"),
        ("SORT none", "*0\r\n"),
        ("SORT none DESC ALPHA LIMIT 0 10 BY w_* GET # GET o_*", "*0\r\n"),
        ("SORT none LIMIT 0", "-ERR syntax error\r\n"),
        ("SORT none LIMIT a 1", "-ERR value is not an integer or out of range\r\n"),
        ("SORT none NOPE", "-ERR syntax error\r\n"),
        ("SORT e", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        (
            "SORT e STORE e",
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        ),
        ("SORT none STORE e", ":0\r\n"),
        ("EXISTS e", ":0\r\n"),
        ("SORT none STORE e", ":0\r\n"),
        ("SORT_RO none", "*0\r\n"),
        ("SORT_RO none STORE e", "-ERR syntax error\r\n"),
    ]);
}

#[test]
fn keys_of_a_database() {
    script(&[
        ("FLUSHALL", "+OK\r\n"),
        ("RANDOMKEY", "$-1\r\n"),
        ("SET only 1", "+OK\r\n"),
        ("RANDOMKEY", "$4\r\nonly\r\n"),
        ("KEYS *", "*1\r\n$4\r\nonly\r\n"),
    ]);
}

#[test]
fn encodings_of_strings() {
    script(&[
        ("SET 12 5", "+OK\r\n"),
        ("OBJECT ENCODING 12", "$3\r\nint\r\n"),
        ("APPEND 12 6", ":2\r\n"),
        ("OBJECT ENCODING 12", "$3\r\nraw\r\n"),
        ("SET 12 12345678901234567890123456789012345678901234", "+OK\r\n"),
        ("OBJECT ENCODING 12", "$6\r\nembstr\r\n"),
        ("SET 12 123456789012345678901234567890123456789012345", "+OK\r\n"),
        ("OBJECT ENCODING 12", "$3\r\nraw\r\n"),
    ]);
}

/// As redis-server 7.0.15 dumps "127", 100 times "a", and a list.
const INTEGER: &[u8] = b"\x00\xc0\x7f\x0a\x00\x0d\xb5\xeb\x31\x52\x54\xc5\x14";
const LETTERS: &[u8] =
    b"\x00\xc3\x09\x40\x64\x01aa\xe0\x57\x00\x01aa\x0a\x00\xe8\xa3\xb5\x07\xb0\x6d\xf2\x71";
const LIST: &[u8] =
    b"\x12\x01\x02\r\r\x00\x00\x00\x02\x00\x81a\x02\x81b\x02\xff\n\x00h\xeb\n\x89\x13A\xbb\xb1";

#[track_caller]
fn restore(client: &mut Client, millis: &str, payload: &[u8], options: &[&str], reply: &str) {
    let mut words: Vec<&[u8]> = vec![b"RESTORE", b"k", millis.as_bytes(), payload];
    words.extend(options.iter().map(|option| option.as_bytes()));
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    client.send(&bytes);
    client.expect(reply.as_bytes());
}

#[test]
fn a_payload_is_restored_with_its_time_to_live() {
    on_each_engine(|server| {
        let mut client = server.client();
        client.check("SET k abc", "+OK\r\n");
        client.send(&request(&["DUMP", "k"]));
        client.expect(b"$15\r\n\x00\x03abc\x0b\x00\xb0\x73\x8d\x4e\xbc\xed\x4b\x6b\r\n");
        let busy = "-BUSYKEY Target key name already exists.\r\n";
        restore(&mut client, "0", INTEGER, &["REPLACE"], "+OK\r\n");
        client.check("INCR k", ":128\r\n");
        restore(&mut client, "0", LIST, &["REPLACE"], "-ERR Bad data format\r\n");
        restore(&mut client, "0", LETTERS, &[], busy);
        restore(&mut client, "0", LETTERS, &["REPLACE", "ABSTTL"], "+OK\r\n");
        client.check("STRLEN k", ":100\r\n");
        client.check("TTL k", ":-1\r\n");
        restore(&mut client, "100000", LETTERS, &["REPLACE"], "+OK\r\n");
        client.check("TTL k", ":100\r\n");
        restore(&mut client, "99999999999999", LETTERS, &["ABSTTL", "replace"], "+OK\r\n");
        client.check("PEXPIRETIME k", ":99999999999999\r\n");
        restore(&mut client, "0", LETTERS, &["REPLACE", "IDLETIME", "1000"], "+OK\r\n");
        assert!((1000..1010).contains(&client.ask("OBJECT IDLETIME k").integer()));
        restore(&mut client, "1", LETTERS, &["ABSTTL"], busy);
        restore(&mut client, "1", LETTERS, &["ABSTTL", "REPLACE"], "+OK\r\n");
        client.check("EXISTS k", ":0\r\n");
    });
}

#[test]
fn matches_are_a_map_and_nothing_is_nothing_in_resp3() {
    on_each_engine(|server| {
        let mut client = server.client();
        client.ask("HELLO 3");
        client.check("MSET a 1x b x", "+OK\r\n");
        let matches = "*1\r\n*2\r\n*2\r\n:1\r\n:1\r\n*2\r\n:0\r\n:0\r\n";
        client
            .check("LCS a b IDX", &format!("%2\r\n$7\r\nmatches\r\n{matches}$3\r\nlen\r\n:1\r\n"));
        client.check("BITFIELD f OVERFLOW FAIL SET u1 0 2", "*1\r\n_\r\n");
        client.check("DUMP none", "_\r\n");
        client.check("OBJECT ENCODING none", "_\r\n");
    });
}

/// More keys than are looked at in one step.
#[test]
fn all_keys_of_a_large_database_are_found_once_and_random_ones_differ() {
    on_each_engine(|server| {
        let mut client = server.client();
        let mut words = vec!["MSET".to_owned()];
        for number in 0..3000 {
            words.extend([format!("key:{number}"), "v".to_owned()]);
        }
        client.send(&request(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        client.expect(b"+OK\r\n");
        let found = |client: &mut Client, pattern: &str| {
            let reply = client.ask(&format!("KEYS {pattern}"));
            let mut keys: Vec<_> = reply.array().iter().map(|key| key.text().to_owned()).collect();
            keys.sort_unstable();
            let count = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), count);
            count
        };
        // 15, 25, ..., 95; 150 to 159, ...; 1500 to 1599, 2500 to 2599.
        assert_eq!((found(&mut client, "*"), found(&mut client, "key:?5*")), (3000, 299));
        let random = |client: &mut Client| client.ask("RANDOMKEY").text().to_owned();
        let mut keys: Vec<_> = (0..200).map(|_| random(&mut client)).collect();
        keys.sort_unstable();
        keys.dedup();
        assert!(keys.len() > 100, "{} different keys in 200", keys.len());
        // Where it left off is of no use after this.
        client.check("FLUSHALL", "+OK\r\n");
        client.check("RANDOMKEY", "$-1\r\n");
        client.check("SET only v", "+OK\r\n");
        client.check("RANDOMKEY", "$4\r\nonly\r\n");
    });
}

#[test]
fn edits_at_the_same_time_lose_nothing() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 150;
    on_each_engine(|server| {
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || {
                    let mut client = server.client();
                    for round in 0..ROUNDS {
                        let bit = round * CLIENTS + number;
                        client.check(&format!("SETBIT bits {bit} 1"), ":0\r\n");
                        client.ask(&format!("BITFIELD sum INCRBY u32 #{} 1", bit % 3));
                        client.ask(&format!("PFADD seen:{} {bit}", bit % 2));
                        client.ask("PFMERGE all seen:0 seen:1");
                        client.ask("BITOP OR copy bits");
                    }
                });
            }
        });
        let mut client = server.client();
        let total = CLIENTS * ROUNDS;
        client.check("BITCOUNT bits", &format!(":{total}\r\n"));
        let sum = client.ask("BITFIELD_RO sum GET u32 0 GET u32 #1 GET u32 #2");
        let third = i64::try_from(total / 3).unwrap();
        assert!(sum.array().iter().all(|it| it.integer() == third), "{sum:?}");
        let merged = client.ask("PFCOUNT seen:0 seen:1");
        assert!((590..=610).contains(&merged.integer()), "{merged:?}");
        assert_eq!(client.ask("PFCOUNT all"), merged);
        client.check("BITCOUNT copy", &format!(":{total}\r\n"));
    });
}
