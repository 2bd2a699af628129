//! The network configuration: Calico's keys, read once, every error with its path and remedy.
//!
//! The document itself is kept, because the address plugin gets it, changed or not.
//! Source: Calico's `cni-plugin/pkg/types/types.go`; CNI specification, "Plugin configuration objects".

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::fields::Fields;
use crate::result::Route;
use crate::talk;
use crate::version::Version;

/// Where the node agent leaves the node's name.
const NODENAME_FILE: &str = "/var/lib/calico/nodename";
/// Serialises the address plugin on a host, across versions and implementations.
const IPAM_LOCK_FILE: &str = "/var/run/calico/ipam.lock";
/// Where felix says that an endpoint is programmed.
const ENDPOINT_STATUS_DIR: &str = "/var/run/calico/endpoint-status";
/// The address plugin that is ours.
pub const CALICO_IPAM: &str = "calico-ipam";

/// A plugin's network configuration.
#[derive(Clone, Debug)]
pub struct Conf {
    /// Protocol version of the call.
    pub version: Version,
    /// Name of the network: prefix of address handles.
    pub name: String,
    /// Node settings.
    pub node: NodeConf,
    /// How to reach the API.
    pub api: ApiConf,
    /// Address management.
    pub ipam: IpamConf,
    /// Settings of the pair of devices.
    pub device: DeviceConf,
    /// Permitted annotations.
    pub features: Features,
    /// URLs that must answer before ADD goes on.
    pub readiness_gates: Vec<String>,
    /// Seconds to wait for felix; 0 = not.
    pub policy_setup_timeout_seconds: u64,
    /// Where felix says that an endpoint is programmed.
    pub endpoint_status_dir: PathBuf,
    /// Socket of the node's daemon, which does the work if it answers; `None` = never ask it.
    pub daemon_socket: Option<PathBuf>,
    /// What to log, and where.
    pub log: LogConf,
    /// Containers that the runtime still has (GC); `None` when it did not say.
    pub valid_attachments: Option<Vec<Attachment>>,
    /// The result of ADD, as the runtime kept it.
    pub prev_result: Option<Value>,
    /// The document as it came.
    pub raw: Map<String, Value>,
}

/// Who this node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConf {
    /// `nodename`.
    pub name: String,
    /// `nodename_file`.
    pub file: PathBuf,
    /// `nodename_file_optional`.
    pub file_optional: bool,
    /// `hostname`, deprecated.
    pub hostname: String,
    /// `kubernetes.node_name`: the Node whose podCIDRs are meant.
    pub kubernetes_name: String,
}

/// How to reach the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiConf {
    /// `kubernetes.kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `kubernetes.k8s_api_root` or `policy.k8s_api_root`.
    pub server: Option<String>,
}

/// The `ipam` object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpamConf {
    /// Name of the address plugin.
    pub kind: String,
    /// An IPv4 address is wanted.
    pub assign_ipv4: bool,
    /// An IPv6 address is wanted.
    pub assign_ipv6: bool,
    /// Pool names or CIDRs; empty = all.
    pub ipv4_pools: Vec<String>,
    /// Pool names or CIDRs; empty = all.
    pub ipv6_pools: Vec<String>,
    /// `routes` of host-local.
    pub routes: Vec<Route>,
    /// Lock file of calico-ipam.
    pub lock_file: PathBuf,
    /// Add default routes to `routes`.
    pub include_default_routes: bool,
}

/// Settings of the pair of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceConf {
    /// MTU; `None` = from the node agent's file, else the kernel's.
    pub mtu: Option<u32>,
    /// ADD fails without that file.
    pub require_mtu_file: bool,
    /// Queues of the pair.
    pub queues: u32,
    /// The container may forward.
    pub allow_ip_forwarding: bool,
    /// netkit was asked for.
    pub netkit: bool,
}

/// Permitted annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `ipAddrsNoIpam`.
    pub ip_addrs_no_ipam: bool,
    /// `floatingIPs`.
    pub floating_ips: bool,
}

/// What to log, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConf {
    /// `log_level`.
    pub level: String,
    /// `log_file_path`; standard error has everything too.
    pub file: Option<PathBuf>,
    /// Size in bytes from which the file is set aside.
    pub max_size_bytes: u64,
    /// Age in days after which a file set aside is removed.
    pub max_age_days: u64,
    /// How many files set aside are kept.
    pub max_count: u64,
}

/// A container interface that the runtime knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Container id.
    pub container_id: String,
    /// Interface name in the container.
    pub ifname: String,
}

impl Conf {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Code 6 when it is not a JSON object, 1 for an unknown version, 7 for a wrong field.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let document = parse_object(text)?;
        Self::from_map(document)
    }

    pub(crate) fn from_map(raw: Map<String, Value>) -> Result<Self> {
        let root = Fields::root(&raw);
        let version = match root.text("cniVersion")?.as_str() {
            "" => Version::DEFAULT,
            text => text.parse()?,
        };
        let conf = Self {
            version,
            name: network_name(root)?,
            node: node_conf(root)?,
            api: api_conf(root)?,
            ipam: ipam_conf(root)?,
            device: device_conf(root)?,
            features: root.object("feature_control", |features| {
                Ok(Features {
                    ip_addrs_no_ipam: features.flag("ip_addrs_no_ipam")?,
                    floating_ips: features.flag("floating_ips")?,
                })
            })?,
            readiness_gates: root.texts("readiness_gates")?,
            policy_setup_timeout_seconds: root.number("policy_setup_timeout_seconds", 0, 3600)?.unwrap_or(0),
            endpoint_status_dir: path(root, "endpoint_status_dir", ENDPOINT_STATUS_DIR)?,
            daemon_socket: daemon_socket(root)?,
            log: log_conf(root)?,
            valid_attachments: attachments(root)?,
            prev_result: raw.get("prevResult").filter(|value| !value.is_null()).cloned(),
            raw: Map::new(),
        };
        check_datastore(root)?;
        Ok(Self { raw, ..conf })
    }

    /// True when the address plugin is Calico's.
    #[must_use]
    pub fn is_calico_ipam(&self) -> bool {
        self.ipam.kind == CALICO_IPAM
    }

    /// The document with the `ipam` object changed.
    #[must_use]
    pub fn with_ipam(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Map<String, Value> {
        let mut raw = self.raw.clone();
        let ipam = raw.entry("ipam").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(ipam) = ipam {
            change(ipam);
        }
        raw
    }
}

/// Reads the object on standard input.
pub(crate) fn parse_object(text: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(text).map_err(|error| {
        Error::new(
            Code::Decode,
            format!("network configuration on standard input: {error}"),
        )
        .hint("give the plugin's configuration as one JSON object; the runtime takes it from /etc/cni/net.d")
    })
}

fn network_name(root: Fields<'_>) -> Result<String> {
    let name = root.text("name")?;
    if name.is_empty() {
        return Err(
            Error::new(Code::InvalidConfig, "network configuration: name is missing")
                .hint("set name, for instance to k8s-pod-network"),
        );
    }
    let valid = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !valid {
        return Err(root.wrong("name", "letters, digits, '_', '.' and '-' only"));
    }
    Ok(name)
}

fn path(fields: Fields<'_>, key: &str, default: &str) -> Result<PathBuf> {
    let text = fields.text(key)?;
    Ok(PathBuf::from(if text.is_empty() { default } else { &text }))
}

fn daemon_socket(root: Fields<'_>) -> Result<Option<PathBuf>> {
    let socket = path(root, "daemon_socket", talk::SOCKET)?;
    match socket.to_str() {
        Some("none") => Ok(None),
        _ if socket.is_absolute() => Ok(Some(socket)),
        _ => Err(root.wrong("daemon_socket", "an absolute path, or \"none\"")),
    }
}

fn some_text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn node_conf(root: Fields<'_>) -> Result<NodeConf> {
    Ok(NodeConf {
        name: root.text("nodename")?,
        file: path(root, "nodename_file", NODENAME_FILE)?,
        file_optional: root.flag("nodename_file_optional")?,
        hostname: root.text("hostname")?,
        kubernetes_name: root.object("kubernetes", |kubernetes| kubernetes.text("node_name"))?,
    })
}

fn api_conf(root: Fields<'_>) -> Result<ApiConf> {
    let (kubeconfig, server) = root.object("kubernetes", |kubernetes| {
        Ok((kubernetes.text("kubeconfig")?, kubernetes.text("k8s_api_root")?))
    })?;
    let policy_server = root.object("policy", |policy| policy.text("k8s_api_root"))?;
    Ok(ApiConf {
        kubeconfig: some_text(kubeconfig).map(PathBuf::from),
        server: some_text(policy_server).or_else(|| some_text(server)),
    })
}

fn ipam_conf(root: Fields<'_>) -> Result<IpamConf> {
    let lock_file = path(root, "ipam_lock_file", IPAM_LOCK_FILE)?;
    let include_default_routes = root.flag("include_default_routes")?;
    root.object("ipam", |ipam| {
        Ok(IpamConf {
            kind: ipam.text("type")?,
            assign_ipv4: ipam.text_flag("assign_ipv4", true)?,
            assign_ipv6: ipam.text_flag("assign_ipv6", false)?,
            ipv4_pools: ipam.texts("ipv4_pools")?,
            ipv6_pools: ipam.texts("ipv6_pools")?,
            routes: ipam.objects("routes", Route::read)?,
            lock_file,
            include_default_routes,
        })
    })
}

fn device_conf(root: Fields<'_>) -> Result<DeviceConf> {
    let number = |key, min, max| -> Result<Option<u32>> {
        let number = root.number(key, min, max)?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    };
    let mtu = match number("mtu", 0, 65535)? {
        Some(small @ 1..=67) => {
            return Err(root.wrong("mtu", &format!("0 or 68 to 65535; {small} is too small for IPv4")));
        }
        other => other.filter(|mtu| *mtu > 0),
    };
    let netkit = match root.text("device_type")?.as_str() {
        "" | "veth" => false,
        "netkit" => true,
        _ => return Err(root.wrong("device_type", "\"veth\" or \"netkit\"")),
    };
    Ok(DeviceConf {
        mtu,
        require_mtu_file: root.flag("require_mtu_file")?,
        queues: number("num_queues", 0, 4096)?.unwrap_or(1).max(1),
        allow_ip_forwarding: root.object("container_settings", |container| {
            container.flag("allow_ip_forwarding")
        })?,
        netkit,
    })
}

fn log_conf(root: Fields<'_>) -> Result<LogConf> {
    const MIB: u64 = 1 << 20;
    Ok(LogConf {
        level: root.text("log_level")?,
        file: some_text(root.text("log_file_path")?).map(PathBuf::from),
        max_size_bytes: root
            .number("log_file_max_size", 0, 1 << 20)?
            .unwrap_or(100)
            .max(1)
            * MIB,
        max_age_days: root.number("log_file_max_age", 0, 36_500)?.unwrap_or(30),
        max_count: root.number("log_file_max_count", 0, 10_000)?.unwrap_or(10),
    })
}

fn attachments(root: Fields<'_>) -> Result<Option<Vec<Attachment>>> {
    // The key has a dot in it; it is one key.
    const KEY: &str = "cni.dev/valid-attachments";
    let list = root.objects(KEY, |attachment| {
        Ok(Attachment {
            container_id: attachment.text("containerID")?,
            ifname: attachment.text("ifname")?,
        })
    })?;
    Ok(Some(list).filter(|list| !list.is_empty() || root.has(KEY)))
}

fn check_datastore(root: Fields<'_>) -> Result<()> {
    match root.text("datastore_type")?.as_str() {
        "" | "kubernetes" => Ok(()),
        _ => Err(root.wrong(
            "datastore_type",
            "\"kubernetes\": the cluster's API is the only datastore",
        )),
    }
}

#[cfg(test)]
#[path = "conf/tests.rs"]
mod tests;
