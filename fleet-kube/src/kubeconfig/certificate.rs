//! As much of PEM and X.509 ([RFC 5280], section 4.1) as tells whether a client certificate has expired.
//!
//! [RFC 5280]: https://www.rfc-editor.org/rfc/rfc5280#section-4.1

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The first certificate of a PEM text.
pub(super) fn first(pem: &[u8]) -> Option<Vec<u8>> {
    CertificateDer::from_pem_slice(pem).ok().map(|der| der.as_ref().to_vec())
}

/// Whether a PEM text has a private key.
pub(super) fn is_key(pem: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(pem).is_ok()
}

/// The end of a certificate's validity; `None` if it cannot be read.
pub(super) fn not_after(der: &[u8]) -> Option<Timestamp> {
    let mut certificate = Der(Der(der).read(SEQUENCE)?);
    let mut tbs = Der(certificate.read(SEQUENCE)?);
    tbs.read(VERSION);
    tbs.read(INTEGER)?;
    tbs.read(SEQUENCE)?;
    tbs.read(SEQUENCE)?;
    let mut validity = Der(tbs.read(SEQUENCE)?);
    validity.time()?;
    validity.time()
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`.
const VERSION: u8 = 0xa0;

/// What is left to read of some DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, if it has this tag; else nothing is consumed.
    fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        if found != tag {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.len() > 4 {
                return None;
            }
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// `YYMMDDHHMMSSZ`, years from 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
    fn time(&mut self) -> Option<Timestamp> {
        let text = match self.read(UTC_TIME) {
            Some(short) => {
                let short = std::str::from_utf8(short).ok()?;
                let century = if short.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
                format!("{century}{short}")
            }
            None => std::str::from_utf8(self.read(GENERALIZED_TIME)?).ok()?.to_owned(),
        };
        let civil = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
        civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    }
}
