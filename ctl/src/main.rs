//! The program `caracalctl`.

use std::process::ExitCode;

use caracal_ctl::args::Arguments;
use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_help = !error.use_stderr();
            // Nothing is left to do when even this cannot be printed.
            let _ = error.print();
            return if is_help {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    match runtime.block_on(caracal_ctl::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure.to_string()),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "messages of a command line program go to stderr"
)]
fn fail(text: &str) -> ExitCode {
    if !text.is_empty() {
        eprintln!("{text}");
    }
    ExitCode::FAILURE
}
