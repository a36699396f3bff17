//! Values printed with their structure: the punctuation as text, each key and leaf as a character that stands for it.

use serde_json::Value as Json;

use super::{Refusal, Sink, Slot};

/// A value whose structure is printed.
pub(crate) enum Tree {
    /// A string, number, boolean or null.
    Leaf(Json),
    List(Vec<Tree>),
    /// In the order in which it is printed.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The value as JSON in one line. `: ` and `, ` keep their spaces: without them YAML would read one scalar.
    pub(crate) fn json(self, sink: &Sink) -> Result<String, Refusal> {
        let mut writer = Writer { sink, text: String::new() };
        writer.json(self)?;
        Ok(writer.text)
    }

    /// The value as YAML in block style, without a line break at the end.
    pub(crate) fn yaml(self, sink: &Sink) -> Result<String, Refusal> {
        let mut writer = Writer { sink, text: String::new() };
        writer.yaml(self, 0, true)?;
        Ok(writer.text)
    }
}

struct Writer<'s> {
    sink: &'s Sink,
    text: String,
}

impl Writer<'_> {
    fn json(&mut self, tree: Tree) -> Result<(), Refusal> {
        match tree {
            Tree::Leaf(leaf) => self.put(Slot::Leaf(leaf))?,
            Tree::List(items) => {
                self.text.push('[');
                for (index, item) in items.into_iter().enumerate() {
                    if index > 0 {
                        self.text.push_str(", ");
                    }
                    self.json(item)?;
                }
                self.text.push(']');
            }
            Tree::Map(entries) => {
                self.text.push('{');
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    if index > 0 {
                        self.text.push_str(", ");
                    }
                    self.put(Slot::Key(key))?;
                    self.text.push_str(": ");
                    self.json(value)?;
                }
                self.text.push('}');
            }
        }
        Ok(())
    }

    /// `here` says that the value begins where a line, or a list item's dash, has just been written.
    fn yaml(&mut self, tree: Tree, depth: usize, here: bool) -> Result<(), Refusal> {
        match tree {
            Tree::Leaf(leaf) => {
                self.space_unless(here);
                self.put(Slot::Leaf(leaf))?;
            }
            Tree::List(items) if items.is_empty() => {
                self.space_unless(here);
                self.text.push_str("[]");
            }
            Tree::Map(entries) if entries.is_empty() => {
                self.space_unless(here);
                self.text.push_str("{}");
            }
            Tree::List(items) => {
                for (index, item) in items.into_iter().enumerate() {
                    self.line_unless(here && index == 0, depth);
                    self.text.push_str("- ");
                    self.yaml(item, depth + 1, true)?;
                }
            }
            Tree::Map(entries) => {
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    self.line_unless(here && index == 0, depth);
                    self.put(Slot::Key(key))?;
                    self.text.push(':');
                    self.yaml(value, depth + 1, false)?;
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, slot: Slot) -> Result<(), Refusal> {
        self.text.push(self.sink.put(slot)?);
        Ok(())
    }

    fn space_unless(&mut self, here: bool) {
        if !here {
            self.text.push(' ');
        }
    }

    fn line_unless(&mut self, here: bool, depth: usize) {
        if !here {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n("  ", depth));
        }
    }
}
