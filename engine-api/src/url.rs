//! [`EngineUrl`]: an engine named in one line.
//!
//! ```text
//! url      = [wrapper "+"] engine ":" path ["?" option *("&" option)]
//! option   = name "=" value
//! ```
//! `lsm:./data?memtable=64MiB`, `mvcc+hybridlog:/var/lib/app`, `memory:`. `%XX` escapes a byte in
//! the path and in values.

use std::cell::RefCell;
use std::time::Duration;

use crate::error::{Error, Result};

/// The longest URL accepted, in bytes.
const MAX_URL_BYTES: usize = 8192;

/// A parsed engine URL. Engines take the options they know and then call
/// [`finish`](Self::finish), which refuses the ones nobody took: no option is ignored in silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineUrl {
    wrapper: Option<String>,
    engine: String,
    path: String,
    options: RefCell<Vec<(String, String)>>,
}

impl EngineUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// `InvalidArgument`, saying what is wrong.
    pub fn parse(url: &str) -> Result<Self> {
        if url.len() > MAX_URL_BYTES {
            return Err(invalid(format!("longer than {MAX_URL_BYTES} bytes")));
        }
        let (scheme, rest) = url.split_once(':').ok_or_else(|| {
            invalid(format!("\"{}\" names no engine; try lsm:DIRECTORY or memory:", shown(url)))
        })?;
        let (wrapper, engine) = match scheme.split_once('+') {
            Some((wrapper, engine)) => (Some(name(wrapper)?), name(engine)?),
            None => (None, name(scheme)?),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options: Vec<(String, String)> = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| invalid(format!("option \"{}\" has no value", shown(option))))?;
            let key = name(key)?;
            if options.iter().any(|(known, _)| *known == key) {
                return Err(invalid(format!("option \"{key}\" is given twice")));
            }
            options.push((key, unescape(value)?));
        }
        Ok(Self { wrapper, engine, path: unescape(path)?, options: RefCell::new(options) })
    }

    /// The wrapper around the engine (`mvcc`), if any.
    pub fn wrapper(&self) -> Option<&str> {
        self.wrapper.as_deref()
    }

    /// The engine's name.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The path, possibly empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes the text of an option.
    pub fn take(&self, option: &str) -> Option<String> {
        let mut options = self.options.borrow_mut();
        let index = options.iter().position(|(key, _)| key == option)?;
        Some(options.swap_remove(index).1)
    }

    /// Takes a number.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none.
    pub fn take_number(&self, option: &str) -> Result<Option<u64>> {
        self.take(option)
            .map(|text| text.parse().map_err(|_| bad_value(option, &text, "a number")))
            .transpose()
    }

    /// Takes a size: a number of bytes with an optional `KiB`, `MiB`, `GiB` or `TiB`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none.
    pub fn take_bytes(&self, option: &str) -> Result<Option<u64>> {
        self.take(option)
            .map(|text| {
                parse_bytes(&text).ok_or_else(|| bad_value(option, &text, "a size such as 64MiB"))
            })
            .transpose()
    }

    /// Takes a duration: a number with `ms` or `s`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none.
    pub fn take_duration(&self, option: &str) -> Result<Option<Duration>> {
        self.take(option)
            .map(|text| {
                parse_duration(&text)
                    .ok_or_else(|| bad_value(option, &text, "a duration such as 100ms or 5s"))
            })
            .transpose()
    }

    /// Takes `true` or `false`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is neither.
    pub fn take_bool(&self, option: &str) -> Result<Option<bool>> {
        self.take(option)
            .map(|text| text.parse().map_err(|_| bad_value(option, &text, "true or false")))
            .transpose()
    }

    /// Takes one of a few words.
    ///
    /// # Errors
    /// `InvalidArgument` with the list of words if it is none of them.
    pub fn take_choice<T: Copy>(&self, option: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.take(option) else { return Ok(None) };
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                Err(bad_value(option, &text, &format!("one of {}", words.join(", "))))
            }
        }
    }

    /// Refuses the options that nobody took.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the first one.
    pub fn finish(&self) -> Result<()> {
        match self.options.borrow().first() {
            None => Ok(()),
            Some((key, _)) => {
                Err(invalid(format!("engine \"{}\" has no option \"{key}\"", self.engine)))
            }
        }
    }
}

fn invalid(message: String) -> Error {
    Error::invalid("engine url", message)
}

fn bad_value(option: &str, text: &str, expected: &str) -> Error {
    invalid(format!("option \"{option}\" is \"{}\", not {expected}", shown(text)))
}

/// Text as shown in an error: bounded and printable.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn name(text: &str) -> Result<String> {
    let is_name = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(invalid(format!("\"{}\" is no name", shown(text))))
    }
}

fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = (rest.next().and_then(hex_digit), rest.next().and_then(hex_digit));
        let (Some(high), Some(low)) = digits else {
            return Err(invalid(format!("\"{}\" has an unfinished %XX", shown(text))));
        };
        bytes.push(high << 4 | low);
    }
    if bytes.contains(&0) {
        return Err(invalid(format!("\"{}\" holds a zero byte", shown(text))));
    }
    String::from_utf8(bytes)
        .map_err(|_| invalid(format!("\"{}\" is not UTF-8 text once unescaped", shown(text))))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(number) = text.strip_suffix("ms") {
        return number.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_wrapper_engine_path_and_options() {
        let url =
            EngineUrl::parse("mvcc+lsm:./my%20data?memtable=64MiB&cache=1GiB&sync=5s").unwrap();
        assert_eq!(url.wrapper(), Some("mvcc"));
        assert_eq!((url.engine(), url.path()), ("lsm", "./my data"));
        assert_eq!(url.take_bytes("memtable").unwrap(), Some(64 << 20));
        assert_eq!(url.take_duration("sync").unwrap(), Some(Duration::from_secs(5)));
        let error = url.finish().unwrap_err().to_string();
        assert!(error.contains("no option \"cache\""), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, part) in [
            ("data", "names no engine"),
            (":x", "is no name"),
            ("lsm:x?a", "has no value"),
            ("lsm:x?a=1&a=2", "given twice"),
            ("lsm:%4", "unfinished"),
            ("lsm:%ff", "not UTF-8"),
            ("lsm:%00", "zero byte"),
            ("lsm:a\0b", "zero byte"),
            ("lsm:x?a=\0", "zero byte"),
            ("LSM:x", "is no name"),
        ] {
            let error = EngineUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        let url = EngineUrl::parse("lsm:x?size=99999999999TiB").unwrap();
        assert!(url.take_bytes("size").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,80}") {
            let _ = EngineUrl::parse(&text);
        }
    }
}
