//! How a manifest's `source:` section becomes a [`Source`].

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result, ServiceName, Source, nearest};

/// A kind of store that services keep data in.
pub trait Connector: Debug + Send + Sync {
    /// The word after `connector:` in a manifest, lower case.
    fn kind(&self) -> &'static str;

    /// The keys that may stand beside `connector:`. The manifest parser refuses any other.
    fn options(&self) -> &'static [OptionDef];

    /// The ways in which a source's changes can be followed, for a manifest's `feed:` section; none where there is none.
    fn feeds(&self) -> &'static [FeedDef] {
        &[]
    }

    /// Opens a source. Does no I/O: wrong options fail here, an unreachable store does not.
    fn open(&self, context: OpenContext<'_>, options: &Options) -> Result<Arc<dyn Source>>;

    /// The same for a service whose manifest switches a feed on: [`Source::feed`] then returns it.
    fn open_followed(
        &self,
        _context: OpenContext<'_>,
        _options: &Options,
        feed: &FeedOptions,
    ) -> Result<Arc<dyn Source>> {
        Err(Error::config(format!("connector \"{}\" has no feed \"{}\"", self.kind(), feed.mode)))
    }
}

/// A way in which a connector follows a source's changes.
#[derive(Debug, Clone, Copy)]
pub struct FeedDef {
    /// The word after `mode:` in a manifest's `feed:` section, lower case.
    pub mode: &'static str,
    /// The keys that may stand beside `mode:`.
    pub options: &'static [OptionDef],
    /// What it reads, in a sentence.
    pub doc: &'static str,
}

/// What a manifest's `feed:` section says, checked against its connector's [`FeedDef`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedOptions {
    /// One of the connector's modes.
    pub mode: String,
    /// The options of the mode.
    pub options: Options,
}

impl FeedOptions {
    /// Checks a mode and its options: an unknown mode or key and a wrong kind are errors that name it.
    pub fn check(feeds: &[FeedDef], mode: &str, values: BTreeMap<String, OptionValue>) -> Result<Self> {
        let Some(feed) = feeds.iter().find(|feed| feed.mode == mode) else {
            let hint = nearest(mode, feeds.iter().map(|feed| feed.mode))
                .map(|name| format!("; did you mean \"{name}\"?"))
                .unwrap_or_default();
            return Err(Error::config(format!("unknown mode \"{mode}\" in \"feed\"{hint}")));
        };
        Ok(Self { mode: mode.to_owned(), options: Options::check_in("feed", feed.options, values)? })
    }
}

/// What a connector is told of the service whose store it opens.
#[derive(Debug, Clone, Copy)]
pub struct OpenContext<'a> {
    /// The service, for error messages.
    pub service: &'a ServiceName,
    /// The directory of the manifest, against which relative paths are resolved.
    pub directory: &'a Path,
}

impl OpenContext<'_> {
    /// A path as a manifest means it: relative to the manifest's directory.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }
}

/// A key of a manifest's `source:` section.
#[derive(Debug, Clone, Copy)]
pub struct OptionDef {
    /// The key.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: OptionKind,
    /// Whether it must be there.
    pub required: bool,
    /// What it means, with its unit and default. One sentence or two.
    pub doc: &'static str,
}

/// The kind of value that an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Text.
    Text,
    /// Text that holds a credential: never printed.
    Secret,
    /// A whole number, zero or more.
    Count,
    /// `true` or `false`.
    Flag,
    /// One of the words.
    Word(&'static [&'static str]),
}

/// The value of an option.
#[derive(Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// Text, for [`OptionKind::Text`], [`OptionKind::Secret`] and [`OptionKind::Word`].
    Text(String),
    /// A whole number.
    Count(u64),
    /// A flag.
    Flag(bool),
}

/// The options of one source, checked against its connector's [`OptionDef`]s.
///
/// Prints keys only: any value may hold a credential.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, OptionValue>);

impl Options {
    /// Checks values against definitions: unknown and missing keys and wrong kinds are errors that name the key.
    pub fn check(definitions: &[OptionDef], values: BTreeMap<String, OptionValue>) -> Result<Self> {
        Self::check_in("source", definitions, values)
    }

    /// The same for another section of the manifest.
    pub fn check_in(section: &str, definitions: &[OptionDef], values: BTreeMap<String, OptionValue>) -> Result<Self> {
        for (key, value) in &values {
            let Some(definition) = definitions.iter().find(|definition| definition.name == key) else {
                let hint = nearest(key, definitions.iter().map(|definition| definition.name))
                    .map(|name| format!("; did you mean \"{name}\"?"))
                    .unwrap_or_default();
                return Err(Error::config(format!("unknown key \"{key}\" in \"{section}\"{hint}")));
            };
            definition.check(section, value)?;
        }
        match definitions.iter().find(|definition| definition.required && !values.contains_key(definition.name)) {
            Some(missing) => {
                Err(Error::config(format!("\"{section}\" lacks the key \"{}\": {}", missing.name, missing.doc)))
            }
            None => Ok(Self(values)),
        }
    }

    /// The text of an option, where it is set.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key) {
            Some(OptionValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The number of an option, or the default.
    pub fn count(&self, key: &str, default: u64) -> u64 {
        match self.0.get(key) {
            Some(OptionValue::Count(count)) => *count,
            _ => default,
        }
    }

    /// The flag of an option, or the default.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        match self.0.get(key) {
            Some(OptionValue::Flag(flag)) => *flag,
            _ => default,
        }
    }
}

impl OptionKind {
    /// What a value of this kind is, for "takes ...".
    pub fn expected(&self) -> String {
        match self {
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Count => "a whole number".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
        }
    }
}

impl OptionDef {
    fn check(&self, section: &str, value: &OptionValue) -> Result<()> {
        match (self.kind, value) {
            (OptionKind::Text | OptionKind::Secret, OptionValue::Text(_))
            | (OptionKind::Count, OptionValue::Count(_))
            | (OptionKind::Flag, OptionValue::Flag(_)) => Ok(()),
            (OptionKind::Word(words), OptionValue::Text(text)) if words.contains(&text.as_str()) => Ok(()),
            _ => Err(Error::config(format!("key \"{}\" in \"{section}\" takes {}", self.name, self.kind.expected()))),
        }
    }
}

impl Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITIONS: &[OptionDef] = &[
        OptionDef { name: "url", kind: OptionKind::Secret, required: true, doc: "Where." },
        OptionDef { name: "pool_size", kind: OptionKind::Count, required: false, doc: "How many." },
        OptionDef { name: "sslmode", kind: OptionKind::Word(&["disable", "require"]), required: false, doc: "TLS." },
    ];

    fn check(values: &[(&str, OptionValue)]) -> Result<Options> {
        Options::check(DEFINITIONS, values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    fn text(value: &str) -> OptionValue {
        OptionValue::Text(value.to_owned())
    }

    #[test]
    fn unknown_missing_and_misshapen_options_are_named() {
        let message =
            |values: &[(&str, OptionValue)]| check(values).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(message(&[("ulr", text("x"))]), "unknown key \"ulr\" in \"source\"; did you mean \"url\"?");
        assert_eq!(message(&[]), "\"source\" lacks the key \"url\": Where.");
        assert_eq!(
            message(&[("url", text("x")), ("pool_size", text("many"))]),
            "key \"pool_size\" in \"source\" takes a whole number"
        );
        assert_eq!(
            message(&[("url", text("x")), ("sslmode", text("maybe"))]),
            "key \"sslmode\" in \"source\" takes one of disable, require"
        );
    }

    #[test]
    fn options_print_keys_and_never_values() {
        let options = check(&[("url", text("postgres://u:canary@h/d"))]).ok();
        let printed = format!("{options:?}");
        assert!(printed.contains("url") && !printed.contains("canary"), "{printed}");
    }
}
