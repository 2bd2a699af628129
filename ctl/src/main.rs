//! The program `caracalctl`, also `kubectl-caracal`.

use std::process::ExitCode;

use caracal_ctl::args::Arguments;
use caracal_ctl::{Access, Terminal};
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
        Err(error) => return fail(&format!("cannot start: {error}"), false, 1),
    };
    let terminal = Terminal::of_process();
    match runtime.block_on(caracal_ctl::run(arguments, &terminal, &Access::Environment)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure.to_string(), failure.is_on_stdout(), failure.code()),
    }
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "messages of a command line program go to stderr, and a few of calicoctl's to stdout"
)]
fn fail(text: &str, on_stdout: bool, code: u8) -> ExitCode {
    match (text.is_empty(), on_stdout) {
        (true, _) => {}
        (false, true) => println!("{text}"),
        (false, false) => eprintln!("{text}"),
    }
    ExitCode::from(code)
}
