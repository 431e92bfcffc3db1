//! The coordinator's process; everything is in the library.

fn main() -> std::process::ExitCode {
    windlass_coordinator::main()
}
