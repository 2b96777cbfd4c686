//! The `kubesim` command.

fn main() -> std::process::ExitCode {
    kubesim::cli::main(std::env::args_os())
}
