//! Names that resolve only inside a cluster, and where what they name is reached from outside.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// One name with its port, and the address to connect to instead: `HOST:PORT=ADDRESS[:PORT]`, as in
/// `nats.nats.svc.cluster.local:4222=10.1.2.3:30422`. It is curl's `--connect-to` with an equals sign, so that what is
/// mapped and where to are told apart at a glance. The certificate of a server is still checked against the name.
///
/// The address is an IP address, an IPv6 one in brackets, or a name that does resolve here; without a port, the port stays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resolve {
    host: String,
    port: u16,
    address: String,
    address_port: u16,
}

impl Resolve {
    /// The name that is mapped, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where to connect to: an IP address without brackets, or a name.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port to connect to.
    pub fn address_port(&self) -> u16 {
        self.address_port
    }

    /// Whether this is about that name and port. Names have no case.
    pub fn is_for(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host.eq_ignore_ascii_case(host)
    }
}

/// Why a text is no [`Resolve`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} {why}; write HOST:PORT=ADDRESS or HOST:PORT=ADDRESS:PORT, as in nats.nats.svc.cluster.local:4222=10.1.2.3:30422"
)]
pub struct InvalidResolve {
    text: String,
    why: &'static str,
}

impl FromStr for Resolve {
    type Err = InvalidResolve;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| InvalidResolve { text: text.to_owned(), why };
        let (from, to) = text.split_once('=').ok_or_else(|| invalid("has no ="))?;
        let (host, port) = endpoint(from).map_err(invalid)?;
        let port = port.ok_or_else(|| invalid("names no port before the ="))?;
        let (address, address_port) = endpoint(to).map_err(invalid)?;
        let host = host.to_ascii_lowercase();
        Ok(Self { host, port, address: address.to_owned(), address_port: address_port.unwrap_or(port) })
    }
}

/// Host and port of `HOST[:PORT]`, where an IPv6 address stands in brackets.
fn endpoint(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or("has a [ without ]")?;
            if address.parse::<Ipv6Addr>().is_err() {
                return Err("has no IPv6 address in its brackets");
            }
            match rest.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if rest.is_empty() => (address, None),
                None => return Err("goes on after an address in brackets"),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let in_brackets = text.starts_with('[');
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !in_brackets && (host.is_empty() || host.len() > 253 || !host.chars().all(allowed)) {
        return Err("has no name or address on one side");
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => {
                return Err(
                    "has a port that is no number from 1 to 65535 (an IPv6 address stands in brackets)",
                );
            }
        },
    };
    Ok((host, port))
}

impl fmt::Display for Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        write!(f, "{}:{}={}:{}", host(&self.host), self.port, host(&self.address), self.address_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_mapped_to_an_address() {
        for (text, whole) in [
            ("nats.nats.svc:4222=10.0.0.1", "nats.nats.svc:4222=10.0.0.1:4222"),
            ("NATS.svc:4222=10.0.0.1:30422", "nats.svc:4222=10.0.0.1:30422"),
            ("a:1=b.example.com:2", "a:1=b.example.com:2"),
            ("a:1=[::1]", "a:1=[::1]:1"),
            ("[fe80::2]:1=[::1]:2", "[fe80::2]:1=[::1]:2"),
        ] {
            let resolve: Resolve = text.parse().unwrap();
            assert_eq!(resolve.to_string(), whole);
            assert_eq!(whole.parse(), Ok(resolve));
        }
        let resolve: Resolve = "nats.svc:4222=[::1]:9".parse().unwrap();
        assert_eq!((resolve.address(), resolve.address_port()), ("::1", 9));
        assert!(resolve.is_for("Nats.SVC", 4222) && !resolve.is_for("nats.svc", 4223));
    }

    #[test]
    fn what_is_none_says_why() {
        for (text, why) in [
            ("", "has no ="),
            ("a:1:b", "has no ="),
            ("a=b", "names no port before the ="),
            ("a:1=", "has no name or address on one side"),
            (":1=b", "has no name or address on one side"),
            ("a b:1=c", "has no name or address on one side"),
            ("nats://a:1=c", "has a port that is no number"),
            ("a:0=c", "has a port that is no number"),
            ("a:1=c:65536", "has a port that is no number"),
            ("a:1=::1", "has no name or address on one side"),
            ("a:1=fe80::1", "has a port that is no number"),
            ("a:1=[::1", "has a [ without ]"),
            ("a:1=[x]", "has no IPv6 address in its brackets"),
            ("a:1=[::1]9", "goes on after an address in brackets"),
            ("a:1=b=c", "has no name or address on one side"),
        ] {
            let error = text.parse::<Resolve>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} {why}")), "{error}");
        }
    }
}
