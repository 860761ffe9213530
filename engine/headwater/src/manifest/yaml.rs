//! Reads the YAML that manifests are written in as a tree that knows its lines.
//!
//! Built from the parser's events rather than from its own tree, which ends at the first repeated key and recurses as deep as the
//! text does. Manifests need a part of YAML: mappings, lists and scalars. Anchors, aliases, merge keys, tags and
//! several documents are faults: a manifest is read by people, top to bottom.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr::{Scalar, ScalarStyle, Tag};
use saphyr_parser::{Event, Parser, ScanError};

use super::fault::{Faults, below, shown};

/// The deepest nesting that is read; a manifest has 4.
const DEPTH_MAX: usize = 16;

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    /// The line, counted from 1.
    pub line: usize,
    /// What stands there.
    pub value: Value,
}

/// A YAML value, resolved by the core schema.
#[derive(Debug)]
pub enum Value {
    /// Null, or nothing at all.
    Nothing,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number,
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Mapping(Vec<Entry>),
    /// What has its fault already.
    Refused,
}

/// A key and its value. Keys of a mapping differ.
#[derive(Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// Its value.
    pub node: Node,
}

impl Value {
    /// What it is, for messages; never the value itself.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nothing | Self::Refused => "nothing",
            Self::Flag(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Number => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// Parses the only document of a file; `None` where there is none or it can't be read, which is then a fault.
pub(super) fn parse(text: &str, faults: &mut Faults) -> Option<Node> {
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut tree = Tree { faults, open: Vec::new(), documents: 0, root: None };
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => tree.event(event, span.start.line())?,
            Err(error) => {
                tree.faults.add(syntax_line(&error, text), "", syntax_message(&error, text));
                return None;
            }
        }
    }
    tree.root
}

/// The line of a syntax error. The parser names the line where the scalar began that an indenting tab ended.
fn syntax_line(error: &ScanError, text: &str) -> usize {
    let line = error.marker().line();
    let tab = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let later = || text.lines().skip(line.saturating_sub(1)).position(tab).map(|lines| line + lines);
    if error.info().contains("tab") { later().unwrap_or(line) } else { line }
}

/// The parser's message, with what to do for the two slips that manifests invite.
fn syntax_message(error: &ScanError, text: &str) -> String {
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    let value = line.split_once(": ").map_or("", |(_, value)| value.trim());
    let hint = if value == "*" {
        "; write \"*\" in quotes"
    } else if line.contains("${") {
        "; inside {...} a ${VARIABLE} is written in quotes"
    } else {
        ""
    };
    format!("not YAML: {}{hint}", error.info())
}

struct Tree<'a> {
    faults: &'a mut Faults,
    open: Vec<Open>,
    documents: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not come yet.
enum Open {
    List { line: usize, nodes: Vec<Node> },
    Mapping { line: usize, entries: Vec<Entry>, lines: HashMap<String, usize>, key: Option<PendingKey> },
}

/// A key whose value has not come yet.
enum PendingKey {
    Name { key: String, line: usize },
    Refused,
}

impl Tree<'_> {
    /// Takes the next event; `None` ends the reading, after a fault.
    fn event(&mut self, event: Event<'_>, line: usize) -> Option<()> {
        match event {
            Event::DocumentStart(_) => return self.start_document(line),
            Event::Alias(_) => {
                self.fault(line, "an alias (*name) is not taken in a manifest; write the value itself");
                self.place(Node { line, value: Value::Refused });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(anchor, tag, line);
                self.scalar(text, style, line);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_properties(anchor, tag, line);
                return self.start(Open::List { line, nodes: Vec::new() }, line);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_properties(anchor, tag, line);
                let (entries, lines) = (Vec::new(), HashMap::new());
                return self.start(Open::Mapping { line, entries, lines, key: None }, line);
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn start_document(&mut self, line: usize) -> Option<()> {
        self.documents += 1;
        if self.documents > 1 {
            self.faults.add(line, "", "a second document begins here; write one file per service");
            return None;
        }
        Some(())
    }

    fn start(&mut self, open: Open, line: usize) -> Option<()> {
        if self.open.len() >= DEPTH_MAX {
            self.fault(line, &format!("nested more than {DEPTH_MAX} deep; a manifest never is"));
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn end(&mut self) {
        let node = match self.open.pop() {
            Some(Open::List { line, nodes }) => Node { line, value: Value::List(nodes) },
            Some(Open::Mapping { line, entries, .. }) => Node { line, value: Value::Mapping(entries) },
            None => return,
        };
        self.place(node);
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, line: usize) {
        if matches!(self.open.last(), Some(Open::Mapping { key: None, .. })) {
            return self.key(text.into_owned(), style, line);
        }
        let value = match Scalar::parse_from_cow_and_metadata(text, style, None) {
            Some(Scalar::Null) | None => Value::Nothing,
            Some(Scalar::Boolean(flag)) => Value::Flag(flag),
            Some(Scalar::Integer(number)) => Value::Integer(number),
            Some(Scalar::FloatingPoint(_)) => Value::Number,
            Some(Scalar::String(text)) => Value::Text(text.into_owned()),
        };
        self.place(Node { line, value });
    }

    fn key(&mut self, text: String, style: ScalarStyle, line: usize) {
        let pending = if text == "<<" && style == ScalarStyle::Plain {
            self.fault(line, "a merge key (<<) is not taken in a manifest; write the keys themselves");
            PendingKey::Refused
        } else {
            PendingKey::Name { key: text, line }
        };
        if let Some(Open::Mapping { key, .. }) = self.open.last_mut() {
            *key = Some(pending);
        }
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { nodes, .. }) => nodes.push(node),
            Some(Open::Mapping { entries, lines, key, .. }) => match key.take() {
                None => {
                    *key = Some(PendingKey::Refused);
                    if !matches!(node.value, Value::Refused) {
                        self.fault(node.line, "a key must be text");
                    }
                }
                Some(PendingKey::Refused) => {}
                Some(PendingKey::Name { key, line }) => match lines.get(&key) {
                    Some(first) => {
                        let message = format!("duplicate key; it stands on line {first} already");
                        let path = below(&self.path(), &key);
                        self.faults.add(line, &path, message);
                    }
                    None => {
                        lines.insert(key.clone(), line);
                        entries.push(Entry { key, line, node });
                    }
                },
            },
        }
    }

    fn refuse_properties(&mut self, anchor: usize, tag: Option<Cow<'_, Tag>>, line: usize) {
        // The parser counts anchors from 1.
        if anchor > 0 {
            self.fault(line, "an anchor (&name) is not taken in a manifest; remove it");
        }
        if tag.is_some() {
            self.fault(line, "a tag (!name) is not taken in a manifest; remove it");
        }
    }

    fn fault(&mut self, line: usize, message: &str) {
        let path = self.path();
        self.faults.add(line, &path, message);
    }

    /// The keys that lead here, joined by dots.
    fn path(&self) -> String {
        let keys = self.open.iter().filter_map(|open| match open {
            Open::Mapping { key: Some(PendingKey::Name { key, .. }), .. } => shown(key),
            _ => None,
        });
        keys.collect::<Vec<_>>().join(".")
    }
}
