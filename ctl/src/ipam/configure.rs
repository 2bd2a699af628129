//! `ipam configure`: the settings of address management.

use caracal_api::v3::{IPAMConfiguration, IPAMConfigurationSpec, VMAddressPersistence};
use caracal_datastore::Client;

use crate::args::IpamConfigure;
use crate::error::Failure;
use crate::terminal::Terminal;

/// Attempts against others who change the settings at the same time.
const ATTEMPTS: usize = 5;

/// What is to be set.
#[derive(Default)]
struct Wanted {
    strict_affinity: Option<bool>,
    max_blocks_per_host: Option<i32>,
    persistence: Option<VMAddressPersistence>,
    cooldown_seconds: Option<i32>,
}

/// Carries out `ipam configure`.
pub(crate) async fn run(
    terminal: &Terminal,
    client: &Client,
    arguments: &IpamConfigure,
) -> Result<(), Failure> {
    let wanted = wanted(arguments)?;
    let mut attempt = 1;
    loop {
        let stored: Option<IPAMConfiguration> = client.get(None, "default").await?;
        let is_new = stored.is_none();
        let mut object =
            stored.unwrap_or_else(|| IPAMConfiguration::new("default", IPAMConfigurationSpec::default()));
        change(&mut object.spec, &wanted)?;
        let result = if is_new {
            client.create(&object).await
        } else {
            client.update(&object).await
        };
        match result {
            Ok(_) => break,
            Err(error) if (error.is_conflict() || error.is_already_exists()) && attempt < ATTEMPTS => {
                attempt += 1
            }
            Err(error) => return Err(Failure::new(format!("error: {error}"))),
        }
    }
    say(terminal, &wanted);
    Ok(())
}

fn wanted(arguments: &IpamConfigure) -> Result<Wanted, Failure> {
    let invalid = |flag: &str, value: &str, remedy: &str| {
        Failure::new(format!(
            "Error executing command: invalid value {value:?} for --{flag}; {remedy}"
        ))
        .on_stdout()
    };
    let mut wanted = Wanted::default();
    if let Some(text) = &arguments.strictaffinity {
        let value = boolean(text).ok_or_else(|| invalid("strictaffinity", text, "use true or false"))?;
        wanted.strict_affinity = Some(value);
    }
    if let Some(text) = &arguments.max_blocks_per_host {
        let value = text.parse().ok().filter(|number: &i32| *number >= 0);
        let remedy = "use a number of blocks, or 0 for the default";
        wanted.max_blocks_per_host = Some(value.ok_or_else(|| invalid("max-blocks-per-host", text, remedy))?);
    }
    if let Some(text) = &arguments.kubevirt_ip_persistence {
        wanted.persistence = Some(match text.as_str() {
            "Enabled" => VMAddressPersistence::Enabled,
            "Disabled" => VMAddressPersistence::Disabled,
            _ => {
                return Err(invalid(
                    "kubevirt-ip-persistence",
                    text,
                    "use Enabled or Disabled",
                ));
            }
        });
    }
    // Calico's client passes -1 for "leave it".
    if let Some(text) = arguments
        .ip_cooldown_seconds
        .as_ref()
        .filter(|text| *text != "-1")
    {
        let value = text
            .parse()
            .ok()
            .filter(|number: &i32| (0..=1200).contains(number));
        wanted.cooldown_seconds =
            Some(value.ok_or_else(|| invalid("ip-cooldown-seconds", text, "use 0 to 1200"))?);
    }
    let nothing = wanted.strict_affinity.is_none()
        && wanted.max_blocks_per_host.is_none()
        && wanted.persistence.is_none()
        && wanted.cooldown_seconds.is_none();
    if nothing {
        return Err(Failure::new(
            "at least one configuration option must be specified",
        ));
    }
    Ok(wanted)
}

/// A boolean as Go reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn change(spec: &mut IPAMConfigurationSpec, wanted: &Wanted) -> Result<(), Failure> {
    if let Some(value) = wanted.strict_affinity {
        spec.strict_affinity = value;
    }
    if let Some(value) = wanted.max_blocks_per_host {
        spec.max_blocks_per_host = value;
    }
    if let Some(value) = &wanted.persistence {
        spec.kube_virt_vm_address_persistence = Some(value.clone());
    }
    if let Some(value) = wanted.cooldown_seconds {
        spec.ip_cooldown_seconds = value;
    }
    if !spec.strict_affinity && !spec.auto_allocate_blocks {
        return Err(Failure::new(
            "error: Cannot disable 'StrictAffinity' and 'AutoAllocateBlocks' at the same time",
        ));
    }
    if !spec.strict_affinity && spec.max_blocks_per_host > 0 {
        return Err(Failure::new(
            "error: MaxBlocksPerHost requires StrictAffinity to be enabled",
        ));
    }
    Ok(())
}

fn say(terminal: &Terminal, wanted: &Wanted) {
    let set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            terminal.line(&format!("Successfully set {name} to: {value}"));
        }
    };
    set(
        "StrictAffinity",
        wanted.strict_affinity.map(|value| value.to_string()),
    );
    set(
        "MaxBlocksPerHost",
        wanted.max_blocks_per_host.map(|value| value.to_string()),
    );
    set(
        "KubeVirtVMAddressPersistence",
        wanted.persistence.as_ref().map(|value| value.as_str().to_owned()),
    );
    set(
        "IPCooldownSeconds",
        wanted.cooldown_seconds.map(|value| value.to_string()),
    );
}
