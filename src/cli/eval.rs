//! `stopgap eval`

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use super::command::EvalArguments;
use super::exit::{Ended, Exit, Failure, OrExit};
use crate::feed::{LocalContent, LocalDocument, TypeAliases};
use crate::lab::Evaluate;
use crate::rules::{Dialect, SourceOrigin};

pub(super) fn eval(arguments: &EvalArguments) -> Ended {
    let dialect = match arguments.hardened {
        true => Dialect::Hardened,
        false => Dialect::Iis,
    };
    let mut evaluate = Evaluate::new(dialect);
    if let Some(path) = &arguments.rules {
        evaluate = with_rules(evaluate, path)?;
    }
    let cases: Box<dyn BufRead> = match arguments.cases.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let file = File::open(&arguments.cases).map_err(|error| {
                let text = format!("{}: {error}", arguments.cases.display());
                Failure::new(Exit::Unreachable, text)
            })?;
            Box::new(BufReader::new(file))
        }
    };
    judge(&evaluate, cases)
}

fn with_rules(evaluate: Evaluate, path: &Path) -> Result<Evaluate, Failure> {
    let name = path.display().to_string();
    let invalid = |reason: String| Failure::new(Exit::Invalid, format!("{name}: {reason}"));
    let bytes = std::fs::read(path).map_err(|error| invalid(error.to_string()))?;
    let document = LocalDocument::parse(&bytes, &TypeAliases::default())
        .map_err(|error| invalid(error.explain()))?;
    match document.content {
        LocalContent::Rules(text) => {
            let origin = SourceOrigin {
                name,
                line: text.line,
                column: text.column,
            };
            evaluate
                .with_rules(&text.xml, &origin)
                .or_exit(Exit::Invalid)
        }
        LocalContent::Mitigations(_) => Err(invalid(
            "mitigations are judged by `stopgap check`; --rules takes rewrite rules".to_owned(),
        )),
    }
}

fn judge(evaluate: &Evaluate, mut cases: impl BufRead) -> Ended {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        if cases
            .read_until(b'\n', &mut line)
            .or_exit(Exit::Unreachable)?
            == 0
        {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        match writeln!(output, "{}", evaluate.line(text.trim_end())) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            written => written.or_exit(Exit::Unreachable)?,
        }
    }
    output.flush().or_exit(Exit::Unreachable)?;
    Ok(Exit::Done)
}
