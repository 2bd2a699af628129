//! Results of ADD: one form inside, the form of the asked-for version outside.
//!
//! Never emits a field that the version does not have. Source: CNI specification 0.1.0 to 1.1.0, "Success", and the
//! conversions of its reference library (`pkg/types/{020,040,100}`).

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::error::{Code, Error, Result};
use crate::fields::Fields;
use crate::version::Version;

/// What a plugin promises to have made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Devices, on the host and in the container.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// Its MTU; 0 = not stated.
    pub mtu: u32,
    /// The container's namespace; empty = on the host.
    pub sandbox: String,
    /// Path of a socket, for devices in user space.
    pub socket_path: String,
    /// PCI address.
    pub pci_id: String,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// Index into the interfaces.
    pub interface: Option<u32>,
    /// The address with its mask.
    pub address: IpNet,
    /// Next hop of the subnet.
    pub gateway: Option<IpAddr>,
}

/// A route in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop.
    pub gw: Option<IpAddr>,
    /// Path MTU; since 1.1.0.
    pub mtu: Option<u32>,
    /// Segment size to announce; since 1.1.0.
    pub advmss: Option<u32>,
    /// Metric; since 1.1.0.
    pub priority: Option<u32>,
    /// Table; since 1.1.0.
    pub table: Option<u32>,
    /// Scope; since 1.1.0.
    pub scope: Option<u32>,
}

impl Route {
    /// A route with nothing but its destination.
    #[must_use]
    pub const fn to(dst: IpNet) -> Self {
        Self {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// Name resolution settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers.
    pub nameservers: Vec<String>,
    /// Local domain.
    pub domain: String,
    /// Search list.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

const U32_MAX: u64 = u32::MAX as u64;

impl AddResult {
    /// The document in the form of a version. Before 0.3.0 a result has no devices and one address a family; what
    /// does not fit is left out, as the reference library does.
    #[must_use]
    pub fn to_json(&self, version: Version) -> Value {
        let mut map = Map::new();
        map.insert("cniVersion".to_owned(), json!(version.as_str()));
        if version < Version::V0_3_0 {
            self.fill_020(&mut map);
        } else {
            self.fill(&mut map, version);
        }
        map.insert("dns".to_owned(), self.dns.to_json());
        Value::Object(map)
    }

    fn fill(&self, map: &mut Map<String, Value>, version: Version) {
        let mut list = |key: &str, values: Vec<Value>| {
            if !values.is_empty() {
                map.insert(key.to_owned(), Value::Array(values));
            }
        };
        list(
            "interfaces",
            self.interfaces.iter().map(|i| i.to_json(version)).collect(),
        );
        list("ips", self.ips.iter().map(|ip| ip.to_json(version)).collect());
        list(
            "routes",
            self.routes.iter().map(|route| route.to_json(version)).collect(),
        );
    }

    fn fill_020(&self, map: &mut Map<String, Value>) {
        for (key, v6) in [("ip4", false), ("ip6", true)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.addr().is_ipv6() == v6) else {
                continue;
            };
            let mut family = Map::new();
            family.insert("ip".to_owned(), json!(ip.address.to_string()));
            put(&mut family, "gateway", ip.gateway);
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|route| route.dst.addr().is_ipv6() == v6)
                .map(|route| route.to_json(Version::V0_2_0))
                .collect();
            if !routes.is_empty() {
                family.insert("routes".to_owned(), Value::Array(routes));
            }
            map.insert(key.to_owned(), Value::Object(family));
        }
    }

    /// Reads a result in the form of its `cniVersion`, or of `default` when it does not say.
    ///
    /// # Errors
    /// When a field has a wrong value, or the version is not known. The code is that of a decoding failure.
    pub fn from_json(document: &Value, default: Version) -> Result<Self> {
        let decode = |error: Error| Error {
            code: Code::Decode,
            message: error.message.replacen("network configuration", "result", 1),
            ..error
        };
        let Value::Object(map) = document else {
            return Err(Error::new(Code::Decode, "a plugin's result is not a JSON object"));
        };
        let root = Fields::root(map);
        let version = match root.text("cniVersion").map_err(decode)?.as_str() {
            "" => default,
            text => text.parse::<Version>()?,
        };
        // A version that does not fit the content happens with old plugins; the content decides.
        let is_020 = version < Version::V0_3_0 || map.contains_key("ip4") || map.contains_key("ip6");
        let read = if is_020 {
            Self::read_020(root)
        } else {
            Self::read(root)
        };
        read.map_err(decode)
    }

    fn read(root: Fields<'_>) -> Result<Self> {
        Ok(Self {
            interfaces: root.objects("interfaces", Interface::read)?,
            ips: root.objects("ips", IpConfig::read)?,
            routes: root.objects("routes", Route::read)?,
            dns: root.object("dns", Dns::read)?,
        })
    }

    fn read_020(root: Fields<'_>) -> Result<Self> {
        let mut result = Self {
            dns: root.object("dns", Dns::read)?,
            ..Self::default()
        };
        for key in ["ip4", "ip6"] {
            root.object(key, |family| {
                let Some(address) = family.parsed("ip", ADDRESS)? else {
                    return Ok(());
                };
                result.ips.push(IpConfig {
                    interface: None,
                    address,
                    gateway: family.parsed("gateway", "an address")?,
                });
                result.routes.extend(family.objects("routes", Route::read)?);
                Ok(())
            })?;
        }
        Ok(result)
    }
}

const ADDRESS: &str = "an address with a mask, as 10.0.0.1/32";

fn put<T: ToString>(map: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), json!(value.to_string()));
    }
}

fn put_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        map.insert(key.to_owned(), json!(value));
    }
}

fn put_number(map: &mut Map<String, Value>, key: &str, value: Option<u32>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), json!(value));
    }
}

fn number(fields: Fields<'_>, key: &str) -> Result<Option<u32>> {
    let number = fields.number(key, 0, U32_MAX)?;
    Ok(number.and_then(|number| u32::try_from(number).ok()))
}

impl Interface {
    fn to_json(&self, version: Version) -> Value {
        let mut map = Map::new();
        map.insert("name".to_owned(), json!(self.name));
        put_text(&mut map, "mac", &self.mac);
        put_text(&mut map, "sandbox", &self.sandbox);
        if version >= Version::V1_1_0 {
            put_number(&mut map, "mtu", Some(self.mtu).filter(|mtu| *mtu > 0));
            put_text(&mut map, "socketPath", &self.socket_path);
            put_text(&mut map, "pciID", &self.pci_id);
        }
        Value::Object(map)
    }

    fn read(fields: Fields<'_>) -> Result<Self> {
        Ok(Self {
            name: fields.text("name")?,
            mac: fields.text("mac")?,
            mtu: number(fields, "mtu")?.unwrap_or(0),
            sandbox: fields.text("sandbox")?,
            socket_path: fields.text("socketPath")?,
            pci_id: fields.text("pciID")?,
        })
    }
}

impl IpConfig {
    fn to_json(&self, version: Version) -> Value {
        let mut map = Map::new();
        if version < Version::V1_0_0 {
            let family = if self.address.addr().is_ipv6() { "6" } else { "4" };
            map.insert("version".to_owned(), json!(family));
        }
        put_number(&mut map, "interface", self.interface);
        map.insert("address".to_owned(), json!(self.address.to_string()));
        put(&mut map, "gateway", self.gateway);
        Value::Object(map)
    }

    fn read(fields: Fields<'_>) -> Result<Self> {
        Ok(Self {
            interface: number(fields, "interface")?,
            address: fields
                .parsed("address", ADDRESS)?
                .ok_or_else(|| fields.wrong("address", ADDRESS))?,
            gateway: fields.parsed("gateway", "an address")?,
        })
    }
}

impl Route {
    fn to_json(&self, version: Version) -> Value {
        let mut map = Map::new();
        map.insert("dst".to_owned(), json!(self.dst.to_string()));
        put(&mut map, "gw", self.gw);
        if version >= Version::V1_1_0 {
            put_number(&mut map, "mtu", self.mtu);
            put_number(&mut map, "advmss", self.advmss);
            put_number(&mut map, "priority", self.priority);
            put_number(&mut map, "table", self.table);
            put_number(&mut map, "scope", self.scope);
        }
        Value::Object(map)
    }

    pub(crate) fn read(fields: Fields<'_>) -> Result<Self> {
        const DESTINATION: &str = "a destination, as 0.0.0.0/0";
        Ok(Self {
            dst: fields
                .parsed("dst", DESTINATION)?
                .ok_or_else(|| fields.wrong("dst", DESTINATION))?,
            gw: fields.parsed("gw", "an address")?,
            mtu: number(fields, "mtu")?,
            advmss: number(fields, "advmss")?,
            priority: number(fields, "priority")?,
            table: number(fields, "table")?,
            scope: number(fields, "scope")?,
        })
    }
}

impl Dns {
    fn to_json(&self) -> Value {
        let mut map = Map::new();
        let mut list = |key: &str, values: &[String]| {
            if !values.is_empty() {
                map.insert(key.to_owned(), json!(values));
            }
        };
        list("nameservers", &self.nameservers);
        list("search", &self.search);
        list("options", &self.options);
        put_text(&mut map, "domain", &self.domain);
        Value::Object(map)
    }

    fn read(fields: Fields<'_>) -> Result<Self> {
        Ok(Self {
            nameservers: fields.texts("nameservers")?,
            domain: fields.text("domain")?,
            search: fields.texts("search")?,
            options: fields.texts("options")?,
        })
    }
}

#[cfg(test)]
#[path = "result/tests.rs"]
mod tests;
