//! The authority, the server's certificate and the administrator's token: made once, kept, used again.
//!
//! Layout of a data directory: `ca.pem` (key and certificate), `server.pem` (the names it is for, key and certificate),
//! `admin.token`. Each is replaced as a whole, so that no key is ever next to another's certificate.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

const AUTHORITY: &str = "ca.pem";
const SERVER: &str = "server.pem";
const TOKEN: &str = "admin.token";
/// Names under which pods and people reach every API server.
const USUAL_NAMES: [&str; 7] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];
/// Certificates are valid from here on, whatever the clocks of clients say, and for this long.
const VALID_FROM: i32 = 2020;
const VALID_UNTIL: i32 = 2120;

/// What the server shows and what it lets in.
pub(crate) struct Credentials {
    pub(crate) authority_pem: String,
    pub(crate) token: String,
    pub(crate) tls: rustls::ServerConfig,
}

/// Reads the credentials in `directory` and makes what is missing; without a directory everything is new.
pub(crate) fn prepare(directory: Option<&Path>, names: BTreeSet<String>) -> Result<Credentials> {
    if let Some(directory) = directory {
        fs::create_dir_all(directory).with_context(|| {
            let shown = directory.display();
            format!("cannot use the data directory {shown}; give one that this user may write to")
        })?;
    }
    let mut names = names;
    names.extend(USUAL_NAMES.map(str::to_owned));
    let authority = kept(directory, AUTHORITY, |_| true, new_authority)?;
    // The digest tells when the authority became another one.
    let signer: [u8; 32] = Sha256::digest(&authority).into();
    let names_listed = names.iter().cloned().collect::<Vec<_>>().join(" ");
    let listed = format!("# names: {names_listed}; authority: {}", hex(&signer));
    let fits = |text: &str| text.lines().next() == Some(&listed);
    let server = kept(directory, SERVER, fits, || new_server(&authority, &listed, names))?;
    let token = kept(
        directory,
        TOKEN,
        |text| text.trim().len() >= 32,
        || Ok(new_token()),
    )?;
    Ok(Credentials {
        authority_pem: certificate_of(&authority)?.to_owned(),
        token: token.trim().to_owned(),
        tls: tls(&server).context("use the server's certificate")?,
    })
}

/// The content of a file if it is there and fits, else new content, which is then kept.
fn kept(
    directory: Option<&Path>,
    file: &str,
    fits: impl Fn(&str) -> bool,
    new: impl FnOnce() -> Result<String>,
) -> Result<String> {
    let Some(directory) = directory else { return new() };
    let path = directory.join(file);
    match fs::read_to_string(&path) {
        Ok(text) if fits(&text) => return Ok(text),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    }
    let text = new()?;
    write_private(&path, &text)?;
    Ok(text)
}

/// Writes a file as a whole, for its owner only.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        // A file that a killed process left may have other permissions.
        if let Err(error) = fs::remove_file(&beside)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn new_token() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the authority's certificate says. The same again when it signs, as only the key is read back.
fn authority_parameters() -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.not_before = rcgen::date_time_ymd(VALID_FROM, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(VALID_UNTIL, 1, 1);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "caracal-apiserver-ca");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

fn new_authority() -> Result<String> {
    let key = KeyPair::generate()?;
    let certificate = authority_parameters()?.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

fn new_server(authority: &str, listed: &str, names: BTreeSet<String>) -> Result<String> {
    let signer = KeyPair::from_pem(authority)
        .with_context(|| format!("{AUTHORITY} has no key that can be used; remove it to get a new one"))?;
    let issuer = Issuer::new(authority_parameters()?, signer);
    let shown = names.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut parameters = CertificateParams::new(names.into_iter().collect::<Vec<_>>())
        .with_context(|| format!("a certificate cannot be made for these names: {shown}"))?;
    parameters.not_before = rcgen::date_time_ymd(VALID_FROM, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(VALID_UNTIL, 1, 1);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "caracal-apiserver");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, &issuer)?;
    Ok(format!("{listed}\n{}{}", key.serialize_pem(), certificate.pem()))
}

fn certificate_of(pem: &str) -> Result<&str> {
    let start = pem.find("-----BEGIN CERTIFICATE-----");
    start
        .and_then(|start| pem.get(start..))
        .ok_or_else(|| anyhow!("{AUTHORITY} has no certificate; remove it to get a new one"))
}

fn tls(server: &str) -> Result<rustls::ServerConfig> {
    let damaged = || format!("{SERVER} is damaged; remove it to get a new one");
    let certificate = CertificateDer::from_pem_slice(server.as_bytes()).with_context(damaged)?;
    let key = PrivateKeyDer::from_pem_slice(server.as_bytes()).with_context(damaged)?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .with_context(damaged)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn credentials_are_kept_and_only_new_names_change_the_certificate() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let first = prepare(Some(directory.path()), names(&["a.example", "10.0.0.1"])).unwrap();
        let server = fs::read_to_string(directory.path().join(SERVER)).unwrap();
        let again = prepare(Some(directory.path()), names(&["10.0.0.1", "a.example"])).unwrap();
        assert_eq!(
            (&again.authority_pem, &again.token),
            (&first.authority_pem, &first.token)
        );
        assert_eq!(fs::read_to_string(directory.path().join(SERVER)).unwrap(), server);
        let other = prepare(Some(directory.path()), names(&["b.example"])).unwrap();
        assert_eq!(
            (other.authority_pem, other.token),
            (first.authority_pem, first.token)
        );
        assert_ne!(fs::read_to_string(directory.path().join(SERVER)).unwrap(), server);
        for file in [AUTHORITY, SERVER, TOKEN] {
            let mode = fs::metadata(directory.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        fs::write(directory.path().join(AUTHORITY), "nonsense").unwrap();
        let error = prepare(Some(directory.path()), names(&[])).err().unwrap();
        assert!(error.to_string().contains("remove it"), "{error}");
    }
}
