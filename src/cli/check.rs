//! `stopgap check`: what the loader would say of rules, without a loader running.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::CheckArguments;
use super::exit::{Ended, Exit, Failure};
use super::print;
use super::probe::probe;
use super::table::{Table, printable};
use crate::control::{RULE_FILE_LIMIT, rule_files};
use crate::feed::{BUNDLED, FeedDocument, LocalContent, LocalDocument, TypeAliases};
use crate::lab::honest;
use crate::lab::vectors::{self, Reading};
use crate::model::{Mitigation, RewriteText, explain};
use crate::rules::{Dialect, RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};

pub(super) fn check(arguments: &CheckArguments) -> Ended {
    if arguments.probe_upstream {
        return probe(arguments.config.as_deref());
    }
    let mut report = Report::new();
    if arguments.paths.is_empty() {
        report.bundled();
    }
    for path in files(&arguments.paths)? {
        report.file(&path);
    }
    let table = match arguments.cost {
        true => &report.costs,
        false => &report.table,
    };
    print(&table.render(arguments.output))?;
    for line in &report.remarks {
        eprintln!("{}", printable(line));
    }
    match report.worst {
        Exit::Done => Ok(Exit::Done),
        exit => Err(Failure::new(
            exit,
            format!("{} of {} failed", report.failed, report.judged),
        )),
    }
}

/// The files that these paths name: a folder stands for the `*.xml` in and below it.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = rule_files(path).map_err(|error| {
            Failure::new(
                Exit::Invalid,
                format!("{} cannot be listed: {error}", path.display()),
            )
        })?;
        if found.is_empty() {
            return Err(Failure::new(
                Exit::Invalid,
                format!("{} holds no *.xml", path.display()),
            ));
        }
        files.append(&mut found);
    }
    Ok(files)
}

/// What was found, in the order in which it was looked at.
pub(super) struct Report {
    pub(super) table: Table,
    /// What each request rule costs.
    costs: Table,
    pub(super) remarks: Vec<String>,
    pub(super) worst: Exit,
    pub(super) judged: usize,
    pub(super) failed: usize,
}

/// Where a document stands.
struct Standing<'a> {
    name: &'a str,
    dialect: Dialect,
    /// Whether an administrator wrote it, who may want honest requests to be stopped.
    local: bool,
    /// Whether it is a feed's and was verified: what has an unknown name in it is then no error.
    verified: bool,
}

impl Report {
    fn new() -> Self {
        Self {
            table: Table::new(&["mitigation", "source", "rules", "vectors", "result"]),
            costs: Table::new(&[
                "mitigation",
                "rule",
                "chosen by",
                "search",
                "bytes",
                "ns per byte",
            ]),
            remarks: Vec::new(),
            worst: Exit::Done,
            judged: 0,
            failed: 0,
        }
    }

    /// What the loader would say of a feed's document.
    pub(super) fn of_feed(name: &str, offered: &FeedDocument, verified: bool) -> Self {
        let mut report = Self::new();
        let standing = Standing {
            name,
            dialect: Dialect::Hardened,
            local: false,
            verified,
        };
        report.offered(offered, &standing);
        report
    }

    fn bundled(&mut self) {
        for (name, document) in BUNDLED {
            self.document(name, document, false);
        }
    }

    fn file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match read(path) {
            Ok(bytes) => self.document(&name, &bytes, true),
            Err(reason) => self.invalid("-", &name, &reason),
        }
    }

    fn document(&mut self, name: &str, bytes: &[u8], local: bool) {
        let document = match LocalDocument::parse(bytes, &TypeAliases::default()) {
            Ok(document) => document,
            Err(error) => return self.invalid("-", name, &error.explain()),
        };
        let standing = Standing {
            name,
            dialect: match document.hardened {
                true => Dialect::Hardened,
                false => Dialect::Iis,
            },
            local,
            verified: false,
        };
        match document.content {
            LocalContent::Mitigations(offered) => self.offered(&offered, &standing),
            LocalContent::Rules(text) => self.rules(&text, &standing),
        }
    }

    fn offered(&mut self, offered: &FeedDocument, standing: &Standing<'_>) {
        let name = standing.name;
        for notice in &offered.notices {
            self.remarks.push(format!("note: {name}: {notice}"));
        }
        for nameless in &offered.nameless {
            self.invalid(&nameless.id, name, &nameless.reason);
        }
        for mitigation in &offered.mitigations {
            self.mitigation(mitigation, standing);
        }
    }

    fn rules(&mut self, text: &RewriteText, standing: &Standing<'_>) {
        let origin = SourceOrigin {
            name: standing.name.to_owned(),
            line: text.line,
            column: text.column,
        };
        let set = RuleSource::parse(&text.xml, &origin)
            .and_then(|source| compile(source.with_dialect(standing.dialect), standing.name));
        match set {
            Ok(set) => self.judged("-", standing, &set, String::from("-"), None),
            Err(error) => self.invalid("-", standing.name, &explain(&error)),
        }
    }

    fn mitigation(&mut self, mitigation: &Mitigation, standing: &Standing<'_>) {
        let id = mitigation.id.to_string();
        if let Some(failure) = &mitigation.failure {
            return self.invalid(&id, standing.name, failure);
        }
        let reading = Reading {
            document: standing.name,
            dialect: standing.dialect,
            verified: standing.verified,
        };
        let compiled = vectors::sources(mitigation, reading)
            .and_then(|sources| vectors::compile(mitigation, &sources, standing.name));
        let set = match compiled {
            Ok(set) => set,
            Err(error) => return self.invalid(&id, standing.name, &explain(&error)),
        };
        let failures = vectors::judge(&set, mitigation);
        let all = mitigation.vectors.len();
        let passed = format!("{}/{all}", all - failures.len());
        for failure in &failures {
            self.remarks
                .push(format!("{id}: {}: {failure}", standing.name));
        }
        let failed = (!failures.is_empty()).then_some("vectors failed");
        self.judged(&id, standing, &set, passed, failed);
    }

    /// Adds a row for rules that could be compiled, after honest requests were judged by them.
    fn judged(
        &mut self,
        id: &str,
        standing: &Standing<'_>,
        set: &RuleSet,
        vectors: String,
        mut failed: Option<&'static str>,
    ) {
        let stops = honest::judge(set, &[]);
        if let Some(first) = stops.first() {
            let word = if standing.local { "warning: " } else { "" };
            self.remarks.push(format!(
                "{word}{id}: {}: stops {} requests that honest clients send; {first}",
                standing.name,
                stops.len()
            ));
            if !standing.local {
                failed = failed.or(Some("stops honest requests"));
            }
        }
        if failed.is_some() {
            self.fail(Exit::Failed);
        }
        self.cost(id, set);
        self.row(
            id,
            standing.name,
            set.rules().count().to_string(),
            vectors,
            failed.unwrap_or("ok"),
        );
    }

    fn cost(&mut self, id: &str, set: &RuleSet) {
        for cost in set.costs() {
            let worst = cost.worst.map(|worst| format!("{worst:.1}"));
            self.costs.row(vec![
                id.to_owned(),
                set.rule(cost.rule).name.clone(),
                cost.chosen,
                cost.search.to_owned(),
                cost.memory.to_string(),
                worst.unwrap_or_else(|| "by steps".to_owned()),
            ]);
        }
    }

    fn invalid(&mut self, id: &str, source: &str, reason: &str) {
        // A reason of the rules already begins with the file.
        let place = match reason.starts_with(source) {
            true => String::new(),
            false => format!("{source}: "),
        };
        let id_place = if id == "-" {
            String::new()
        } else {
            format!("{id}: ")
        };
        self.remarks.push(format!("{id_place}{place}{reason}"));
        self.fail(Exit::Invalid);
        self.row(id, source, "-".to_owned(), "-".to_owned(), "invalid");
    }

    fn row(&mut self, id: &str, source: &str, rules: String, vectors: String, result: &str) {
        self.judged += 1;
        self.table.row(vec![
            id.to_owned(),
            source.to_owned(),
            rules,
            vectors,
            result.to_owned(),
        ]);
    }

    /// Rules that are no rules weigh more than vectors that fail.
    fn fail(&mut self, exit: Exit) {
        self.failed += 1;
        if self.worst != Exit::Invalid {
            self.worst = exit;
        }
    }
}

fn compile(source: RuleSource, name: &str) -> Result<RuleSet, crate::rules::RuleError> {
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder.add(&source, RuleOrigin::local(name))?;
    Ok(builder.build())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    match bytes.len() > RULE_FILE_LIMIT {
        true => Err(format!("is larger than {RULE_FILE_LIMIT} bytes")),
        false => Ok(bytes),
    }
}
