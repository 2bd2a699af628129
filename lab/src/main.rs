//! `caracal-lab`: a data centre on one machine. See the library of the same package.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use caracal_datastore::{Client, ConnectOptions};
use caracal_lab::apply::{Applier, read};
use caracal_lab::args::{ApplyArgs, Cli, UpArgs, Verb};
use caracal_lab::state::Layout;
use caracal_lab::{Error, Result, anchor, down, listen, probe, run_in, status, supervisor, up};
use clap::Parser as _;

/// A probe that could not be made: 1 and 2 are verdicts.
const PROBE_NOT_MADE: u8 = 3;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when the output is closed.
            let _ = error.print();
            return match error.exit_code() {
                0 => ExitCode::SUCCESS,
                _ if is_probe(std::env::args_os().skip(1)) => PROBE_NOT_MADE.into(),
                _ => ExitCode::from(2),
            };
        }
    };
    let on_error = if matches!(cli.verb, Verb::Probe(_)) {
        PROBE_NOT_MADE
    } else {
        1
    };
    run(cli).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "caracal-lab: {error}");
        on_error.into()
    })
}

/// Whether the verb of a command line that could not be read is `probe`.
fn is_probe(mut args: impl Iterator<Item = OsString>) -> bool {
    while let Some(arg) = args.next() {
        if arg == "--dir" {
            args.next();
        } else if !arg.as_encoded_bytes().starts_with(b"-") {
            return arg == "probe";
        }
    }
    false
}

fn run(cli: Cli) -> Result<ExitCode> {
    let layout = Layout::new(&cli.dir).map_err(|e| Error::io(format!("--dir {}", cli.dir.display()), e))?;
    let done = ExitCode::SUCCESS;
    match cli.verb {
        Verb::Anchor { .. } => anchor::sleep(),
        Verb::Listen(args) => listen::become_program(&args.command).map(|()| done),
        Verb::Supervise => {
            log("info")?;
            supervisor::run(&layout).map(|()| done)
        }
        Verb::Up(args) => bring_up(&layout, &args, cli.json).map(|()| done),
        Verb::Down => take_down(&layout, cli.json).map(|()| done),
        Verb::Node(args) => {
            run_in::on_node(&layout, &layout.load_plan()?, &args.name, &args.command.command).map(|()| done)
        }
        Verb::Tor(args) => {
            run_in::on_machine(&layout, &layout.load_plan()?, "tor", &args.command).map(|()| done)
        }
        Verb::Outside(args) => {
            run_in::on_machine(&layout, &layout.load_plan()?, "outside", &args.command).map(|()| done)
        }
        Verb::Exec(args) => {
            run_in::in_pod(&layout, &layout.load_plan()?, &args.pod, &args.command.command).map(|()| done)
        }
        Verb::Kubeconfig => kubeconfig(&layout, cli.json).map(|()| done),
        Verb::Apply(args) => runtime()?.block_on(apply(&layout, &args, cli.json)),
        Verb::Status => show_status(&layout, cli.json).map(|()| done),
        Verb::Probe(mut args) => {
            args.json = cli.json;
            let plan = layout.load_plan()?;
            runtime()?.block_on(probe::run(&layout, &plan, &args))
        }
    }
}

fn bring_up(layout: &Layout, args: &UpArgs, json: bool) -> Result<()> {
    let up = runtime()?.block_on(up::up(layout, &args.options()))?;
    if json {
        print(&serde_json::json!({
            "id": up.plan.id,
            "dir": up.plan.dir,
            "kubeconfig": layout.kubeconfig(),
            "api": format!("https://127.0.0.1:{}", up.plan.api_port),
            "seconds": up.took.as_secs_f64(),
            "machines": up.plan.machines,
        }))
    } else {
        write_out(&up.text(layout))
    }
}

fn take_down(layout: &Layout, json: bool) -> Result<()> {
    let was_there = down::down(layout)?;
    let dir = layout.dir().display().to_string();
    match (json, was_there) {
        (true, _) => print(&serde_json::json!({"dir": dir, "removed": was_there})),
        (false, true) => write_out(&format!("the lab in {dir} is gone\n")),
        (false, false) => write_out(&format!("no lab in {dir}; nothing to do\n")),
    }
}

fn kubeconfig(layout: &Layout, json: bool) -> Result<()> {
    layout.load_plan()?;
    let path = layout.kubeconfig();
    if !path.exists() {
        return Err(Error::refused(format!(
            "{}: not there; the lab did not come up, run `caracal-lab up` again",
            path.display()
        )));
    }
    if json {
        print(&serde_json::json!({"kubeconfig": path}))
    } else {
        write_out(&format!("{}\n", path.display()))
    }
}

fn show_status(layout: &Layout, json: bool) -> Result<()> {
    let status = status::status(layout)?;
    if json {
        print(&status)?;
    } else {
        write_out(&status.text())?;
    }
    status.check()
}

async fn apply(layout: &Layout, args: &ApplyArgs, json: bool) -> Result<ExitCode> {
    layout.load_plan()?;
    // All is read before anything is changed.
    let objects: Vec<_> = args
        .files
        .iter()
        .map(|file| read(file))
        .collect::<Result<Vec<_>>>()?
        .concat();
    let options = ConnectOptions {
        kubeconfig: Some(layout.kubeconfig()),
        user_agent: "caracal-lab".to_owned(),
        ..ConnectOptions::default()
    };
    let client = Client::connect(&options)
        .await
        .map_err(|e| Error::refused(e.to_string()))?;
    let mut applier = Applier::new(client);
    let mut applied = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for object in &objects {
        match applier.apply(object).await {
            Ok(one) if json => applied.push(one),
            Ok(one) => write_out(&format!("{}\n", one.text()))?,
            Err(reason) => {
                let _ = writeln!(std::io::stderr(), "caracal-lab: {reason}");
                code = ExitCode::FAILURE;
            }
        }
    }
    if json {
        print(&applied)?;
    }
    Ok(code)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::io("start the runtime", e))
}

fn log(level: &str) -> Result<()> {
    caracal_daemon::logging::init_with("caracal-lab", caracal_daemon::logging::Format::Text, Some(level))
        .map_err(|e| Error::refused(e.to_string()))
}

fn print(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::io("write JSON", e.into()))?;
    write_out(&format!("{text}\n"))
}

fn write_out(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough is no failure.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("write to standard output", e)),
        _ => Ok(()),
    }
}
