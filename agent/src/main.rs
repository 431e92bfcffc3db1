//! The agent's binary; everything is in the library.

fn main() -> std::process::ExitCode {
    windlass_agent::main()
}
