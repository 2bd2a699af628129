//! Credentials of the CNI plugins: a token of their own service account, in a kubeconfig.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caracal_datastore::Client;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Error;

/// Validity that is asked for, as Calico does.
const VALIDITY_SECONDS: u64 = 24 * 60 * 60;

/// The service accounts: this pod's, to read from, and the plugins'.
#[derive(Clone, Debug)]
pub struct Account {
    /// Namespace of both.
    pub namespace: String,
    /// Name of the plugins'.
    pub name: String,
    /// Certificate authority of the API, PEM.
    pub authority: String,
}

impl Account {
    /// Reads what Kubernetes mounts into a pod.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(folder: &Path, name: &str) -> Result<Self, Error> {
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).map_err(|error| Error::Account {
                path,
                problem: error.to_string(),
            })
        };
        Ok(Self {
            namespace: read("namespace")?.trim().to_owned(),
            name: name.to_owned(),
            authority: read("ca.crt")?,
        })
    }
}

/// A token with its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub token: String,
    /// How long it is valid from now.
    pub validity: Duration,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("token", &"***")
            .field("validity", &self.validity)
            .finish()
    }
}

/// Asks the API for a token of the plugins' account.
///
/// # Errors
/// When it gives none.
pub async fn request_token(client: &Client, account: &Account) -> Result<Token, Error> {
    let failed = |problem: String| Error::Token {
        account: format!("{}/{}", account.namespace, account.name),
        problem,
    };
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": VALIDITY_SECONDS},
    });
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/{}/token",
        account.namespace, account.name
    );
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| failed(error.to_string()))?;
    let answer: Value = client
        .kube()
        .request(request)
        .await
        .map_err(|error| failed(error.to_string()))?;
    read_token(&answer, Timestamp::now()).map_err(failed)
}

fn read_token(answer: &Value, now: Timestamp) -> Result<Token, String> {
    let status = answer.get("status");
    let text = |key: &str| status.and_then(|status| status.get(key)).and_then(Value::as_str);
    let token = text("token").filter(|token| !token.is_empty());
    let end = text("expirationTimestamp").and_then(|text| text.parse::<Timestamp>().ok());
    let (Some(token), Some(end)) = (token, end) else {
        return Err("the answer has no token with an end".to_owned());
    };
    let validity = u64::try_from(end.as_second().saturating_sub(now.as_second())).unwrap_or(0);
    Ok(Token {
        token: token.to_owned(),
        validity: Duration::from_secs(validity),
    })
}

/// The text of the kubeconfig; JSON, which is YAML too.
///
/// # Errors
/// When the address of the API is not known.
pub fn kubeconfig(
    variables: &BTreeMap<String, String>,
    account: &Account,
    token: &str,
) -> Result<String, Error> {
    let text = |name: &str| {
        variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    };
    let host = text("KUBERNETES_SERVICE_HOST").ok_or(Error::Configuration {
        variable: "KUBERNETES_SERVICE_HOST",
        problem: "is not set, so the plugins could not reach the API; Kubernetes sets it in pods".to_owned(),
    })?;
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => host.to_owned(),
    };
    let protocol = text("KUBERNETES_SERVICE_PROTOCOL").unwrap_or("https");
    let port = text("KUBERNETES_SERVICE_PORT").unwrap_or("443");
    let mut cluster = json!({"server": format!("{protocol}://{host}:{port}")});
    if let Some(cluster) = cluster.as_object_mut() {
        if text("SKIP_TLS_VERIFY") == Some("true") {
            cluster.insert("insecure-skip-tls-verify".to_owned(), json!(true));
        } else {
            let authority = STANDARD.encode(&account.authority);
            cluster.insert("certificate-authority-data".to_owned(), json!(authority));
        }
    }
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "calico", "user": {"token": token}}],
        "contexts": [{"name": "calico-context", "context": {"cluster": "local", "user": "calico"}}],
        "current-context": "calico-context",
    });
    Ok(format!("{document:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_without_an_end_is_none() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let good = json!({"status": {"token": "t", "expirationTimestamp": "2026-01-01T01:00:00Z"}});
        let token = read_token(&good, now).unwrap();
        assert_eq!(token.validity, Duration::from_secs(3600));
        assert!(
            !format!("{token:?}").contains("\"t\""),
            "a token is never printed"
        );
        for bad in [
            json!({}),
            json!({"status": {"token": "t"}}),
            json!({"status": {"token": ""}}),
        ] {
            assert!(read_token(&bad, now).is_err(), "{bad}");
        }
        let past = json!({"status": {"token": "t", "expirationTimestamp": "2025-01-01T01:00:00Z"}});
        assert_eq!(read_token(&past, now).unwrap().validity, Duration::ZERO);
    }
}
