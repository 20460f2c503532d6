//! Completion scripts and the manual page, from the definitions of the commands.

use clap::CommandFactory;

use super::command::Arguments;
use super::exit::{Ended, Exit, OrExit};
use super::print;

pub(super) fn completions(shell: clap_complete::Shell) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "stopgap", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn manpage() -> Ended {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut page)
        .or_exit(Exit::Unreachable)?;
    print(&String::from_utf8_lossy(&page))
}
