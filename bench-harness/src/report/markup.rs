//! [`Markup`]: HTML and SVG text under construction.
//!
//! Names of elements and attributes are part of this program (`&'static str`), and everything else
//! is escaped: names of engines, settings and commands come from files that anybody may have written.

use std::fmt::{Display, Write};

/// An attribute: a name, and a value that is escaped.
pub(super) type Attribute<'a> = (&'static str, &'a dyn Display);

/// HTML or SVG text.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// The text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Adds text of this program, as it is.
    pub(super) fn raw(&mut self, text: &'static str) {
        self.0.push_str(text);
    }

    /// Adds text, escaped.
    pub(super) fn text(&mut self, text: impl Display) {
        escape(&text, &mut self.0);
    }

    /// Adds an element, with what `inside` adds in it.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: &[Attribute<'_>],
        inside: impl FnOnce(&mut Self),
    ) {
        self.start(name, attributes);
        self.0.push('>');
        inside(self);
        let _ = write!(self.0, "</{name}>");
    }

    /// Adds an element with text.
    pub(super) fn leaf(
        &mut self,
        name: &'static str,
        attributes: &[Attribute<'_>],
        text: impl Display,
    ) {
        self.element(name, attributes, |inside| inside.text(text));
    }

    /// Adds an SVG element with nothing in it.
    pub(super) fn shape(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.start(name, attributes);
        self.0.push_str("/>");
    }

    fn start(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            let _ = write!(self.0, " {name}=\"");
            escape(value, &mut self.0);
            self.0.push('"');
        }
    }
}

/// A coordinate: tenths are fine enough.
pub(super) fn at(value: f64) -> impl Display {
    format!("{value:.1}")
}

fn escape(text: &dyn Display, out: &mut String) {
    for character in text.to_string().chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in HTML and SVG.
            control if control.is_control() && !matches!(control, '\n' | '\t') => {
                out.push('\u{fffd}')
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_cannot_become_markup() {
        let mut markup = Markup::default();
        markup.element("a", &[("title", &"\"><script>'&")], |inside| inside.text("</a>\0<b>"));
        assert_eq!(
            markup.into_text(),
            "<a title=\"&quot;&gt;&lt;script&gt;&#39;&amp;\">&lt;/a&gt;\u{fffd}&lt;b&gt;</a>"
        );
    }
}
