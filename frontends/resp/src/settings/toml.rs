//! Parameters in TOML: `maxmemory = "1gb"`, `appendonly = true`, `bind = ["127.0.0.1", "::1"]`.
//!
//! Keys are the names of parameters, with `-` or `_`; tables only group them: `[log] loglevel = ...`
//! is `loglevel`.

use ferrokit_engine::Result;
use toml_edit::{Document, Item, TableLike, Value};

use super::load::refused;

/// Tables in tables are followed so deep.
const DEPTH_MAX: usize = 4;

/// A line number, and the words of a parameter: its name first.
type Line = (usize, Vec<Vec<u8>>);

/// The parameters of a document, in its order.
pub(super) fn lines(file: &str, text: &str) -> Result<Vec<Line>> {
    let document = Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        refused(format!("{file}, line {line}: {}", error.message().replace('\n', "; ")))
    })?;
    let mut lines = Vec::new();
    let reader = Reader { file, text };
    reader.table(document.as_table(), 0, &mut lines)?;
    Ok(lines)
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
}

impl Reader<'_> {
    fn table(&self, table: &dyn TableLike, depth: usize, lines: &mut Vec<Line>) -> Result<()> {
        for (name, item) in table.iter() {
            let line = item.span().map_or(1, |span| line_of(self.text, span.start));
            let refuse =
                |what: &str| Err(refused(format!("{}, line {line}: {name}: {what}", self.file)));
            match item {
                Item::Table(inner) if depth < DEPTH_MAX => self.table(inner, depth + 1, lines)?,
                Item::Value(value) => {
                    let Some(mut words) = words(value) else {
                        return refuse(
                            "must be a string, a number, true, false, or a list of them",
                        );
                    };
                    words.insert(0, name.replace('_', "-").into_bytes());
                    lines.push((line, words));
                }
                _ => return refuse("a table cannot stand here"),
            }
        }
        Ok(())
    }
}

fn words(value: &Value) -> Option<Vec<Vec<u8>>> {
    match value {
        Value::Array(array) if array.is_empty() => Some(vec![Vec::new()]),
        Value::Array(array) => array.iter().map(word).collect(),
        value => word(value).map(|word| vec![word]),
    }
}

fn word(value: &Value) -> Option<Vec<u8>> {
    let text = match value {
        Value::String(text) => text.value().clone(),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => number.value().to_string(),
        Value::Boolean(value) => if *value.value() { "yes" } else { "no" }.to_owned(),
        Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => return None,
    };
    Some(text.into_bytes())
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
