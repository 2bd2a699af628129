//! The forms that commands beside `get` have: text, JSON and YAML.

use caracal_api::yaml;
use serde_json::Value;

use crate::error::Failure;
use crate::terminal::{Terminal, sorted};

/// Prints data in a form, or the text that `text` makes.
pub(crate) fn print(
    terminal: &Terminal,
    form: &str,
    data: Value,
    text: impl FnOnce() -> Result<String, Failure>,
) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(format!("the answer cannot be written: {error}"));
    match form {
        "json" => {
            let text = serde_json::to_string_pretty(&data).map_err(|error| failed(error.to_string()))?;
            terminal.line(&text);
        }
        "yaml" => {
            let text = yaml::to_string(&sorted(data)).map_err(|error| failed(error.to_string()))?;
            terminal.text(&text);
        }
        "text" => terminal.text(&text()?),
        other => {
            return Err(Failure::new(format!(
                "unrecognized output format '{other}'; use text, json or yaml"
            )));
        }
    }
    Ok(())
}
