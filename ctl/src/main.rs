//! The program `caracalctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    caracal_ctl::main()
}
