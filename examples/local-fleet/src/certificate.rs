//! Certificates and keys of the lab: an authority, and what it signs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::{LabError, Result, private};

/// An authority that lives only while it signs: its key is never written.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, both PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// One of this name.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed("the authority's key"))?;
        CertifiedIssuer::self_signed(params, key)
            .map(Authority)
            .map_err(failed("the authority's certificate"))
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// For a server on this machine, with further names that it is known by.
    pub fn server(&self, name: &str, further: &[&str]) -> Result<Pair> {
        let mut params = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        for name in ["localhost"].iter().chain(further) {
            let name = (*name).try_into().map_err(failed("a server's name"))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        self.sign(params)
    }

    /// For a client that is to be known by this name, and as a member of this group.
    pub fn client(&self, name: &str, group: &str) -> Result<Pair> {
        let mut params = named(name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// For a client that is to be known by this DNS name and this URI.
    pub fn client_named(&self, dns: &str, uri: &str) -> Result<Pair> {
        let mut params = named(dns);
        params.subject_alt_names = vec![
            SanType::DnsName(dns.try_into().map_err(failed("a client's name"))?),
            SanType::URI(uri.try_into().map_err(failed("a client's URI"))?),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed("a key"))?;
        let certificate = params.signed_by(&key, &self.0).map_err(failed("a certificate"))?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A key pair to sign service account tokens with: (private, public), both PEM.
pub(crate) fn signing_key() -> Result<(String, String)> {
    let key = KeyPair::generate().map_err(failed("the service accounts' key"))?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> LabError {
    move |error| LabError::Credential { what, reason: error.to_string() }
}

/// Fills a folder once, all or nothing: a lab that is started again keeps its keys, so that what was given away stays
/// valid.
pub(crate) fn folder_once(
    dir: &Path,
    make: impl FnOnce() -> Result<Vec<(&'static str, String)>>,
) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let half = dir.with_extension("new");
    if half.exists() {
        fs::remove_dir_all(&half).map_err(LabError::file("remove", &half))?;
    }
    private::create_dir(&half).map_err(LabError::file("create", &half))?;
    for (name, content) in make()? {
        let file = half.join(name);
        private::write(&file, content.as_bytes()).map_err(LabError::file("write", &file))?;
    }
    fs::rename(&half, dir).map_err(LabError::file("create", dir))
}

/// TLS as a client that trusts this authority alone, and shows this certificate and key, if any.
pub(crate) fn client_tls(authority: &Path, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>> {
    let certificate = CertificateDer::from_pem_file(authority).map_err(no_client)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(no_client)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(no_client)?
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_file(certificate).map_err(no_client)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(no_client)?;
            config.with_client_auth_cert(vec![certificate], key).map_err(no_client)?
        }
    };
    Ok(Arc::new(config))
}

fn no_client(error: impl std::fmt::Display) -> LabError {
    LabError::Credential { what: "a TLS client", reason: error.to_string() }
}
