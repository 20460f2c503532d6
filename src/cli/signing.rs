//! Keys, signatures and the files they go to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::Exit;
use super::exit::{Failure, OrExit};
use super::publishing::SigningArguments;
use crate::signature::envelope::{Envelope, KEY_FILE_BYTES, KeyPair, PublicKey};

/// The most octets read of what a signer writes; a signature has 64.
const SIGNER_OUTPUT: u64 = 1_024;

impl SigningArguments {
    /// Whether anybody is to sign.
    pub(super) fn is_empty(&self) -> bool {
        self.key.is_empty() && self.signer.is_empty()
    }

    /// Adds the signatures of everybody who is to sign.
    pub(super) fn sign(&self, envelope: &mut Envelope) -> Result<(), Failure> {
        if self.signer.len() != self.signer_key.len() {
            let text = "give a --signer-key for each --signer, in the same order";
            return Err(Failure::new(Exit::Usage, text));
        }
        for path in &self.key {
            let content = read(path, KEY_FILE_BYTES)?;
            let key = KeyPair::from_pem(&content).map_err(|error| about(path, error))?;
            envelope.sign(&key).or_exit(Exit::Invalid)?;
        }
        for (command, path) in self.signer.iter().zip(&self.signer_key) {
            let key = public_key(path)?;
            let signature = run_signer(command, envelope.message())?;
            envelope.attach(&key, &signature).or_exit(Exit::Untrusted)?;
        }
        Ok(())
    }

    /// The same where somebody must sign.
    pub(super) fn must_sign(&self, envelope: &mut Envelope) -> Result<(), Failure> {
        match self.is_empty() {
            true => Err(Failure::new(
                Exit::Usage,
                "say who signs: --key FILE, or --signer COMMAND --signer-key FILE",
            )),
            false => self.sign(envelope),
        }
    }
}

/// The public key in this file.
pub(super) fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_pem(&read(path, KEY_FILE_BYTES)?).map_err(|error| about(path, error))
}

/// A file's content; one octet more than `limit` at most, so that its reader refuses a longer one.
pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut content))
        .map_err(|error| {
            let text = format!("{} cannot be read: {error}", path.display());
            Failure::new(Exit::Unreachable, text)
        })?;
    Ok(content)
}

/// What is wrong with the content of a file.
pub(super) fn about(path: &Path, error: impl std::error::Error) -> Failure {
    let text = format!("{}: {}", path.display(), crate::model::explain(&error));
    Failure::new(Exit::Invalid, text)
}

/// Writes a file that is not there yet; a secret one only for its owner.
pub(super) fn write_new(path: &Path, content: &[u8], secret: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(|error| unwritten(path, &error))
}

/// Replaces a file whole, so that whoever serves it never sees half of it.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    write_new(&new, content, false)?;
    fs::rename(&new, path).map_err(|error| {
        // What is left of it is nobody's.
        let _ = fs::remove_file(&new);
        unwritten(path, &error)
    })
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    let text = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!(
                "{path} is there already and is never overwritten: move it away, or name another"
            )
        }
        _ => format!("{path} cannot be written: {error}"),
    };
    Failure::new(Exit::Unreachable, text)
}

/// Runs a signer on these octets: what it writes.
fn run_signer(command: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |problem: &str| {
        let text = format!("the signer {command:?} {problem}");
        Failure::new(Exit::Unreachable, text)
    };
    let words = split_words(command)
        .filter(|words| !words.is_empty())
        .ok_or_else(|| Failure::new(Exit::Usage, "--signer has an open quotation, or no words"))?;
    // A file and no pipe: a signer may answer before it has read all, and some want to know the length first.
    let file = std::env::temp_dir().join(format!("stopgap-{}.octets", std::process::id()));
    write_new(&file, message, true)?;
    let ended = File::open(&file).and_then(|input| collect(&words, input));
    // Left behind it would only stop a later process of the same number.
    let _ = fs::remove_file(&file);
    match ended {
        Ok((signature, status)) if status.success() => Ok(signature),
        Ok((_, status)) => Err(failed(&format!("failed: {status}"))),
        Err(error) => Err(failed(&format!("cannot be run: {error}"))),
    }
}

/// Runs a command to its end: what it wrote, as far as it is read, and how it ended.
fn collect(words: &[String], input: File) -> io::Result<(Vec<u8>, ExitStatus)> {
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut signature = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(SIGNER_OUTPUT).read_to_end(&mut signature)?;
    }
    Ok((signature, child.wait()?))
}

/// The words of a command: white space separates, quotation marks of either kind hold together. `None` when one is open.
fn split_words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '"' | '\'' => {
                let held = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        end if end == letter => break,
                        other => held.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_without_a_shell() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("", Some(&[])),
            (" a  b\tc ", Some(&["a", "b", "c"])),
            ("a 'b c' \"d e\"", Some(&["a", "b c", "d e"])),
            ("a --x='1 2'3 ''", Some(&["a", "--x=1 23", ""])),
            (
                "a $(b) `c` ; d > e",
                Some(&["a", "$(b)", "`c`", ";", "d", ">", "e"]),
            ),
            ("a 'b", None),
            ("a \"b'", None),
        ];
        for (command, words) in cases {
            let found = split_words(command);
            let found: Option<Vec<&str>> = found
                .as_ref()
                .map(|words| words.iter().map(String::as_str).collect());
            assert_eq!(found.as_deref(), *words, "{command}");
        }
    }
}
