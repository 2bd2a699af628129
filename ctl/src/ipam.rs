//! The commands about addresses. Source of their texts: calicoctl's `ipam` commands.

pub(crate) mod check;
pub(crate) mod configure;
pub(crate) mod migrate;
pub(crate) mod release;
mod report;
pub(crate) mod show;
pub(crate) mod split;

use std::net::IpAddr;

use caracal_api::yaml;
use serde::Serialize;

use crate::args::ReportForm;
use crate::error::Failure;
use crate::terminal::{Terminal, sorted};

/// The address that a person wrote.
fn address(text: &str) -> Result<IpAddr, Failure> {
    text.trim().parse().map_err(|_| {
        Failure::new(format!(
            "invalid IP address: {text}; write it as 10.244.0.1 or fd00::1"
        ))
    })
}

/// Prints data as JSON or YAML.
fn structured<T: Serialize>(terminal: &Terminal, form: ReportForm, data: &T) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(format!("the report cannot be written: {error}"));
    let value = serde_json::to_value(data).map_err(|error| failed(error.to_string()))?;
    if form == ReportForm::Yaml {
        terminal.text(&yaml::to_string(&sorted(value)).map_err(|error| failed(error.to_string()))?);
    } else {
        let text = serde_json::to_string_pretty(&sorted(value)).map_err(|error| failed(error.to_string()))?;
        terminal.line(&text);
    }
    Ok(())
}
