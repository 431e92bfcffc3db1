//! `windlass`: the command line.

fn main() -> std::process::ExitCode {
    windlass_cli::main()
}
