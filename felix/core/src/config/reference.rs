//! The reference of parameters, as it stands in `docs/reference/felix-configuration.md`.

use std::fmt::Write as _;

use caracal_api::v3::FelixConfigurationSpec;
use serde_json::Value;

use super::parameters::{ALL, Effect, Kind, Parameter};

const HEAD: &str = "# Parameters of the node agent\n\n\
Written by `make reference` from the API type and the agent's table of parameters; do not edit by hand.\n\n\
A parameter comes, first one first, from the environment (`FELIX_<NAME>`), the configuration file, the \
FelixConfiguration `node.<node>`, those whose `nodeSelector` selects the node (in order of their names, the last one \
counts), and `default`. A value that cannot be read counts as absent: the default applies, and the agent says so in its \
log and in the metric of problems.\n\n\
In the environment and the file, durations are numbers of seconds (of milliseconds for names that end in `MILLIS`) or \
texts such as `1m30s`; lists have commas; `none` is an empty list.\n\n\
*When*: **live** = a change takes effect at once; **restart** = at the next start of the agent; **kept** = stored for \
other programs, without effect here.\n\n\
Defaults that differ from Calico's: `healthEnabled` and `prometheusMetricsEnabled` are true (on localhost), and \
`deviceRouteProtocol` is 80 for all routes.\n\n\
| Field | Environment | Values | Default | When | Meaning |\n|---|---|---|---|---|---|\n";

/// The whole text.
#[must_use]
pub fn markdown() -> String {
    let schema = schemars::schema_for!(FelixConfigurationSpec);
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut text = HEAD.to_owned();
    for parameter in ALL {
        let described =
            properties.and_then(|properties| properties.get(parameter.field)?.get("description")?.as_str());
        let default = if parameter.default.is_empty() {
            "\u{2013}".to_owned()
        } else {
            format!("`{}`", escape(parameter.default))
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | `FELIX_{}` | {} | {default} | {} | {} |",
            parameter.field,
            parameter.environment_name(),
            values(parameter),
            when(parameter.effect),
            escape(described.unwrap_or_default()).replace('\n', " "),
        );
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

fn values(parameter: &Parameter) -> String {
    if !parameter.values.is_empty() {
        return parameter.values.split(',').collect::<Vec<_>>().join(", ");
    }
    match parameter.kind {
        Kind::Bool => "boolean",
        Kind::Number => "number",
        Kind::Text => "text",
        Kind::Seconds | Kind::Millis => "duration",
        Kind::Ports => "ports",
        Kind::List => "list",
        Kind::RouteTables => "ranges",
        Kind::Timeouts => "name and duration",
        Kind::Other => "number or text",
    }
    .to_owned()
}

const fn when(effect: Effect) -> &'static str {
    match effect {
        Effect::Live => "live",
        Effect::Restart => "restart",
        Effect::Kept => "kept",
    }
}
