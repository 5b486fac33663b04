//! The arguments of a command in one line, and that line as COMMAND DOCS tells it.
//!
//! ```text
//! name:type         an argument: key, string, integer, double, pattern, unix-time
//! name=TOKEN        a word to be written as it is
//! name:type=TOKEN   an argument behind such a word
//! name(a|b)         one of these, name{a b} all of these; also behind =TOKEN
//! ```
//!
//! and behind it, in this order, what applies: `#n` the key specification it belongs to (of a key
//! the first unless it says so), `"text"` what is shown in its place, `...` several times, `..+`
//! several times with its token, `@version` since when, `!version` deprecated since when.
//! `[argument]` is an optional one.

use crate::resp::Reply;

/// One argument.
#[derive(Debug, Default, PartialEq, Eq)]
struct Argument<'d> {
    name: &'d str,
    kind: &'d str,
    token: Option<&'d str>,
    key_spec: Option<i64>,
    display: Option<&'d str>,
    since: Option<&'d str>,
    deprecated_since: Option<&'d str>,
    is_optional: bool,
    is_multiple: bool,
    repeats_token: bool,
    parts: Vec<Argument<'d>>,
}

/// Writes the arguments as an array; an empty one if the line is not of the notation.
pub(super) fn write(reply: &mut Reply, line: &str) {
    write_all(reply, &parse(line).unwrap_or_default());
}

fn parse(line: &str) -> Option<Vec<Argument<'_>>> {
    let mut reader = Reader { rest: line };
    reader.arguments(' ').filter(|_| reader.rest.is_empty())
}

fn write_all(reply: &mut Reply, arguments: &[Argument<'_>]) {
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| argument.write(reply));
}

impl Argument<'_> {
    fn flags(&self) -> impl Iterator<Item = &'static str> + Clone {
        let flags = [
            (self.is_optional, "optional"),
            (self.is_multiple, "multiple"),
            (self.repeats_token, "multiple_token"),
        ];
        flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name)
    }

    fn write(&self, reply: &mut Reply) {
        let has_parts = !self.parts.is_empty();
        let display = (!has_parts).then_some(self.display.unwrap_or(self.name));
        let (before, after) = (
            [("name", Some(self.name)), ("type", Some(self.kind)), ("display_text", display)],
            [
                ("token", self.token),
                ("since", self.since),
                ("deprecated_since", self.deprecated_since),
            ],
        );
        let texts = before.iter().chain(&after).filter(|(_, text)| text.is_some()).count();
        let flags = self.flags();
        let has_flags = flags.clone().next().is_some();
        let others = [self.key_spec.is_some(), has_flags, has_parts];
        reply.map(texts + others.into_iter().filter(|is_there| *is_there).count());
        write_texts(reply, &before);
        if let Some(index) = self.key_spec {
            reply.bulk(b"key_spec_index");
            reply.integer(index);
        }
        write_texts(reply, &after);
        if has_flags {
            reply.bulk(b"flags");
            reply.set(flags.clone().count());
            flags.for_each(|flag| reply.status(flag));
        }
        if has_parts {
            reply.bulk(b"arguments");
            write_all(reply, &self.parts);
        }
    }
}

fn write_texts(reply: &mut Reply, texts: &[(&str, Option<&str>)]) {
    for (name, text) in texts {
        if let Some(text) = text {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
    }
}

struct Reader<'d> {
    rest: &'d str,
}

impl<'d> Reader<'d> {
    /// Arguments parted by `separator`, up to a closing bracket or the end.
    fn arguments(&mut self, separator: char) -> Option<Vec<Argument<'d>>> {
        let mut arguments = Vec::new();
        if self.rest.is_empty() {
            return Some(arguments);
        }
        loop {
            arguments.push(self.argument()?);
            if !self.take(separator) {
                return Some(arguments);
            }
        }
    }

    fn argument(&mut self) -> Option<Argument<'d>> {
        if self.take('[') {
            let argument = self.argument()?;
            return self.take(']').then_some(Argument { is_optional: true, ..argument });
        }
        let mut argument = Argument { name: self.word()?, kind: "pure-token", ..<_>::default() };
        if self.take(':') {
            argument.kind = self.word()?;
        }
        if self.take('=') {
            argument.token = Some(self.token());
        }
        if self.take('(') {
            argument.kind = "oneof";
            argument.parts = self.arguments('|')?;
            self.take(')').then_some(())?;
        } else if self.take('{') {
            argument.kind = "block";
            argument.parts = self.arguments(' ')?;
            self.take('}').then_some(())?;
        }
        argument.key_spec = (argument.kind == "key").then_some(0);
        if self.take('#') {
            argument.key_spec = self.word()?.parse().ok();
        }
        if self.take('"') {
            let (display, rest) = self.rest.split_once('"')?;
            (argument.display, self.rest) = (Some(display), rest);
        }
        if let Some(rest) = self.rest.strip_prefix("..") {
            argument.repeats_token = rest.starts_with('+');
            argument.is_multiple = true;
            self.rest = rest.get(1..)?;
        }
        if self.take('@') {
            argument.since = Some(self.version());
        }
        if self.take('!') {
            argument.deprecated_since = Some(self.version());
        }
        Some(argument)
    }

    fn take(&mut self, expected: char) -> bool {
        self.rest.strip_prefix(expected).map(|rest| self.rest = rest).is_some()
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'d str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn word(&mut self) -> Option<&'d str> {
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        (!word.is_empty()).then_some(word)
    }

    fn token(&mut self) -> &'d str {
        self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*'))
    }

    fn version(&mut self) -> &'d str {
        self.take_while(|c| c.is_ascii_digit() || c == '.')
    }
}

#[cfg(test)]
pub(super) fn is_valid(line: &str) -> bool {
    parse(line).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_notation_is_read() {
        let line = "key:key to:key#1 [when(nx=NX|at:unix-time=AT\"time\"..+@6.2.0!7.0.0)] \
                    pair=P{a:string b:integer}...";
        let parsed = parse(line).unwrap();
        let argument = |name, kind| Argument { name, kind, ..<_>::default() };
        let nx = Argument { token: Some("NX"), ..argument("nx", "pure-token") };
        let at = Argument {
            token: Some("AT"),
            display: Some("time"),
            since: Some("6.2.0"),
            deprecated_since: Some("7.0.0"),
            is_multiple: true,
            repeats_token: true,
            ..argument("at", "unix-time")
        };
        let pair = Argument {
            token: Some("P"),
            is_multiple: true,
            parts: vec![argument("a", "string"), argument("b", "integer")],
            ..argument("pair", "block")
        };
        let expected = [
            Argument { key_spec: Some(0), ..argument("key", "key") },
            Argument { key_spec: Some(1), ..argument("to", "key") },
            Argument { is_optional: true, parts: vec![nx, at], ..argument("when", "oneof") },
            pair,
        ];
        assert_eq!(parsed, expected);
        for wrong in ["a:", "[a", "a(b", "a b]", "a(b|)", "a{b c|d}", "a\"b", " a"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
