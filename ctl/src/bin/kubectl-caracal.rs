//! `caracalctl` under the name by which kubectl starts it: `kubectl caracal get nodes`.

use std::process::ExitCode;

fn main() -> ExitCode {
    caracal_ctl::main()
}
