//! From the events of a YAML parser to a tree, bounded in depth and free of anchors: nothing in a contract needs them,
//! and their expansion can be a thousand times the file.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::{Node, Value};
use crate::gates::error::{Error, Place, Result};

const DEPTH_MAX: usize = 64;

/// A list or map whose end has not been seen.
enum Open {
    List(Vec<Node>),
    Map { members: Vec<(String, Node)>, key: Option<(String, usize)> },
}

pub(super) fn parse(file: &str, text: &str) -> Result<Node> {
    let mut tree = Tree { file, open: Vec::new(), root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            tree.error(error.marker().line(), &error.info(), "correct the YAML syntax at or before this line")
        })?;
        tree.take(event, span.start.line())?;
    }
    tree.root.ok_or_else(|| Error::Document {
        place: Place { file: file.into(), line: None, path: String::new() },
        problem: "the document is empty".into(),
        remedy: "write the contract into it".into(),
    })
}

struct Tree<'a> {
    file: &'a str,
    open: Vec<(Open, usize)>,
    root: Option<Node>,
}

impl Tree<'_> {
    fn error(&self, line: usize, problem: &str, remedy: &str) -> Error {
        let place = Place { file: self.file.into(), line: Some(line), path: self.path() };
        Error::Document { place, problem: problem.into(), remedy: remedy.into() }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for (open, _) in &self.open {
            match open {
                Open::List(items) => path.push_str(&format!("[{}]", items.len())),
                Open::Map { key: Some((key, _)), .. } if path.is_empty() => path.push_str(key),
                Open::Map { key: Some((key, _)), .. } => path.push_str(&format!(".{key}")),
                Open::Map { .. } => {}
            }
        }
        path
    }

    fn take(&mut self, event: Event<'_>, line: usize) -> Result<()> {
        let anchored = match &event {
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) => {
                *anchor > 0
            }
            Event::Alias(_) => true,
            _ => false,
        };
        if anchored {
            return Err(self.error(line, "anchors and aliases are not read", "write the value out where it is used"));
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(self.error(line, "more than one document", "keep one document in a file"))
            }
            Event::Scalar(text, style, ..) => self.scalar(text.into_owned(), style, line),
            Event::SequenceStart(..) => self.start(Open::List(Vec::new()), line),
            Event::MappingStart(..) => self.start(Open::Map { members: Vec::new(), key: None }, line),
            Event::SequenceEnd | Event::MappingEnd => self.end(line),
            _ => Ok(()),
        }
    }

    fn start(&mut self, open: Open, line: usize) -> Result<()> {
        if self.open.len() >= DEPTH_MAX {
            return Err(self.error(line, "nested too deeply", "use at most 64 levels"));
        }
        if matches!(self.open.last(), Some((Open::Map { key: None, .. }, _))) {
            return Err(self.error(line, "a list or a map is used as a key", "use a text as the key"));
        }
        self.open.push((open, line));
        Ok(())
    }

    fn end(&mut self, line: usize) -> Result<()> {
        let Some((open, started)) = self.open.pop() else {
            return Err(self.error(line, "an end without a start", "correct the indentation"));
        };
        let value = match open {
            Open::List(items) => Value::List(items),
            Open::Map { members, .. } => Value::Map(members),
        };
        self.put(Node { line: Some(started), value });
        Ok(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, line: usize) -> Result<()> {
        if let Some((Open::Map { members, key: key @ None }, _)) = self.open.last_mut() {
            if !members.iter().any(|(name, _)| *name == text) {
                *key = Some((text, line));
                return Ok(());
            }
            return Err(self.error(line, &format!("the key {text:?} stands twice"), "keep one of them"));
        }
        let plain = style == ScalarStyle::Plain;
        let null = plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        // The parser places an empty value at the next token; the line of its key is what a person looks for.
        let line = match self.open.last() {
            Some((Open::Map { key: Some((_, key_line)), .. }, _)) if null => *key_line,
            _ => line,
        };
        let value = if null { Value::Null } else { Value::Scalar { text, plain } };
        self.put(Node { line: Some(line), value });
        Ok(())
    }

    fn put(&mut self, mut node: Node) {
        match self.open.last_mut() {
            Some((Open::List(items), _)) => items.push(node),
            Some((Open::Map { members, key }, _)) => {
                if let Some((key, line)) = key.take() {
                    node.line = Some(node.line.unwrap_or(line));
                    members.push((key, node));
                }
            }
            None => self.root = Some(node),
        }
    }
}
