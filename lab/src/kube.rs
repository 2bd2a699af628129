//! A real Kubernetes API for a lab: where its programs are, the credentials they need, and how they are started.
//!
//! etcd and kube-apiserver run in the router's network, so that their ports collide with nothing of the host; the
//! host's loopback reaches them through [`forward`]. Nothing else of a control plane runs: no tokens for pods, and
//! namespaces that are deleted are not emptied. Source: kube-apiserver(1) of Kubernetes 1.37.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caracal_api::yaml;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rand::RngCore as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::enter::Place;
use crate::error::{Error, Result};
use crate::state::{Layout, write_file};
use crate::topology::{API_FABRIC_PORT, Plan, api_address};

/// Names the folder of what `scripts/kubernetes/build.sh` built.
const CACHE: &str = "CARACAL_K8S_CACHE";
/// Names the version of Kubernetes.
const VERSION: &str = "CARACAL_K8S_VERSION";
const VERSION_DEFAULT: &str = "v1.37.1";
/// etcd's ports, in the router's network.
const ETCD_CLIENT: u16 = 2379;
const ETCD_PEER: u16 = 2380;

/// etcd and kube-apiserver, as `scripts/kubernetes/build.sh` leaves them.
///
/// # Errors
/// One is missing; the text says how to build it.
pub fn programs() -> Result<[(&'static str, PathBuf); 2]> {
    let text = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = text(CACHE).map_or_else(
        || {
            let home = text("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
            home.join(".cache/caracal-k8s")
        },
        PathBuf::from,
    );
    let version = text(VERSION).unwrap_or_else(|| VERSION_DEFAULT.into());
    let folder = cache.join(version).join("bin");
    let programs = ["etcd", "kube-apiserver"].map(|name| (name, folder.join(name)));
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(_, path)| !path.is_file())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(programs);
    }
    Err(Error::refused(format!(
        "--kube real: {} not in {}; build with: scripts/kubernetes/build.sh {} (or name another cache in {CACHE})",
        missing.join(" and "),
        folder.display(),
        missing.join(" "),
    )))
}

/// Files of the API server, below the lab's folder for its data.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Makes the authority, the server's certificate, the key for service accounts and the administrator's token,
    /// and writes the user's kubeconfig.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(layout: &Layout, plan: &Plan) -> Result<Self> {
        let folder = layout.api_data();
        fs::create_dir_all(&folder).map_err(|e| Error::io(format!("create {}", folder.display()), e))?;
        let failed = |e: rcgen::Error| Error::refused(format!("certificates of the API server: {e}"));
        let (authority, issuer) = authority().map_err(failed)?;
        let (certificate, key) = server(&issuer).map_err(failed)?;
        let accounts = KeyPair::generate().map_err(failed)?;
        let token = token();
        let files = Self { folder };
        for (name, content) in [
            ("ca.crt", authority.clone()),
            ("server.crt", certificate),
            ("server.key", key),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
            ("tokens.csv", format!("{token},admin,admin,system:masters\n")),
        ] {
            write_file(&files.folder.join(name), content.as_bytes(), 0o600)?;
        }
        let kubeconfig = kubeconfig(plan.api_port, &authority, &token)?;
        write_file(&layout.kubeconfig(), kubeconfig.as_bytes(), 0o600)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// Arguments of etcd. A lab does not outlive the machine: nothing waits for the disk.
    #[must_use]
    pub fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{ETCD_CLIENT}");
        let peer = format!("http://127.0.0.1:{ETCD_PEER}");
        vec![
            "--name=lab".to_owned(),
            format!("--data-dir={}", self.path("etcd")),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=lab={peer}"),
        ]
    }

    /// Arguments of kube-apiserver. What needs controllers that a lab does not have is off: tokens of service
    /// accounts, and the taint that a new node keeps until a controller takes it away.
    #[must_use]
    pub fn api_server(&self) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://127.0.0.1:{ETCD_CLIENT}"),
            "--bind-address=0.0.0.0".to_owned(),
            format!("--secure-port={API_FABRIC_PORT}"),
            format!("--advertise-address={}", api_address()),
            format!("--cert-dir={}", self.folder.display()),
            format!("--tls-cert-file={}", self.path("server.crt")),
            format!("--tls-private-key-file={}", self.path("server.key")),
            format!("--token-auth-file={}", self.path("tokens.csv")),
            format!("--service-account-key-file={}", self.path("accounts.pub")),
            format!("--service-account-signing-key-file={}", self.path("accounts.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        ]
    }
}

fn authority() -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, "caracal-lab-ca");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let text = parameters.self_signed(&key)?.pem();
    Ok((text, Issuer::new(parameters, key)))
}

/// The server's certificate and its key.
fn server(issuer: &Issuer<'static, KeyPair>) -> Result<(String, String), rcgen::Error> {
    let names = [
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        api_address().to_string(),
    ];
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn token() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kubeconfig(port: u16, authority: &str, token: &str) -> Result<String> {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
        "clusters": [{"name": "lab", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": authority,
        }}],
        "users": [{"name": "admin", "user": {"token": token}}],
    });
    yaml::to_string(&value).map_err(|e| Error::refused(e.to_string()))
}

/// Makes every connection to the host's loopback one to the API server in the router's network, for as long as the
/// runtime lives.
///
/// # Errors
/// The port is taken.
pub async fn forward(port: u16, router: Arc<Place>) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| Error::io(format!("listen on {address}"), e))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let router = Arc::clone(&router);
                    tokio::spawn(async move {
                        if let Err(error) = carry(stream, &router).await {
                            tracing::debug!(%error, "a connection to the API server ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection to the API server");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn carry(mut near: TcpStream, router: &Place) -> std::io::Result<()> {
    // A socket belongs to the network in which it was made, wherever it is used.
    let made = tokio::task::block_in_place(|| {
        router.run_in_network(|| {
            socket(
                AddressFamily::Inet,
                SockType::Stream,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
        })
    });
    let made = made.map_err(std::io::Error::other)??;
    let made = std::net::TcpStream::from(made);
    made.set_nonblocking(true)?;
    let far = SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_FABRIC_PORT);
    let mut far = TcpSocket::from_std_stream(made).connect(far.into()).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
}

/// Arguments that start a program in the network of the process that keeps a machine: `nsenter` keeps the host's
/// files, among which the lab's directory is.
#[must_use]
pub fn in_network_of(anchor: u32, program: &Path, args: Vec<String>) -> Vec<String> {
    let mut all = vec![
        format!("--net=/proc/{anchor}/ns/net"),
        "--".to_owned(),
        program.to_string_lossy().into_owned(),
    ];
    all.extend(args);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    #[test]
    fn the_kubeconfig_leads_to_the_server_with_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let mut plan = Plan::new(dir.path(), &Options::default()).unwrap();
        plan.api_port = 4001;
        let files = Files::write(&layout, &plan).unwrap();
        let value = yaml::document(&fs::read_to_string(layout.kubeconfig()).unwrap()).unwrap();
        assert_eq!(
            value["clusters"][0]["cluster"]["server"],
            "https://127.0.0.1:4001"
        );
        let tokens = fs::read_to_string(files.path("tokens.csv")).unwrap();
        let token = value["users"][0]["user"]["token"].as_str().unwrap();
        assert!(
            tokens.starts_with(&format!("{token},")) && token.len() == 64,
            "{tokens}"
        );
        let certificate = fs::read_to_string(files.path("server.crt")).unwrap();
        assert!(certificate.contains("BEGIN CERTIFICATE"), "{certificate}");
    }
}
