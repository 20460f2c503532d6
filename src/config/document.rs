//! The text of a settings file as a tree, in which every fault can be placed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{ConfigError, Position};
use super::file::FileConfig;
use super::nearest;
use super::schema::{KEYS, Section, key, section};

/// A settings file that is well-formed TOML and holds only known keys.
pub(super) struct Document<'t> {
    text: &'t str,
    path: &'t Path,
    tree: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    pub(super) fn parse(text: &'t str, path: &'t Path) -> Result<Self, ConfigError> {
        let tree = DeTable::parse(text).map_err(|error| {
            let position = position(text, path, error.span().unwrap_or_default().start);
            let problem = format!("this is no TOML: {}", error.message().replace('\n', ", "));
            ConfigError::at(position, String::new(), problem)
        })?;
        let document = Self { text, path, tree };
        document.refuse_unknown(document.tree.get_ref(), Section::TOP)?;
        Ok(document)
    }

    /// The values as written.
    pub(super) fn read(&self) -> Result<FileConfig, ConfigError> {
        use serde::Deserialize;
        FileConfig::deserialize(Deserializer::from(self.tree.clone())).map_err(|error| {
            let span = error.span().unwrap_or_default();
            let message = error.message();
            let missing = message
                .strip_prefix("missing field `")
                .and_then(|rest| rest.strip_suffix('`'));
            match missing {
                Some(name) => self.missing(span, name),
                None => self.refused_value(span, message),
            }
        })
    }

    /// A fault at this place of the text.
    pub(super) fn fault(&self, span: Range<usize>, problem: impl Into<String>) -> ConfigError {
        let key = path_at(self.tree.get_ref(), span.start).unwrap_or_default();
        ConfigError::at(self.position(span.start), key.join("."), problem)
    }

    /// A path from the file: relative ones start at the file's folder.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        match self.path.parent() {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }

    fn position(&self, offset: usize) -> Position {
        position(self.text, self.path, offset)
    }

    fn missing(&self, span: Range<usize>, name: &str) -> ConfigError {
        let path = path_at(self.tree.get_ref(), span.start).unwrap_or_default();
        let example = path
            .last()
            .and_then(|section| key(section, name))
            .map(|key| format!(": write {name} = {}", key.example))
            .unwrap_or_default();
        ConfigError::at(
            self.position(span.start),
            path.join("."),
            format!("`{name}` is missing{example}"),
        )
    }

    fn refused_value(&self, span: Range<usize>, message: &str) -> ConfigError {
        let path = path_at(self.tree.get_ref(), span.start).unwrap_or_default();
        let (name, section) = match path.as_slice() {
            [] => ("", Section::TOP),
            [name] => (name.as_str(), Section::TOP),
            [.., section, name] => (name.as_str(), section.as_str()),
        };
        let example = key(section, name)
            .map(|key| format!("; write {name} = {}", key.example))
            .unwrap_or_default();
        ConfigError::at(
            self.position(span.start),
            path.join("."),
            format!("{message}{example}"),
        )
    }

    fn refuse_unknown(&self, table: &DeTable<'_>, inside: &str) -> Result<(), ConfigError> {
        for (name, value) in table {
            let known = key(inside, name.get_ref()).is_some();
            let nested = section(inside, name.get_ref());
            if !known && nested.is_none() {
                let problem = unknown(inside, name.get_ref());
                return Err(self.fault(name.span(), problem));
            }
            let Some(nested) = nested else { continue };
            match value.get_ref() {
                DeValue::Table(table) => self.refuse_unknown(table, nested.name)?,
                DeValue::Array(tables) => {
                    for table in tables.iter().filter_map(|table| table.get_ref().as_table()) {
                        self.refuse_unknown(table, nested.name)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unknown(inside: &str, name: &str) -> String {
    let siblings = KEYS
        .iter()
        .filter(|key| key.section == inside)
        .map(|key| key.name)
        .chain(
            super::schema::SECTIONS
                .iter()
                .filter(|nested| nested.inside == inside)
                .map(|nested| nested.name),
        );
    if let Some(other) = nearest(name, siblings) {
        return format!("no such key; did you mean `{other}`?");
    }
    match KEYS.iter().find(|key| key.name == name) {
        Some(key) if key.section.is_empty() => {
            "no such key here; it belongs above the first section".to_owned()
        }
        Some(key) => format!("no such key here; it belongs in [{}]", key.section),
        None => "no such key; `stopgap config schema` lists them all".to_owned(),
    }
}

/// The keys that lead to what stands at `offset`.
fn path_at(table: &DeTable<'_>, offset: usize) -> Option<Vec<String>> {
    for (name, value) in table {
        let inner = match value.get_ref() {
            DeValue::Table(table) => path_at(table, offset),
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| item.get_ref().as_table())
                .find_map(|table| path_at(table, offset)),
            _ => None,
        };
        let inside_array = value
            .get_ref()
            .as_array()
            .is_some_and(|items| items.iter().any(|item| item.span().contains(&offset)));
        let here = name.span().contains(&offset) || value.span().contains(&offset) || inside_array;
        if inner.is_some() || here {
            let mut path = vec![name.get_ref().to_string()];
            path.extend(inner.into_iter().flatten());
            return Some(path);
        }
    }
    None
}

pub(super) fn position(text: &str, path: &Path, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    Position {
        file: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1,
    }
}
