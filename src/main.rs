//! The `gpuwhy` program: everything it does is in the library.

fn main() -> std::process::ExitCode {
    gpuwhy::app::main()
}
