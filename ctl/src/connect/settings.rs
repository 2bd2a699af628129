//! The settings of a CalicoAPIConfig file, or of the environment: where the API server is, and what is shown to it.
//!
//! Owns names, their order and what is refused. Never opens a connection. Source: calicoctl's configuration, as
//! `docs/cli.md` describes it: a file that is there decides alone, and of each variable the form with `CALICO_` wins.

use std::path::PathBuf;

use caracal_datastore::{ConnectOptions, Credentials};
use serde_json::Value;

/// One setting: its name in the file, and the variable that says the same.
type Setting = (&'static str, &'static str);

const KIND: Setting = ("datastoreType", "DATASTORE_TYPE");
const KUBECONFIG: Setting = ("kubeconfig", "KUBECONFIG");
const INLINE: Setting = ("kubeconfigInline", "");
const ENDPOINT: Setting = ("k8sAPIEndpoint", "K8S_API_ENDPOINT");
const CERTIFICATE: Setting = ("k8sCertFile", "K8S_CERT_FILE");
const KEY: Setting = ("k8sKeyFile", "K8S_KEY_FILE");
const AUTHORITIES: Setting = ("k8sCAFile", "K8S_CA_FILE");
const TOKEN: Setting = ("k8sAPIToken", "K8S_API_TOKEN");
const INSECURE: Setting = ("k8sInsecureSkipTLSVerify", "K8S_INSECURE_SKIP_TLS_VERIFY");
const CONTEXT: Setting = ("k8sCurrentContext", "K8S_CURRENT_CONTEXT");
const GROUP: Setting = ("calicoAPIGroup", "CALICO_API_GROUP");
const ETCD: Setting = ("etcdEndpoints", "ETCD_ENDPOINTS");
const ETCD_SERVICE: Setting = ("etcdDiscoverySrv", "ETCD_DISCOVERY_SRV");
/// Settings that a file may have and that change nothing here.
const WITHOUT_EFFECT: [&str; 12] = [
    "k8sDisableNodePoll",
    "usePodCIDR",
    "k8sClientQPS",
    "k8sClientBurst",
    "etcdUsername",
    "etcdPassword",
    "etcdKeyFile",
    "etcdCertFile",
    "etcdCACertFile",
    "etcdKey",
    "etcdCert",
    "etcdCACert",
];
const KNOWN: [Setting; 13] = [
    KIND,
    KUBECONFIG,
    INLINE,
    ENDPOINT,
    CERTIFICATE,
    KEY,
    AUTHORITIES,
    TOKEN,
    INSECURE,
    CONTEXT,
    GROUP,
    ETCD,
    ETCD_SERVICE,
];

/// The settings as a section of the reference.
pub(crate) fn markdown() -> String {
    let mut text = "\n## Where the API server is\n\n\
        A configuration file that is there decides alone: `apiVersion: projectcalico.org/v3`, `kind: CalicoAPIConfig`, and in\n\
        `spec` the fields below. Without one the environment decides; of each variable the form with `CALICO_` in front wins.\n\
        `--kubeconfig` and `--context` come before both. With nothing of all that it is the kubeconfig of kubectl, or the\n\
        service account of the pod. Certificates, keys and tokens take the place of those in a kubeconfig.\n\n\
        | Field | Variable | Meaning |\n|---|---|---|\n"
        .to_owned();
    let rows = [
        (KIND, "`kubernetes`; etcd is refused"),
        (KUBECONFIG, "path of a kubeconfig"),
        (INLINE, "text of a kubeconfig; wins over a path"),
        (ENDPOINT, "address of the API server (`https://HOST:PORT`)"),
        (CERTIFICATE, "file with the client's certificate (PEM)"),
        (KEY, "file with the key of that certificate (PEM)"),
        (
            AUTHORITIES,
            "file with the certificates that the server's is signed by (PEM)",
        ),
        (TOKEN, "bearer token; `CALICO_K8SAPITOKEN` is read, too"),
        (INSECURE, "`true`: the server's certificate is not checked"),
        (CONTEXT, "context of the kubeconfig"),
        (GROUP, "`projectcalico.org/v3`; another one is refused"),
        (ETCD, "refused"),
        (ETCD_SERVICE, "refused"),
    ];
    for ((field, variable), meaning) in rows {
        let variable = if variable.is_empty() {
            "–".to_owned()
        } else {
            format!("`{variable}`")
        };
        text.push_str(&format!("| `{field}` | {variable} | {meaning} |\n"));
    }
    text.push_str(&format!(
        "\nRead and without effect: `{}`.\n",
        WITHOUT_EFFECT.join("`, `")
    ));
    text
}

/// Where settings come from.
pub(super) enum Source<'a> {
    /// A file, by its name and its content.
    File(&'a str, &'a Value),
    /// Variables of the environment.
    Variables(&'a dyn Fn(&str) -> Option<String>),
}

impl Source<'_> {
    /// A setting, and under which name it was found.
    fn get(&self, (field, variable): Setting) -> Result<Option<(String, String)>, String> {
        match self {
            Self::File(file, content) => {
                let name = format!("{file}: spec.{field}");
                match content.pointer(&format!("/spec/{field}")) {
                    None | Some(Value::Null) => Ok(None),
                    Some(Value::String(text)) if text.is_empty() => Ok(None),
                    Some(Value::String(text)) => Ok(Some((name, text.clone()))),
                    Some(Value::Bool(set)) if field == INSECURE.0 => Ok(Some((name, set.to_string()))),
                    Some(other) => Err(format!("{name}: {other} is no text; write it in quotes")),
                }
            }
            Self::Variables(_) if variable.is_empty() => Ok(None),
            Self::Variables(read) => {
                // The token's variable has a name of its own in calicoctl, by accident.
                let accident = (variable == TOKEN.1).then(|| "CALICO_K8SAPITOKEN".to_owned());
                let names = [
                    Some(format!("CALICO_{variable}")),
                    accident,
                    Some(variable.to_owned()),
                ];
                let mut found = names.into_iter().flatten().filter_map(|name| {
                    let value = read(&name).filter(|value| !value.is_empty())?;
                    Some((name, value))
                });
                Ok(found.next())
            }
        }
    }

    fn text(&self, setting: Setting) -> Result<Option<String>, String> {
        Ok(self.get(setting)?.map(|(_, value)| value))
    }

    fn path(&self, setting: Setting) -> Result<Option<PathBuf>, String> {
        Ok(self.text(setting)?.map(PathBuf::from))
    }

    fn truth(&self, setting: Setting) -> Result<bool, String> {
        match self.get(setting)? {
            None => Ok(false),
            Some((name, value)) => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(format!("{name}: {value:?} is neither true nor false")),
            },
        }
    }
}

/// Fields of a file that nobody knows.
fn check_fields(file: &str, content: &Value) -> Result<(), String> {
    let unknown = |name: &&String| {
        !WITHOUT_EFFECT.contains(&name.as_str()) && !KNOWN.iter().any(|(field, _)| field == name)
    };
    let spec = content.get("spec").and_then(Value::as_object);
    match spec.into_iter().flat_map(serde_json::Map::keys).find(unknown) {
        None => Ok(()),
        Some(name) => Err(format!(
            "syntax error in {file}: failed to parse config as YAML/JSON: unknown field \"spec.{name}\"; see docs/cli.md for those there are"
        )),
    }
}

/// Only the Kubernetes API is a datastore here, with objects of `projectcalico.org/v3`.
fn check_datastore(source: &Source<'_>) -> Result<(), String> {
    let remedy = "Caracal keeps its objects in the Kubernetes API: set it to kubernetes, or use calicoctl of Calico for etcd";
    let kind = source.get(KIND)?;
    match &kind {
        Some((_, kind)) if kind == "kubernetes" => {}
        Some((name, kind)) => return Err(format!("{name}: {kind:?} is not supported; {remedy}")),
        None => {
            let etcd = [source.get(ETCD)?, source.get(ETCD_SERVICE)?];
            if let Some((name, _)) = etcd.into_iter().flatten().next() {
                return Err(format!(
                    "{name} asks for the datastore etcdv3, which is not supported; remove it and name the Kubernetes API server: {} or {}",
                    ENDPOINT.1, KUBECONFIG.1
                ));
            }
        }
    }
    match source.get(GROUP)? {
        Some((name, group)) if group != "projectcalico.org/v3" => Err(format!(
            "{name}: {group:?} is not supported; objects are of projectcalico.org/v3 (caracalctl convert reads those of crd.projectcalico.org/v1)"
        )),
        _ => Ok(()),
    }
}

/// How to connect, as a source says. `home` is the kubeconfig that kubectl would use, if it is there.
pub(super) fn options(source: &Source<'_>, home: Option<PathBuf>) -> Result<ConnectOptions, String> {
    if let Source::File(file, content) = source {
        check_fields(file, content)?;
    }
    check_datastore(source)?;
    let server = source.text(ENDPOINT)?;
    let kubeconfig_inline = source.text(INLINE)?;
    let kubeconfig = match source.path(KUBECONFIG)? {
        None if server.is_none() => home,
        given => given,
    };
    let credentials = Credentials {
        certificate: source.path(CERTIFICATE)?,
        key: source.path(KEY)?,
        authorities: source.path(AUTHORITIES)?,
        token: source.text(TOKEN)?,
        insecure: source.truth(INSECURE)?,
    };
    Ok(ConnectOptions {
        only_server: server.is_some() && kubeconfig.is_none() && kubeconfig_inline.is_none(),
        kubeconfig,
        kubeconfig_inline,
        context: source.text(CONTEXT)?,
        server,
        credentials,
        ..ConnectOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of_variables(set: &[(&str, &str)]) -> Result<ConnectOptions, String> {
        let read = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        options(&Source::Variables(&read), Some("/home/config".into()))
    }

    fn of_file(spec: Value) -> Result<ConnectOptions, String> {
        options(&Source::File("calicoctl.cfg", &json!({"spec": spec})), None)
    }

    #[test]
    fn variables_say_where_and_the_form_with_calico_wins() {
        let all = of_variables(&[
            ("DATASTORE_TYPE", "etcdv3"),
            ("CALICO_DATASTORE_TYPE", "kubernetes"),
            ("K8S_API_ENDPOINT", "https://a:6443"),
            ("CALICO_K8S_API_ENDPOINT", "https://b:6443"),
            ("K8S_CERT_FILE", "/c.pem"),
            ("K8S_KEY_FILE", "/k.pem"),
            ("K8S_CA_FILE", "/ca.pem"),
            ("K8S_API_TOKEN", "plain"),
            ("CALICO_K8SAPITOKEN", "calico"),
            ("K8S_INSECURE_SKIP_TLS_VERIFY", "1"),
            ("K8S_CURRENT_CONTEXT", "prod"),
        ])
        .unwrap();
        assert_eq!(all.server.as_deref(), Some("https://b:6443"));
        assert_eq!(all.credentials.certificate, Some("/c.pem".into()));
        assert_eq!(all.credentials.key, Some("/k.pem".into()));
        assert_eq!(all.credentials.authorities, Some("/ca.pem".into()));
        assert_eq!(all.credentials.token.as_deref(), Some("calico"));
        assert!(all.credentials.insecure && all.only_server);
        assert_eq!(all.context.as_deref(), Some("prod"));
        // Without an address it is kubectl's file, and one that is named comes before it.
        assert_eq!(of_variables(&[]).unwrap().kubeconfig, Some("/home/config".into()));
        let named = of_variables(&[("KUBECONFIG", "/named")]).unwrap();
        assert_eq!(named.kubeconfig, Some("/named".into()));
        // With both, the file has the credentials and the variable the address.
        let both = of_variables(&[("KUBECONFIG", "/named"), ("K8S_API_ENDPOINT", "https://a:1")]).unwrap();
        assert!(both.kubeconfig.is_some() && both.server.is_some() && !both.only_server);
    }

    #[test]
    fn a_file_has_the_same_settings_and_more() {
        let all = of_file(
            json!({"datastoreType": "kubernetes", "kubeconfigInline": "{}", "k8sAPIToken": "t",
            "k8sInsecureSkipTLSVerify": true, "k8sClientQPS": 50}),
        )
        .unwrap();
        assert_eq!(all.kubeconfig_inline.as_deref(), Some("{}"));
        assert!(all.credentials.insecure && all.credentials.token.is_some() && !all.only_server);
    }

    #[test]
    fn what_is_not_supported_is_named_with_a_remedy() {
        for (refused, wanted) in [
            (
                of_variables(&[("DATASTORE_TYPE", "etcdv3")]),
                "DATASTORE_TYPE: \"etcdv3\" is not supported",
            ),
            (
                of_variables(&[("ETCD_ENDPOINTS", "http://e:2379")]),
                "ETCD_ENDPOINTS asks for the datastore etcdv3",
            ),
            (
                of_variables(&[("K8S_INSECURE_SKIP_TLS_VERIFY", "maybe")]),
                "neither true nor false",
            ),
            (
                of_variables(&[("CALICO_API_GROUP", "crd.projectcalico.org/v1")]),
                "projectcalico.org/v3",
            ),
            (
                of_file(json!({"etcdEndpoints": "http://e:2379"})),
                "calicoctl.cfg: spec.etcdEndpoints asks for",
            ),
            (of_file(json!({"k8sCAFile": 5})), "spec.k8sCAFile: 5 is no text"),
            (
                of_file(json!({"k8sCaFile": "x"})),
                "unknown field \"spec.k8sCaFile\"",
            ),
        ] {
            let why = refused.unwrap_err();
            assert!(why.contains(wanted), "{why}");
        }
    }
}
