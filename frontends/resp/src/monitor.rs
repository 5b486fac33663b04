//! [`Monitors`]: the clients that see every command (MONITOR).

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use ferrokit_engine::UnixMillis;

use crate::client::{Client, lock};

/// The monitors, by their ids.
#[derive(Default)]
pub(crate) struct Monitors(Mutex<Vec<Arc<Client>>>);

impl Monitors {
    /// Adds a client; `tell` runs before anybody else can change the monitors.
    pub(crate) fn add(&self, client: &Arc<Client>, tell: impl FnOnce()) {
        let mut monitors = lock(&self.0);
        monitors.push(Arc::clone(client));
        tell();
    }

    /// Strikes a client off; `tell` runs if none is left, before anybody else can change them.
    pub(crate) fn remove(&self, client: &Client, tell: impl FnOnce()) {
        let mut monitors = lock(&self.0);
        monitors.retain(|it| it.id != client.id);
        if monitors.is_empty() {
            tell();
        }
    }

    /// Sends a line to all, in one order.
    pub(crate) fn send(&self, line: &str) {
        lock(&self.0).iter().for_each(|client| client.push_raw(line.as_bytes()));
    }
}

/// The line of a command: when, by whom in which database, and its arguments quoted.
pub(crate) fn line<'a>(
    now: UnixMillis,
    database: u32,
    client: &Client,
    arguments: impl Iterator<Item = &'a [u8]>,
) -> String {
    let (secs, millis) = (now.0 / 1000, now.0 % 1000);
    let mut line = format!("+{secs}.{millis:03}000 [{database} {}]", client.peer);
    for argument in arguments {
        line.push_str(" \"");
        quote(argument, &mut line);
        line.push('"');
    }
    line.push_str("\r\n");
    line
}

/// Appends bytes as Redis shows them between quotes.
fn quote(bytes: &[u8], line: &mut String) {
    for &byte in bytes {
        match byte {
            b'\\' => line.push_str("\\\\"),
            b'"' => line.push_str("\\\""),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x07 => line.push_str("\\a"),
            0x08 => line.push_str("\\b"),
            b' '..=b'~' => line.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(line, "\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped() {
        let mut line = String::new();
        quote(b"a \"b\\\n\r\t\x07\x08\x00\x7f\xff~", &mut line);
        assert_eq!(line, "a \\\"b\\\\\\n\\r\\t\\a\\b\\x00\\x7f\\xff~");
    }
}
