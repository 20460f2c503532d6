//! Rule sets of cases, compiled once for as long as cases of the same rules come.

use std::sync::Arc;

use super::case::{Case, Context, Text};
use crate::rules::{
    Dialect, FileTree, RuleError, RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin,
};

/// How many sets are kept: lines of a file mostly share theirs with the line before.
const MAX_SETS: usize = 16;

/// Compiles the rules of cases, and keeps the sets used last.
#[derive(Debug)]
pub(super) struct Sets {
    pub(super) dialect: Dialect,
    /// For cases without rules of their own.
    pub(super) given: Option<RuleSource>,
    /// The one used last at the front.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    set: Result<RuleSet, RuleError>,
}

/// Everything that a compiled set depends on.
#[derive(Debug)]
struct Key {
    rules: Option<String>,
    parents: Vec<String>,
    files: Vec<String>,
    dirs: Vec<String>,
    variables: Vec<String>,
}

/// Files and directories that exist, as URL paths; letter case does not matter, as on Windows.
#[derive(Debug)]
struct Listed {
    files: Vec<String>,
    directories: Vec<String>,
}

impl FileTree for Listed {
    fn is_file(&self, path: &[u8]) -> bool {
        is_listed(&self.files, path)
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path == b"/" || is_listed(&self.directories, path)
    }
}

fn is_listed(paths: &[String], path: &[u8]) -> bool {
    let trimmed = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_ascii_lowercase();
    paths
        .iter()
        .any(|known| trimmed(known.as_bytes()) == trimmed(path))
}

impl Key {
    fn of(case: &Case<'_>) -> Self {
        let context = &case.context;
        let names = context.variables.0.iter().map(|(name, _)| name);
        Self {
            rules: case.rules_xml.as_ref().map(|text| text.as_str().to_owned()),
            parents: owned(context.parent_rules_xml.iter()),
            files: owned(context.files.iter()),
            dirs: owned(context.dirs.iter()),
            variables: owned(names),
        }
    }

    fn is_of(&self, case: &Case<'_>) -> bool {
        let context = &case.context;
        let names = context.variables.0.iter().map(|(name, _)| name);
        self.rules.as_deref() == case.rules_xml.as_ref().map(Text::as_str)
            && is_equal(&self.parents, context.parent_rules_xml.iter())
            && is_equal(&self.files, context.files.iter())
            && is_equal(&self.dirs, context.dirs.iter())
            && is_equal(&self.variables, names)
    }
}

fn owned<'t>(texts: impl Iterator<Item = &'t Text<'t>>) -> Vec<String> {
    texts.map(|text| text.as_str().to_owned()).collect()
}

fn is_equal<'t>(known: &[String], texts: impl Iterator<Item = &'t Text<'t>>) -> bool {
    known.iter().map(String::as_str).eq(texts.map(Text::as_str))
}

impl Sets {
    pub(super) const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            given: None,
            kept: Vec::new(),
        }
    }

    /// Judges every case that has no rules of its own by these.
    pub(super) fn give(&mut self, text: &str, origin: &SourceOrigin) -> Result<(), RuleError> {
        let source = self.in_dialect(RuleSource::parse(text, origin)?);
        compile(&source, &Context::default())?;
        self.given = Some(source);
        self.kept.clear();
        Ok(())
    }

    /// The rules of a case: its own below those of its parents, or those given for all.
    pub(super) fn of(&mut self, case: &Case<'_>) -> Result<&RuleSet, &RuleError> {
        match self.kept.iter().position(|kept| kept.key.is_of(case)) {
            Some(0) => {}
            Some(at) => self.kept[..=at].rotate_right(1),
            None => {
                let set = self.source(case);
                let set = set.and_then(|source| compile(&source, &case.context));
                let key = Key::of(case);
                self.kept.truncate(MAX_SETS - 1);
                self.kept.insert(0, Kept { key, set });
            }
        }
        self.kept[0].set.as_ref()
    }

    /// The hardened dialect is for all rules; otherwise a text chooses its own.
    fn in_dialect(&self, source: RuleSource) -> RuleSource {
        match self.dialect {
            Dialect::Hardened => source.with_dialect(Dialect::Hardened),
            Dialect::Iis => source,
        }
    }

    fn source(&self, case: &Case<'_>) -> Result<RuleSource, RuleError> {
        let parse = |text: &str, name: &str| {
            let origin = SourceOrigin::named(name);
            Ok(self.in_dialect(RuleSource::parse(text, &origin)?))
        };
        let own = match (&case.rules_xml, &self.given) {
            (Some(text), _) => parse(text.as_str(), "rules_xml")?,
            (None, Some(rules)) => rules.clone(),
            (None, None) => parse("<rules/>", "rules_xml")?,
        };
        let mut above: Option<RuleSource> = None;
        for text in &case.context.parent_rules_xml {
            let level = parse(text.as_str(), "parent_rules_xml")?;
            above = Some(match above {
                Some(above) => level.below(&above)?,
                None => level,
            });
        }
        match above {
            Some(above) => own.below(&above),
            None => Ok(own),
        }
    }
}

fn compile(source: &RuleSource, context: &Context<'_>) -> Result<RuleSet, RuleError> {
    let listed = Listed {
        files: owned(context.files.iter()),
        directories: owned(context.dirs.iter()),
    };
    let names = context.variables.0.iter().map(|(name, _)| name.as_str());
    // The root is empty, so that physical paths are the URL paths that the context lists.
    let mut builder = RuleSet::builder(RuleLimits::default())
        .with_document_root("", Some(Arc::new(listed)))
        .with_variables(names);
    builder.add(source, RuleOrigin::local("case"))?;
    Ok(builder.build())
}
