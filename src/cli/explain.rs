//! `stopgap explain`

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use super::command::{ExplainArguments, ExplainFormat};
use super::curl::{self, Written};
use super::exit::{Ended, Exit, Failure, OrExit};
use super::explanation::{self, Subject};
use super::print;
use crate::canon::{Refusals, refuse};
use crate::feed::{BUNDLED, LocalContent, LocalDocument, TypeAliases};
use crate::lab::Address;
use crate::model::{ActionKind, Mitigation, RewriteText, Scope};
use crate::rules::{
    Dialect, Explainer, RequestView, ResponseView, RuleError, RuleOrigin, RuleSource, SourceOrigin,
};

pub(super) fn explain(arguments: &ExplainArguments) -> Ended {
    let explainer = Explainer::new(sources(arguments)?).or_exit(Exit::Invalid)?;
    let written = request(arguments)?;
    let address = Address::parse(&written.url);
    let mut fields = written.fields;
    if !fields
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        fields.push(("Host".to_owned(), address.authority.clone()));
    }
    let request = RequestView {
        method: &written.method,
        target: address.target.as_bytes(),
        version: "HTTP/1.1",
        secure: address.secure,
        remote: arguments.remote.map(|ip| SocketAddr::new(ip, 0)),
        local: Some(SocketAddr::from(([127, 0, 0, 1], address.port()))),
        fields: &fields,
        variables: &[],
    };
    let response_fields = fields_of(&arguments.response_header)?;
    let body = arguments.response_body.as_deref().map(read_body);
    let body = body.transpose()?;
    let has_response = arguments.status.is_some() || !response_fields.is_empty() || body.is_some();
    let response = has_response.then(|| ResponseView {
        status: arguments.status.unwrap_or(200),
        reason: "",
        fields: &response_fields,
    });
    let explanation = match (&response, &body) {
        (Some(response), Some(body)) => explainer.explain_body(&request, response, body),
        _ => explainer.explain(&request, response.as_ref()),
    };
    let subject = Subject {
        method: &written.method,
        target: &address.target,
        refusal: refuse(address.target.as_bytes(), &Refusals::default()),
        rules: explainer.rules(),
        explanation: &explanation,
    };
    print(&match arguments.output {
        ExplainFormat::Json => explanation::json(&subject),
        ExplainFormat::Text => explanation::text(&subject),
    })
}

/// How much of a body is read, in octets: more than any rule rewrites of it.
const MAX_BODY: u64 = 64 << 20;

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let fault = |error: &dyn std::fmt::Display| {
        let text = format!("{name}: {error}");
        Failure::new(Exit::Unreachable, text)
    };
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(path).map_err(|error| fault(&error))?),
    };
    let mut body = Vec::new();
    let read = source.take(MAX_BODY + 1).read_to_end(&mut body);
    match read.map_err(|error| fault(&error))? as u64 > MAX_BODY {
        true => Err(fault(&format_args!("is longer than {MAX_BODY} octets"))),
        false => Ok(body),
    }
}

fn request(arguments: &ExplainArguments) -> Result<Written, Failure> {
    match &arguments.curl {
        Some(command) => curl::parse(command).or_exit(Exit::Usage),
        None => Ok(Written {
            method: arguments.method.clone().unwrap_or_else(|| "GET".to_owned()),
            url: arguments.url.clone().unwrap_or_default(),
            fields: fields_of(&arguments.header)?,
        }),
    }
}

fn fields_of(texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let fields: Result<_, _> = texts.iter().map(|text| curl::field(text)).collect();
    fields.or_exit(Exit::Usage)
}

type Sources = Vec<(RuleSource, RuleOrigin)>;

fn sources(arguments: &ExplainArguments) -> Result<Sources, Failure> {
    let mut reader = Reader {
        groups: &arguments.group,
        hardened: arguments.hardened,
        sources: Vec::new(),
    };
    match &arguments.rules {
        Some(path) => reader.file(path)?,
        None => {
            for (name, document) in BUNDLED {
                reader.document(name, document)?;
            }
        }
    }
    Ok(reader.sources)
}

/// Gathers the rules of documents, as the loader would for a server on which nothing is switched off.
struct Reader<'a> {
    groups: &'a [String],
    hardened: bool,
    sources: Sources,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::new(Exit::Invalid, format!("{name}: {error}")))?;
        self.document(&name, &bytes)
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let document = LocalDocument::parse(bytes, &TypeAliases::default())
            .map_err(|error| Failure::new(Exit::Invalid, format!("{name}: {}", error.explain())))?;
        let dialect = match self.hardened || document.hardened {
            true => Dialect::Hardened,
            false => Dialect::Iis,
        };
        let read = match document.content {
            LocalContent::Mitigations(offered) => {
                let mut mitigations = offered.mitigations.iter();
                mitigations.try_for_each(|mitigation| self.mitigation(mitigation, dialect, name))
            }
            LocalContent::Rules(text) => parse(&text, dialect, name).map(|source| {
                self.sources.push((source, RuleOrigin::local(name)));
            }),
        };
        read.or_exit(Exit::Invalid)
    }

    fn mitigation(
        &mut self,
        mitigation: &Mitigation,
        dialect: Dialect,
        name: &str,
    ) -> Result<(), RuleError> {
        let is_chosen = mitigation.group.is_empty() || self.groups.contains(&mitigation.group);
        if !is_chosen || mitigation.failure.is_some() {
            return Ok(());
        }
        for action in &mitigation.actions {
            let ActionKind::Rewrite(text) = &action.kind else {
                continue;
            };
            let mut source = parse(text, dialect, name)?;
            if let Scope::Site { path, .. } = &action.scope {
                source = source.with_scope(path);
            }
            let origin = RuleOrigin {
                mitigation: Some(mitigation.id.clone()),
                ..RuleOrigin::local(name)
            };
            self.sources.push((source, origin));
        }
        Ok(())
    }
}

fn parse(text: &RewriteText, dialect: Dialect, name: &str) -> Result<RuleSource, RuleError> {
    let origin = SourceOrigin {
        name: name.to_owned(),
        line: text.line,
        column: text.column,
    };
    Ok(RuleSource::parse(&text.xml, &origin)?.with_dialect(dialect))
}
