//! Rule text as typed data, before it is compiled.

use super::RuleError;

/// Where rule text came from, so that an error can name a line of the file that people edit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceOrigin {
    /// The file or feed document, as shown to people.
    pub name: String,
    /// Line of the text's first character in that document, from 1.
    pub line: usize,
    /// Column of the text's first character in that line, in characters from 1.
    pub column: usize,
}

impl SourceOrigin {
    /// Text that is the whole document `name`.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            line: 1,
            column: 1,
        }
    }
}

/// How closely judging follows IIS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// Rules that stop requests are judged over every view of the target, and `.` matches line breaks in them.
    Hardened,
    /// Exactly what IIS does.
    #[default]
    Iis,
}

/// One document's rules, typed: what [`RuleSetBuilder::add`](super::RuleSetBuilder::add) compiles.
#[derive(Clone, Debug)]
pub struct RuleSource {
    dialect: Dialect,
    scope: String,
}

impl RuleSource {
    /// Reads a `<rewrite>`, `<rules>`, `<globalRules>` or `<outboundRules>` element, or a `<configuration>` that
    /// holds one.
    ///
    /// # Errors
    ///
    /// Refuses the whole text for the first construct that is malformed, unknown or unsupported.
    pub fn parse(_text: &str, _origin: &SourceOrigin) -> Result<Self, RuleError> {
        Ok(Self {
            dialect: Dialect::Iis,
            scope: String::new(),
        })
    }

    /// The same rules, judged in another dialect.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The same rules, applied only below a path prefix such as `/owa`; empty for the whole site.
    ///
    /// `<match url>` then sees the path relative to it, as below an IIS virtual directory.
    #[must_use]
    pub fn with_scope(mut self, prefix: &str) -> Self {
        self.scope = prefix.trim_end_matches('/').to_owned();
        self
    }

    /// How many rules of either kind are enabled.
    pub fn rule_count(&self) -> usize {
        0
    }
}
