//! `version`: of this program and of the cluster.

use std::time::Duration;

use caracal_api::v3::ClusterInformation;

use crate::args::{Global, Version};
use crate::connect::Access;
use crate::error::Failure;
use crate::terminal::Terminal;

/// The version of this program.
pub(crate) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
/// The commit that it was built from, when whoever built it said so.
const COMMIT: &str = match option_env!("CARACAL_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Carries out `version`.
pub(crate) async fn run(
    terminal: &Terminal,
    access: &Access,
    global: &Global,
    arguments: &Version,
) -> Result<(), Failure> {
    terminal.line(&format!("Client Version:    {VERSION}"));
    terminal.line(&format!("Git commit:        {COMMIT}"));
    if arguments.client {
        return Ok(());
    }
    let pause = arguments.poll.as_deref().map(duration).transpose()?;
    let Ok(client) = access.client(global).await else {
        terminal.line("Unable to detect installed Calico version");
        return Ok(());
    };
    let mut last = None;
    loop {
        let read = client.get::<ClusterInformation>(None, "default").await;
        match read {
            Ok(found) => {
                let lines = cluster(found.as_ref());
                if last.as_ref() != Some(&lines) {
                    terminal.text(&lines);
                    last = Some(lines);
                }
            }
            Err(error) if pause.is_some() => {
                terminal.message(&format!("unable to retrieve Cluster Version or Type: {error}"));
            }
            Err(error) => {
                return Err(Failure::new(format!(
                    "unable to retrieve Cluster Version or Type: {error}"
                )));
            }
        }
        let Some(pause) = pause else { return Ok(()) };
        tokio::time::sleep(pause).await;
    }
}

fn cluster(information: Option<&ClusterInformation>) -> String {
    let or_unknown = |text: Option<&String>| {
        text.filter(|text| !text.is_empty())
            .map_or("unknown", String::as_str)
            .to_owned()
    };
    let spec = information.map(|information| &information.spec);
    format!(
        "Cluster Version:   {}\nCluster Type:      {}\n",
        or_unknown(spec.map(|spec| &spec.calico_version)),
        or_unknown(spec.map(|spec| &spec.cluster_type))
    )
}

/// A time as Go writes it: `10s`, `1m30s`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::new(format!("invalid duration {text:?}; write it as 10s, 5m or 2h"));
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = behind;
    }
    if total.is_zero() {
        return Err(wrong());
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, seconds) in [("10s", 10.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("500ms", 0.5)] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds);
        }
        for text in ["", "10", "s", "1d", "-1s", "0s", "1e9999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
