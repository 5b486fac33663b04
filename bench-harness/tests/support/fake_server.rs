//! [`FakeServer`]: a key-value server in this process that can lie, split its replies, and stall.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferrokit_engine::{Env, block_on};

/// How a server misbehaves, on the occasion that its tests choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    None,
    SendsByteByByte,
    LosesWrites,
    LosesIncrements,
    ForgetsRecords,
    ReadsAnotherKey,
    TearsValues,
    CutsValues,
    AnswersTwice,
    AnswersWithANumber,
    Refuses,
    HangsUp,
    Stalls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Resp,
    Memcached,
}

pub(crate) struct FakeServer {
    quirk: Quirk,
    wire: Wire,
    /// The request on which the quirk shows; every request after the loading can be meant.
    occasion: u64,
    requests: AtomicU64,
    records: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

enum Request {
    Get(Vec<u8>),
    Set(Vec<(Vec<u8>, Vec<u8>)>),
    Increment(Vec<u8>),
}

impl FakeServer {
    /// Starts one that shows its quirk on request number `occasion`; it ends with the test program.
    pub(crate) fn start(wire: Wire, quirk: Quirk, occasion: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = AtomicU64::new(0);
        let records = Mutex::default();
        let server = Arc::new(Self { quirk, wire, occasion, requests, records });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = Arc::clone(&server);
                // Clients hang up when they have seen enough.
                std::thread::spawn(move || drop(server.serve(stream.unwrap())));
            }
        });
        address
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = BufReader::new(stream.try_clone()?);
        let mut output = stream;
        while let Some(request) = match self.wire {
            Wire::Resp => read_resp(&mut input)?,
            Wire::Memcached => read_memcached(&mut input)?,
        } {
            let is_occasion = self.requests.fetch_add(1, Ordering::Relaxed) == self.occasion;
            let quirk = if is_occasion { self.quirk } else { Quirk::None };
            if quirk == Quirk::HangsUp {
                return Ok(());
            }
            if quirk == Quirk::Stalls {
                block_on(Env::system().timer.sleep(Duration::from_millis(300)));
            }
            let reply = self.answer(&request, quirk);
            if self.quirk == Quirk::SendsByteByByte {
                reply.chunks(1).try_for_each(|byte| output.write_all(byte))?;
            } else {
                output.write_all(&reply)?;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, quirk: Quirk) -> Vec<u8> {
        let is_resp = self.wire == Wire::Resp;
        let number = |number: &str| match self.wire {
            Wire::Resp => format!(":{number}\r\n").into_bytes(),
            Wire::Memcached => format!("{number}\r\n").into_bytes(),
        };
        let mut records = self.records.lock().unwrap();
        let mut reply = match request {
            _ if quirk == Quirk::AnswersWithANumber => number("7"),
            _ if quirk == Quirk::Refuses && is_resp => b"-OOM no room\r\n".to_vec(),
            _ if quirk == Quirk::Refuses => b"SERVER_ERROR no room\r\n".to_vec(),
            Request::Set(pairs) => {
                if quirk != Quirk::LosesWrites {
                    records.extend(pairs.iter().cloned());
                }
                if is_resp { b"+OK\r\n".to_vec() } else { b"STORED\r\n".to_vec() }
            }
            Request::Increment(key) => {
                let count = records.get(key).map_or("0", |text| str::from_utf8(text).unwrap());
                let count = (count.parse::<u64>().unwrap() + 1).to_string();
                if quirk != Quirk::LosesIncrements {
                    records.insert(key.clone(), count.clone().into_bytes());
                }
                number(&count)
            }
            Request::Get(key) => {
                let other = records.keys().find(|other| *other != key).cloned();
                let read =
                    if quirk == Quirk::ReadsAnotherKey { other.unwrap() } else { key.clone() };
                let found = records.get(&read).cloned();
                match found.filter(|_| quirk != Quirk::ForgetsRecords) {
                    None if is_resp => b"$-1\r\n".to_vec(),
                    None => b"END\r\n".to_vec(),
                    Some(mut value) => {
                        if quirk == Quirk::TearsValues {
                            value.iter_mut().last().into_iter().for_each(|byte| *byte ^= 1);
                        }
                        if quirk == Quirk::CutsValues {
                            value.pop();
                        }
                        let length = value.len();
                        let key = str::from_utf8(key).unwrap();
                        let (before, after) = match self.wire {
                            Wire::Resp => (format!("${length}\r\n"), "\r\n"),
                            Wire::Memcached => {
                                (format!("VALUE {key} 0 {length}\r\n"), "\r\nEND\r\n")
                            }
                        };
                        [before.as_bytes(), &value, after.as_bytes()].concat()
                    }
                }
            }
        };
        if quirk == Quirk::AnswersTwice {
            reply.extend_from_within(..);
        }
        reply
    }
}

fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.strip_suffix("\r\n").map(str::to_owned))
}

fn read_block(input: &mut impl Read, length: usize) -> std::io::Result<Vec<u8>> {
    let mut block = vec![0; length + 2];
    input.read_exact(&mut block)?;
    assert_eq!(block.split_off(length), b"\r\n");
    Ok(block)
}

fn read_resp(input: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let Some(line) = read_line(input)? else { return Ok(None) };
    let count: usize = line.strip_prefix('*').unwrap().parse().unwrap();
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(line) = read_line(input)? else { return Ok(None) };
        words.push(read_block(input, line.strip_prefix('$').unwrap().parse().unwrap())?);
    }
    Ok(Some(match &words[0][..] {
        b"GET" => Request::Get(words[1].clone()),
        b"INCR" => Request::Increment(words[1].clone()),
        b"SET" | b"MSET" => Request::Set(
            words[1..].chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        ),
        other => panic!("{other:?}"),
    }))
}

fn read_memcached(input: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let Some(line) = read_line(input)? else { return Ok(None) };
    let words: Vec<&str> = line.split(' ').collect();
    let key = words[1].as_bytes().to_vec();
    Ok(Some(match words[0] {
        "get" => Request::Get(key),
        "incr" => Request::Increment(key),
        "set" => Request::Set(vec![(key, read_block(input, words[4].parse().unwrap())?)]),
        other => panic!("{other:?}"),
    }))
}
