//! `stopgap keygen`

use std::path::{Path, PathBuf};

use super::exit::{Ended, Failure, OrExit};
use super::print;
use super::publishing::KeygenArguments;
use super::signing::write_new;
use super::{Exit, table::printable};
use crate::signature::envelope::KeyPair;

pub(super) fn keygen(arguments: &KeygenArguments) -> Ended {
    let (secret, public) = (with(&arguments.name, ".key"), with(&arguments.name, ".pub"));
    // Asked before the secret key is written, so that no half of a pair is left.
    if public.exists() {
        let text = format!(
            "{} is there already and is never overwritten: name another",
            public.display()
        );
        return Err(Failure::new(Exit::Unreachable, text));
    }
    let key = KeyPair::generate().or_exit(Exit::Unreachable)?;
    let content = key.to_pem().or_exit(Exit::Unreachable)?;
    write_new(&secret, content.as_bytes(), true)?;
    write_new(&public, key.public().to_pem().as_bytes(), false)?;
    print(&printable_lines(&[
        format!(
            "{}: the secret key; keep it off line, and a copy of it",
            secret.display()
        ),
        format!("{}: the public key {}", public.display(), key.public().id()),
    ]))
}

fn with(name: &Path, end: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn printable_lines(lines: &[String]) -> String {
    lines.iter().map(|line| printable(line) + "\n").collect()
}
