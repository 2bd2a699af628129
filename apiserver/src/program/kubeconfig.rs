//! The administrator's kubeconfig.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;

/// The text of a kubeconfig. `server` is HOST:PORT.
pub(crate) fn render(server: &str, authority_pem: &str, token: &str) -> String {
    let authority = base64::engine::general_purpose::STANDARD.encode(authority_pem);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: caracal\n\
         \x20 cluster:\n\
         \x20   server: \"https://{server}\"\n\
         \x20   certificate-authority-data: {authority}\n\
         users:\n\
         - name: admin\n\
         \x20 user:\n\
         \x20   token: \"{token}\"\n\
         contexts:\n\
         - name: admin@caracal\n\
         \x20 context:\n\
         \x20   cluster: caracal\n\
         \x20   user: admin\n\
         current-context: admin@caracal\n"
    )
}

/// How a program on this machine reaches a listener.
pub(crate) fn reachable(listener: SocketAddr) -> String {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port()).to_string()
}

/// The host of HOST:PORT, without the brackets of an IPv6 address.
pub(crate) fn host_of(advertise: &str) -> Result<String, String> {
    let why = |why: &str| format!("--advertise {advertise:?}: {why}; give HOST:PORT, as in 10.0.0.1:6443");
    let (host, port) = advertise.rsplit_once(':').ok_or_else(|| why("it has no port"))?;
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(why("the port is not a number from 1 to 65535"));
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        }
    };
    if good {
        Ok(bare.unwrap_or(host).to_owned())
    } else {
        Err(why(
            "the host is neither a name nor an address (IPv6 in brackets)",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_clients_reach_them() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()), "127.0.0.1:1");
        assert_eq!(reachable("[::]:1".parse().unwrap()), "[::1]:1");
        assert_eq!(reachable("10.0.0.1:1".parse().unwrap()), "10.0.0.1:1");
        assert_eq!(host_of("api.example:6443").unwrap(), "api.example");
        assert_eq!(host_of("[fd00::1]:6443").unwrap(), "fd00::1");
        for bad in ["api.example", "fd00::1:x", "a:0", ":1", "a b:1", "[x]:1"] {
            assert!(host_of(bad).is_err(), "{bad}");
        }
    }
}
