//! The sidecar's binary: everything is in [`stopgap::cli`].

#![deny(unsafe_code)]

fn main() -> std::process::ExitCode {
    stopgap::cli::sidecar_main()
}
