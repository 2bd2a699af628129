//! Completion scripts, man pages and the reference of all commands, made from the same definitions as the parser.

use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

use crate::args::{Arguments, Completion, Man};
use crate::error::Failure;
use crate::terminal::Terminal;

/// Carries out `completion`.
pub(crate) fn completion(terminal: &Terminal, arguments: &Completion) {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "caracalctl",
        &mut script,
    );
    terminal.text(&String::from_utf8_lossy(&script));
}

/// Carries out `man`.
pub(crate) fn man(terminal: &Terminal, arguments: &Man) -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    let Some(dir) = &arguments.dir else {
        terminal.text(&String::from_utf8_lossy(&page(&command, "caracalctl")?));
        return Ok(());
    };
    let count = pages(&command, "caracalctl", dir)?;
    terminal.line(&format!("Wrote {count} pages to {}.", dir.display()));
    Ok(())
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .render(&mut page)
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok(page)
}

/// Writes the page of a command and of all below it; returns how many.
fn pages(command: &Command, name: &str, dir: &Path) -> Result<usize, Failure> {
    let path = dir.join(format!("{name}.1"));
    let text = page(command, name)?;
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|error| {
            Failure::new(format!(
                "{}: {error}; name a directory that may be written",
                path.display()
            ))
        })?;
    let mut count = 1;
    for below in shown(command) {
        count += pages(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(count)
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

/// The reference as Markdown.
pub(crate) fn markdown() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut text =
        "# caracalctl\n\nThis page is made from the program (`make docs-cli`); do not edit it.\n\n"
            .to_owned();
    text.push_str(&paragraphs(&command));
    text.push_str("\n## Flags of every command\n\n");
    let global = command
        .get_arguments()
        .filter(|argument| argument.is_global_set());
    text.push_str(&arguments(global));
    text.push_str(&crate::connect::settings_as_markdown());
    for below in shown(&command) {
        section(below, "caracalctl", 2, &mut text);
    }
    text
}

fn section(command: &Command, above: &str, level: usize, text: &mut String) {
    let name = format!("{above} {}", command.get_name());
    text.push_str(&format!(
        "\n{} {name}\n\n{}",
        "#".repeat(level),
        paragraphs(command)
    ));
    let is_group = shown(command).next().is_some();
    if !is_group {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('\n', " ");
        let usage = usage.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("\n```\n{usage}\n```\n"));
        let own = command.get_arguments().filter(|argument| {
            !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help"
        });
        let list = arguments(own.filter(|argument| argument.get_id() != "version"));
        if !list.is_empty() {
            text.push_str(&format!("\n{list}"));
        }
    }
    for below in shown(command) {
        section(below, &name, level + 1, text);
    }
}

fn paragraphs(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about());
    format!("{}\n", about.map(ToString::to_string).unwrap_or_default())
}

fn arguments<'a>(all: impl Iterator<Item = &'a Arg>) -> String {
    let mut text = String::new();
    for argument in all.filter(|argument| !argument.is_hide_set()) {
        let value = argument
            .get_value_names()
            .and_then(|names| names.first())
            .map(ToString::to_string)
            .filter(|_| argument.get_action().takes_values())
            .unwrap_or_default();
        let mut names = Vec::new();
        names.extend(argument.get_short().map(|short| format!("-{short}")));
        names.extend(argument.get_long().map(|long| format!("--{long}")));
        let name = match (names.is_empty(), value.is_empty()) {
            (true, _) => value,
            (false, true) => names.join(", "),
            (false, false) => format!("{} {value}", names.join(", ")),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("- `{name}`: {}", help.replace('\n', " ")));
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .filter_map(|value| value.to_str())
            .collect();
        let is_flag = !argument.get_action().takes_values() || argument.is_hide_default_value_set();
        if !defaults.is_empty() && !is_flag {
            text.push_str(&format!(" (default `{}`)", defaults.join(" ")));
        }
        text.push('\n');
    }
    text
}
