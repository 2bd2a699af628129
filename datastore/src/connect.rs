//! Where the API server is, and a connection to it.
//!
//! Order: the kubeconfig that was given, then the service account of the pod, then `KUBECONFIG` and the default
//! file. In a container an inherited `KUBECONFIG` does not win over the service account.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Config;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::client::Client;
use crate::error::{Error, Result, chain};
use crate::watch::WATCH_TIMEOUT;

/// A silent connection is given up this long after a watch should have ended by itself.
const READ_TIMEOUT_SLACK: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to find the API server; by default as the environment says.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// The text of a kubeconfig, in place of a file.
    pub kubeconfig_inline: Option<String>,
    /// The context of the kubeconfig file; by default its current one.
    pub context: Option<String>,
    /// Address of the server, in place of the one found (`https://HOST:PORT`).
    pub server: Option<String>,
    /// Certificates and credentials, in place of those found.
    pub credentials: Credentials,
    /// The address and the credentials are all there is: neither a kubeconfig nor a service account is looked for.
    pub only_server: bool,
    /// Name that the server's logs show; by default `caracal/VERSION`.
    pub user_agent: String,
}

/// What a client shows the server, and by what it knows the server.
#[derive(Clone, Default)]
pub struct Credentials {
    /// File with the client's certificate (PEM).
    pub certificate: Option<PathBuf>,
    /// File with the key of that certificate (PEM).
    pub key: Option<PathBuf>,
    /// File with the certificates that the server's is signed by (PEM).
    pub authorities: Option<PathBuf>,
    /// A bearer token.
    pub token: Option<String>,
    /// The server's certificate is not checked.
    pub insecure: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("authorities", &self.authorities)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("insecure", &self.insecure)
            .finish()
    }
}

impl Client {
    /// Connects to the API server. No request is sent yet.
    ///
    /// # Errors
    ///
    /// When no server is known, or the kubeconfig, an address, a certificate or credentials cannot be used.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        install_crypto_provider();
        let mut config = find(options).await?;
        if let Some(server) = &options.server {
            config.cluster_url = server_address(server)?;
        }
        show(&mut config, &options.credentials)?;
        // Without this a half-open connection would keep a watch silent for ever.
        config.read_timeout = Some(WATCH_TIMEOUT + READ_TIMEOUT_SLACK);
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Writes must not be repeated behind the caller's back: a lost answer would look like a conflict.
        config.default_retry = false;
        config.headers.push((USER_AGENT, user_agent(&options.user_agent)));
        let server = config.cluster_url.to_string();
        let builder = ClientBuilder::try_from(config).map_err(|error| Error::Setup {
            server,
            problem: chain(&error),
        })?;
        Ok(Self::from_kube(builder.build()))
    }
}

async fn find(options: &ConnectOptions) -> Result<Config> {
    let select = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(text) = &options.kubeconfig_inline {
        let problem = |error: kube::config::KubeconfigError| Error::Kubeconfig {
            path: PathBuf::from("(inline)"),
            problem: chain(&error),
        };
        let file = Kubeconfig::from_yaml(text).map_err(problem)?;
        return Config::from_custom_kubeconfig(file, &select)
            .await
            .map_err(problem);
    }
    if let Some(path) = &options.kubeconfig {
        return from_file(path, &select).await;
    }
    if let (true, Some(server)) = (options.only_server, &options.server) {
        return Ok(Config::new(server_address(server)?));
    }
    let in_cluster = match Config::incluster() {
        Ok(config) => return Ok(config),
        Err(error) => chain(&error),
    };
    match Config::from_kubeconfig(&select).await {
        Ok(config) => Ok(config),
        Err(error) => match &options.server {
            // A bare address is enough for servers without credentials.
            Some(server) => Ok(Config::new(server_address(server)?)),
            None => Err(Error::NoServer {
                problem: format!("not in a pod ({in_cluster}); no kubeconfig ({})", chain(&error)),
            }),
        },
    }
}

/// Puts certificates and credentials in place of those found.
fn show(config: &mut Config, credentials: &Credentials) -> Result<()> {
    let text = |path: &Path| path.to_str().map(str::to_owned);
    let auth = &mut config.auth_info;
    if let Some(path) = &credentials.certificate {
        auth.client_certificate = text(path);
        auth.client_certificate_data = None;
    }
    if let Some(path) = &credentials.key {
        auth.client_key = text(path);
        auth.client_key_data = None;
    }
    if let Some(token) = &credentials.token {
        auth.token = Some(token.clone().into());
        auth.token_file = None;
    }
    if let Some(path) = &credentials.authorities {
        config.root_cert = Some(certificates(path)?);
    }
    config.accept_invalid_certs |= credentials.insecure;
    Ok(())
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>> {
    let refuse = |problem: String| Error::Certificates {
        path: path.to_owned(),
        problem,
    };
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| refuse(error.to_string()))?
        .collect();
    let found = found.map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() {
        return Err(refuse("there is no certificate in it".to_owned()));
    }
    Ok(found.into_iter().map(|one| one.to_vec()).collect())
}

async fn from_file(path: &Path, select: &KubeConfigOptions) -> Result<Config> {
    let problem = |error: kube::config::KubeconfigError| Error::Kubeconfig {
        path: path.to_owned(),
        problem: chain(&error),
    };
    let file = Kubeconfig::read_from(path).map_err(problem)?;
    Config::from_custom_kubeconfig(file, select)
        .await
        .map_err(problem)
}

fn server_address(server: &str) -> Result<http::Uri> {
    let refuse = |problem: String| Error::ServerAddress {
        server: server.to_owned(),
        problem,
    };
    let uri: http::Uri = server
        .parse()
        .map_err(|error: http::uri::InvalidUri| refuse(error.to_string()))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(refuse("the scheme is neither http nor https".to_owned()));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(refuse("it has no host".to_owned()));
    }
    Ok(uri)
}

fn user_agent(name: &str) -> HeaderValue {
    let own = HeaderValue::from_static(concat!("caracal/", env!("CARGO_PKG_VERSION")));
    if name.is_empty() {
        return own;
    }
    HeaderValue::from_str(name).unwrap_or(own)
}

/// Makes ring the cryptography of the process. With none chosen, the first TLS connection panics when more than one
/// is compiled in.
fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails when the program has chosen one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses_need_scheme_and_host() {
        assert!(server_address("https://172.30.0.254:6443").is_ok());
        assert!(server_address("http://[::1]:8080").is_ok());
        for bad in ["", "172.30.0.254:6443", "ftp://host", "https://", "not a url"] {
            let error = server_address(bad).unwrap_err().to_string();
            assert!(
                error.contains("https://HOST:PORT") && error.contains(bad),
                "{error}"
            );
        }
    }

    #[test]
    fn a_user_agent_that_is_no_header_is_replaced() {
        assert_eq!(user_agent("caracal-felix/1"), "caracal-felix/1");
        assert!(user_agent("bad\nvalue").to_str().unwrap().starts_with("caracal/"));
    }

    #[tokio::test]
    async fn credentials_take_the_place_of_those_found() {
        let folder = tempfile::tempdir().unwrap();
        let options = |authorities: &Path| {
            ConnectOptions {
            kubeconfig_inline: Some(
                "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], \
                 clusters: [{name: a, cluster: {server: 'https://a:1'}}], users: [{name: a, user: {token: old}}]}"
                    .to_owned(),
            ),
            credentials: Credentials {
                certificate: Some("/c.pem".into()),
                key: Some("/k.pem".into()),
                authorities: Some(authorities.to_owned()),
                token: Some("secret".to_owned()),
                insecure: true,
            },
            ..ConnectOptions::default()
        }
        };
        let file = folder.path().join("ca.pem");
        std::fs::write(
            &file,
            "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        let options = options(&file);
        let mut config = find(&options).await.unwrap();
        assert_eq!(config.cluster_url, "https://a:1/");
        show(&mut config, &options.credentials).unwrap();
        assert_eq!(config.root_cert, Some(vec![vec![1, 2, 3]]));
        assert_eq!(config.auth_info.client_certificate.as_deref(), Some("/c.pem"));
        assert_eq!(config.auth_info.client_key.as_deref(), Some("/k.pem"));
        assert!(config.accept_invalid_certs && config.auth_info.token.is_some());
        assert!(!format!("{options:?}").contains("secret"));
        std::fs::write(&file, "nothing").unwrap();
        let error = show(&mut config, &options.credentials).unwrap_err().to_string();
        assert!(
            error.contains("ca.pem") && error.contains("no certificate"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_bare_address_needs_no_kubeconfig() {
        let options = ConnectOptions {
            server: Some("https://10.0.0.1:6443".to_owned()),
            only_server: true,
            ..ConnectOptions::default()
        };
        assert_eq!(
            find(&options).await.unwrap().cluster_url,
            "https://10.0.0.1:6443/"
        );
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_with_its_path() {
        let options = ConnectOptions {
            kubeconfig: Some(PathBuf::from("/nonexistent/kubeconfig")),
            ..ConnectOptions::default()
        };
        let error = Client::connect(&options).await.err().unwrap().to_string();
        assert!(error.contains("/nonexistent/kubeconfig"), "{error}");
    }
}
