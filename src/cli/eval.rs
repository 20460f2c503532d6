//! `stopgap eval`

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
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
    let cases: Box<dyn Read> = match arguments.cases.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let file = File::open(&arguments.cases).map_err(|error| {
                let text = format!("{}: {error}", arguments.cases.display());
                Failure::new(Exit::Unreachable, text)
            })?;
            Box::new(file)
        }
    };
    judge(evaluate, BufReader::with_capacity(BUFFER, cases))
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

/// How much is read and written at once, in octets.
const BUFFER: usize = 256 * 1024;

/// Answers every line in its order, and whatever is answered before it waits for more lines: the other side may be a
/// program that waits for the answer.
fn judge(mut evaluate: Evaluate, mut cases: BufReader<Box<dyn Read>>) -> Ended {
    let mut output = std::io::stdout().lock();
    let (mut line, mut answers) = (Vec::new(), Vec::with_capacity(BUFFER));
    loop {
        line.clear();
        let is_last = cases
            .read_until(b'\n', &mut line)
            .or_exit(Exit::Unreachable)?
            == 0;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            evaluate.line_into(text, &mut answers);
            answers.push(b'\n');
        }
        if is_last || cases.buffer().is_empty() || answers.len() >= BUFFER {
            match output.write_all(&answers).and_then(|()| output.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    return Ok(Exit::Done);
                }
                written => written.or_exit(Exit::Unreachable)?,
            }
            answers.clear();
        }
        if is_last {
            return Ok(Exit::Done);
        }
    }
}
