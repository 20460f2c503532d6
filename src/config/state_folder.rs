//! Where the state folder is when no setting says so.

use std::ffi::OsString;
use std::path::PathBuf;

/// The state folder that the environment names.
///
/// `STOPGAP_STATE_DIR` wins; then `STATE_DIRECTORY`, which systemd sets (its first entry, since systemd lists several
/// with colons); then `stopgap` below the state folder of the XDG base directory specification, which is
/// `XDG_STATE_HOME`, or `.local/state` below `HOME`. Relative values of the latter are ignored, as that specification
/// demands. `None` when nothing of it is set.
pub fn state_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("STOPGAP_STATE_DIR") {
        return Some(folder.into());
    }
    if let Some(folders) = set("STATE_DIRECTORY") {
        let first = folders
            .to_string_lossy()
            .split(':')
            .next()
            .map(PathBuf::from);
        return first;
    }
    let absolute = |name: &str| {
        set(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("stopgap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_that_is_set_wins() {
        let all = [
            ("STOPGAP_STATE_DIR", "/own"),
            ("STATE_DIRECTORY", "/unit:/other"),
            ("XDG_STATE_HOME", "/xdg"),
            ("HOME", "/home/me"),
        ];
        let expected = [
            Some("/own"),
            Some("/unit"),
            Some("/xdg/stopgap"),
            Some("/home/me/.local/state/stopgap"),
            None,
        ];
        for (skip, folder) in expected.into_iter().enumerate() {
            let lookup = |name: &str| {
                all[skip..]
                    .iter()
                    .find(|(other, _)| *other == name)
                    .map(|(_, value)| OsString::from(value))
            };
            assert_eq!(state_folder(lookup), folder.map(PathBuf::from), "{skip}");
        }
    }

    #[test]
    fn empty_and_relative_values_do_not_count() {
        let lookup = |name: &str| {
            Some(OsString::from(match name {
                "XDG_STATE_HOME" => "relative",
                "HOME" => "/home/me",
                _ => "",
            }))
        };
        assert_eq!(
            state_folder(lookup),
            Some(PathBuf::from("/home/me/.local/state/stopgap"))
        );
    }
}
