//! stub
use std::process::ExitCode;

/// stub
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}

/// stub
pub fn sidecar_main() -> ExitCode {
    ExitCode::SUCCESS
}
