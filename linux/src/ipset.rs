//! IP sets: create, fill, change, swap, destroy, list.
//!
//! Owns the messages of the set subsystem (protocol 7). Adding what is there and deleting what is absent succeed, so
//! that callers need not know the present members. Knows nothing about who owns a set.
//! Source: `linux/netfilter/ipset/ip_set.h`, `net/netfilter/ipset/ip_set_core.c`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::netns::NetNs;
use crate::nfnetlink::{
    Attributes, Connection, NLA_F_NET_BYTEORDER, NLM_F_CREATE, NLM_F_EXCL, Request, attribute, attributes,
    be32,
};
use crate::{Error, Result};

const NFNL_SUBSYS_IPSET: u16 = 6;
const PROTOCOL: u8 = 7;

const CMD_PROTOCOL: u16 = 1;
const CMD_CREATE: u16 = 2;
const CMD_DESTROY: u16 = 3;
const CMD_FLUSH: u16 = 4;
const CMD_RENAME: u16 = 5;
const CMD_SWAP: u16 = 6;
const CMD_LIST: u16 = 7;
const CMD_ADD: u16 = 9;
const CMD_DEL: u16 = 10;
const CMD_TYPE: u16 = 13;

const ATTR_PROTOCOL: u16 = 1;
const ATTR_SETNAME: u16 = 2;
const ATTR_TYPENAME: u16 = 3;
/// The second name of RENAME and SWAP.
const ATTR_SETNAME2: u16 = 3;
const ATTR_REVISION: u16 = 4;
const ATTR_FAMILY: u16 = 5;
const ATTR_FLAGS: u16 = 6;
const ATTR_DATA: u16 = 7;
const ATTR_ADT: u16 = 8;
const ATTR_LINENO: u16 = 9;

const ATTR_IP: u16 = 1;
const ATTR_CIDR: u16 = 3;
const ATTR_PORT: u16 = 4;
const ATTR_PROTO: u16 = 7;
const ATTR_MAXELEM: u16 = 19;
const ATTR_ELEMENTS: u16 = 24;
const ATTR_REFERENCES: u16 = 25;

const ATTR_IPADDR_IPV4: u16 = 1;
const ATTR_IPADDR_IPV6: u16 = 2;

/// LIST: headers only, no members.
const FLAG_LIST_HEADER: u32 = 4;

/// Longest set name in bytes (IPSET_MAXNAMELEN − 1).
pub const NAME_LEN_MAX: usize = 31;
/// Bytes of members in one message; attributes end at 65,535.
const ADT_BYTES_MAX: usize = 60_000;

/// What a set holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SetType {
    /// Addresses.
    HashIp,
    /// Networks; a lookup finds the longest. Cannot hold /0.
    HashNet,
    /// Addresses with protocol and port.
    HashIpPort,
    /// Networks with protocol and port. Cannot hold /0.
    HashNetPort,
    /// Pairs of networks.
    HashNetNet,
}

impl SetType {
    /// The kernel's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HashIp => "hash:ip",
            Self::HashNet => "hash:net",
            Self::HashIpPort => "hash:ip,port",
            Self::HashNetPort => "hash:net,port",
            Self::HashNetNet => "hash:net,net",
        }
    }

    /// The newest revision that every kernel since 3.19 and every `ipset` program since 6.23 know.
    fn revision(self) -> u8 {
        match self {
            Self::HashIp => 4,
            Self::HashNet => 6,
            Self::HashIpPort => 5,
            Self::HashNetPort => 7,
            Self::HashNetNet => 2,
        }
    }
}

impl fmt::Display for SetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One member of a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Member {
    /// An address, in `hash:ip`.
    Ip(IpAddr),
    /// A network, in `hash:net`.
    Net(IpNet),
    /// An address with a protocol number and a port, in `hash:ip,port`.
    IpPort(IpAddr, u8, u16),
    /// A network with a protocol number and a port, in `hash:net,port`.
    NetPort(IpNet, u8, u16),
    /// Two networks, in `hash:net,net`.
    NetNet(IpNet, IpNet),
}

/// How a set is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetSpec {
    /// What it holds.
    pub set_type: SetType,
    /// IPv6 members.
    pub v6: bool,
    /// Most members it can have.
    pub max_elements: u32,
}

/// A set as the kernel describes it, without its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetHeader {
    /// Its name.
    pub name: String,
    /// Its type, by the kernel's name.
    pub type_name: String,
    /// IPv6 members.
    pub v6: bool,
    /// Most members it can have.
    pub max_elements: u32,
    /// Number of members.
    pub elements: u32,
    /// Number of rules that use it; it cannot be destroyed before this is zero.
    pub references: u32,
}

impl SetHeader {
    /// The set is as a specification wants it.
    pub fn matches(&self, spec: &SetSpec) -> bool {
        self.type_name == spec.set_type.name() && self.v6 == spec.v6 && self.max_elements == spec.max_elements
    }
}

/// The sets of one network namespace.
#[derive(Debug)]
pub struct IpSets {
    connection: Connection,
}

impl IpSets {
    /// Connects in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        Ok(Self {
            connection: Connection::open()?,
        })
    }

    /// Connects in another namespace, and stays there.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        Ok(Self {
            connection: Connection::open_in(netns)?,
        })
    }

    /// Asks whether the kernel has sets, and this type of them. Changes nothing.
    ///
    /// # Errors
    /// `is_unsupported` when it has not; `is_permission` without CAP_NET_ADMIN.
    pub fn check_support(&mut self, set_type: SetType) -> Result<()> {
        let mut message = Attributes::new();
        message.put(ATTR_PROTOCOL, &[PROTOCOL]);
        self.ask("ask for the protocol of IP sets", CMD_PROTOCOL, &message)?;
        message
            .put_text(ATTR_TYPENAME, set_type.name())
            .put(ATTR_FAMILY, &[family(false)]);
        self.ask(&format!("ask for IP sets of type {set_type}"), CMD_TYPE, &message)
    }

    fn ask(&mut self, what: &str, command: u16, message: &Attributes) -> Result<()> {
        let answer = self.connection.get(what, &request(command, 0, 4, message))?;
        answer.map(drop).map_err(|code| match code {
            // nfnetlink without the set subsystem; the subsystem without the type.
            libc::EINVAL | libc::ENOENT => Error::kernel(what, libc::EOPNOTSUPP),
            code => Error::kernel(what, readable(code)),
        })
    }

    /// Makes a set.
    ///
    /// # Errors
    /// `is_exists` when the name is taken, whatever has it; `is_unsupported` when the kernel has no such type.
    pub fn create(&mut self, name: &str, spec: &SetSpec) -> Result<()> {
        let mut data = Attributes::new();
        data.put_be32(ATTR_MAXELEM, spec.max_elements);
        let mut message = named(name)?;
        message
            .put_text(ATTR_TYPENAME, spec.set_type.name())
            .put(ATTR_REVISION, &[spec.set_type.revision()])
            .put(ATTR_FAMILY, &[family(spec.v6)])
            .nest(ATTR_DATA, &data);
        let what = format!("create IP set {name} of type {}", spec.set_type);
        self.send(&what, CMD_CREATE, NLM_F_CREATE | NLM_F_EXCL, spec.v6, &message)
    }

    /// Adds members, thousands in a message. Members that are there already stay.
    ///
    /// # Errors
    /// When the set is missing, full (ENOSPC), or of another type or family; members before the culprit are in.
    pub fn add(&mut self, name: &str, members: &[Member]) -> Result<()> {
        self.change("add to", CMD_ADD, name, members)
    }

    /// Removes members, thousands in a message. Members that are absent are skipped.
    ///
    /// # Errors
    /// When the set is missing, or of another type or family; members before the culprit are out.
    pub fn delete(&mut self, name: &str, members: &[Member]) -> Result<()> {
        self.change("delete from", CMD_DEL, name, members)
    }

    fn change(&mut self, verb: &str, command: u16, name: &str, members: &[Member]) -> Result<()> {
        let mut list = Attributes::new();
        let mut v6 = false;
        for member in members {
            v6 = member_is_v6(member);
            list.nest(ATTR_DATA, &member_attributes(name, member)?);
            if list.len() >= ADT_BYTES_MAX {
                self.send_list(verb, command, name, v6, &list)?;
                list = Attributes::new();
            }
        }
        if list.len() == 0 {
            return Ok(());
        }
        self.send_list(verb, command, name, v6, &list)
    }

    fn send_list(&mut self, verb: &str, command: u16, name: &str, v6: bool, list: &Attributes) -> Result<()> {
        let mut message = named(name)?;
        message.put_be32(ATTR_LINENO, 0).nest(ATTR_ADT, list);
        self.send(&format!("{verb} IP set {name}"), command, 0, v6, &message)
    }

    /// Removes all members.
    ///
    /// # Errors
    /// `is_not_found` when there is no such set.
    pub fn flush(&mut self, name: &str) -> Result<()> {
        let message = named(name)?;
        self.send(&format!("flush IP set {name}"), CMD_FLUSH, 0, false, &message)
    }

    /// Removes a set.
    ///
    /// # Errors
    /// `is_not_found` when there is no such set, `is_busy` while a rule uses it.
    pub fn destroy(&mut self, name: &str) -> Result<()> {
        let message = named(name)?;
        // EXCL makes the kernel tell an absent set from a destroyed one.
        self.send(
            &format!("destroy IP set {name}"),
            CMD_DESTROY,
            NLM_F_EXCL,
            false,
            &message,
        )
    }

    /// Gives a set another name.
    ///
    /// # Errors
    /// `is_exists` when the new name is taken, `is_busy` while a rule uses the set.
    pub fn rename(&mut self, name: &str, new: &str) -> Result<()> {
        check_name(new)?;
        let mut message = named(name)?;
        message.put_text(ATTR_SETNAME2, new);
        self.send(
            &format!("rename IP set {name} to {new}"),
            CMD_RENAME,
            0,
            false,
            &message,
        )
    }

    /// Exchanges the contents of two sets of one type and family in one step; rules keep naming the same name.
    ///
    /// # Errors
    /// `is_not_found` when one of them is missing; EINVAL when types or families differ.
    pub fn swap(&mut self, name: &str, other: &str) -> Result<()> {
        check_name(other)?;
        let mut message = named(name)?;
        message.put_text(ATTR_SETNAME2, other);
        self.send(
            &format!("swap IP sets {name} and {other}"),
            CMD_SWAP,
            0,
            false,
            &message,
        )
    }

    /// All sets, without their members, in name order. Cheap: numbers of members tell most changes.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn headers(&mut self) -> Result<Vec<SetHeader>> {
        let mut message = Attributes::new();
        message
            .put(ATTR_PROTOCOL, &[PROTOCOL])
            .put_be32(ATTR_FLAGS, FLAG_LIST_HEADER);
        let dump = self.list("list IP sets", &message)?;
        let mut headers: Vec<SetHeader> = dump.iter().filter_map(|payload| header_from(payload)).collect();
        headers.sort_by(|a, b| a.name.cmp(&b.name));
        headers.dedup_by(|a, b| a.name == b.name);
        Ok(headers)
    }

    /// The members of one set, in the kernel's order. Members of a kind we do not know are left out.
    ///
    /// # Errors
    /// `is_not_found` when there is no such set.
    pub fn members(&mut self, name: &str) -> Result<Vec<Member>> {
        let message = named(name)?;
        let dump = self.list(&format!("list IP set {name}"), &message)?;
        Ok(dump.iter().flat_map(|payload| members_from(payload)).collect())
    }

    fn list(&mut self, what: &str, message: &Attributes) -> Result<Vec<Vec<u8>>> {
        let dump = self.connection.dump(what, &request(CMD_LIST, 0, 4, message))?;
        dump.map_err(|code| Error::kernel(what, readable(code)))
    }

    fn send(&mut self, what: &str, command: u16, flags: u16, v6: bool, message: &Attributes) -> Result<()> {
        let request = request(command, flags, family(v6), message);
        self.connection
            .request(what, &request)?
            .map_err(|code| Error::kernel(what, readable(code)))
    }
}

fn request(command: u16, flags: u16, family: u8, message: &Attributes) -> Request<'_> {
    Request {
        kind: NFNL_SUBSYS_IPSET << 8 | command,
        flags,
        family,
        payload: message.bytes(),
    }
}

/// NFPROTO_IPV4 or NFPROTO_IPV6.
fn family(v6: bool) -> u8 {
    if v6 { 10 } else { 2 }
}

fn check_name(name: &str) -> Result<()> {
    if !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.bytes().any(|byte| byte == 0) {
        return Ok(());
    }
    Err(Error::invalid(
        format!("IP set name {name:?}"),
        format!("must have 1 to {NAME_LEN_MAX} bytes, none of them zero"),
    ))
}

fn named(name: &str) -> Result<Attributes> {
    check_name(name)?;
    let mut message = Attributes::new();
    message
        .put(ATTR_PROTOCOL, &[PROTOCOL])
        .put_text(ATTR_SETNAME, name);
    Ok(message)
}

fn member_is_v6(member: &Member) -> bool {
    match member {
        Member::Ip(ip) | Member::IpPort(ip, ..) => ip.is_ipv6(),
        Member::Net(net) | Member::NetNet(net, _) | Member::NetPort(net, ..) => net.addr().is_ipv6(),
    }
}

const ATTR_IP2: u16 = 20;
const ATTR_CIDR2: u16 = 21;

fn member_attributes(set: &str, member: &Member) -> Result<Attributes> {
    let mut data = Attributes::new();
    match member {
        Member::Ip(ip) => put_ip(&mut data, ATTR_IP, *ip),
        Member::Net(net) => {
            put_net(&mut data, set, (ATTR_IP, ATTR_CIDR), *net)?;
        }
        Member::IpPort(ip, protocol, port) => {
            put_ip(&mut data, ATTR_IP, *ip);
            data.put(ATTR_PORT | NLA_F_NET_BYTEORDER, &port.to_be_bytes())
                .put(ATTR_PROTO, &[*protocol]);
        }
        Member::NetPort(net, protocol, port) => {
            put_net(&mut data, set, (ATTR_IP, ATTR_CIDR), *net)?;
            data.put(ATTR_PORT | NLA_F_NET_BYTEORDER, &port.to_be_bytes())
                .put(ATTR_PROTO, &[*protocol]);
        }
        Member::NetNet(first, second) => {
            put_net(&mut data, set, (ATTR_IP, ATTR_CIDR), *first)?;
            put_net(&mut data, set, (ATTR_IP2, ATTR_CIDR2), *second)?;
        }
    }
    Ok(data)
}

fn put_ip(data: &mut Attributes, kind: u16, ip: IpAddr) {
    let mut address = Attributes::new();
    match ip {
        IpAddr::V4(ip) => address.put(ATTR_IPADDR_IPV4 | NLA_F_NET_BYTEORDER, &ip.octets()),
        IpAddr::V6(ip) => address.put(ATTR_IPADDR_IPV6 | NLA_F_NET_BYTEORDER, &ip.octets()),
    };
    data.nest(kind, &address);
}

fn put_net(data: &mut Attributes, set: &str, (ip, cidr): (u16, u16), net: IpNet) -> Result<()> {
    if net.prefix_len() == 0 {
        return Err(Error::invalid(
            format!("member {net} of IP set {set}"),
            "a set of networks cannot hold a network of all addresses; add its two halves",
        ));
    }
    put_ip(data, ip, net.network());
    data.put(cidr, &[net.prefix_len()]);
    Ok(())
}

fn header_from(payload: &[u8]) -> Option<SetHeader> {
    let data = attribute(payload, ATTR_DATA).unwrap_or_default();
    let number = |kind| attribute(data, kind).and_then(be32).unwrap_or(0);
    Some(SetHeader {
        name: text(attribute(payload, ATTR_SETNAME)?),
        type_name: text(attribute(payload, ATTR_TYPENAME)?),
        v6: attribute(payload, ATTR_FAMILY)?.first() == Some(&family(true)),
        max_elements: number(ATTR_MAXELEM),
        elements: number(ATTR_ELEMENTS),
        references: number(ATTR_REFERENCES),
    })
}

fn members_from(payload: &[u8]) -> Vec<Member> {
    let list = attribute(payload, ATTR_ADT).unwrap_or_default();
    attributes(list)
        .filter(|(kind, _)| *kind == ATTR_DATA)
        .filter_map(|(_, data)| member_from(data))
        .collect()
}

fn member_from(data: &[u8]) -> Option<Member> {
    let byte = |kind| attribute(data, kind).and_then(|bytes| bytes.first().copied());
    let ip = ip_from(attribute(data, ATTR_IP)?)?;
    if let Some(second) = attribute(data, ATTR_IP2) {
        let first = IpNet::new(ip, byte(ATTR_CIDR)?).ok()?;
        return Some(Member::NetNet(
            first,
            IpNet::new(ip_from(second)?, byte(ATTR_CIDR2)?).ok()?,
        ));
    }
    if let Some(port) = attribute(data, ATTR_PORT) {
        let port = port.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?;
        let protocol = byte(ATTR_PROTO)?;
        return Some(match byte(ATTR_CIDR) {
            Some(length) => Member::NetPort(IpNet::new(ip, length).ok()?, protocol, port),
            None => Member::IpPort(ip, protocol, port),
        });
    }
    match byte(ATTR_CIDR) {
        Some(length) => Some(Member::Net(IpNet::new(ip, length).ok()?)),
        None => Some(Member::Ip(ip)),
    }
}

fn ip_from(nested: &[u8]) -> Option<IpAddr> {
    if let Some(octets) = attribute(nested, ATTR_IPADDR_IPV4) {
        return Some(Ipv4Addr::from(*octets.first_chunk::<4>()?).into());
    }
    let octets = attribute(nested, ATTR_IPADDR_IPV6)?;
    Some(Ipv6Addr::from(*octets.first_chunk::<16>()?).into())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// The set subsystem has error numbers of its own; they become the system's nearest, which people can read.
fn readable(code: i32) -> i32 {
    match code {
        // FIND_TYPE
        4098 => libc::EOPNOTSUPP,
        // MAX_SETS, HASH_FULL
        4099 | 4352 => libc::ENOSPC,
        // BUSY, REFERENCED
        4100 | 4108 => libc::EBUSY,
        // EXIST_SETNAME2, EXIST
        4101 | 4103 => libc::EEXIST,
        // TYPE_MISMATCH, INVALID_CIDR, INVALID_NETMASK, INVALID_FAMILY, IPADDR_IPV4, IPADDR_IPV6, INVALID_PROTO ...
        4097..=4400 => libc::EINVAL,
        code => code,
    }
}
