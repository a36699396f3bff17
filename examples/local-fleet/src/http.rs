//! As much of an HTTP client as the lab needs to ask a server on this machine whether it is ready.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{IpAddr, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// An answer may take this long.
const DEADLINE: Duration = Duration::from_secs(5);
/// And may be this large.
const MAX_ANSWER: u64 = 1 << 20;

/// A server to talk to; without TLS if there is no TLS configuration.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// Status code and body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Endpoint {
    /// Sends one request over a new connection.
    pub(crate) async fn request(&self, method: &str, path: &str, json: &str) -> io::Result<Answer> {
        // HTTP/1.0: the answer comes in one piece and the end of the connection is its end.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{json}",
            self.address,
            json.len()
        );
        timeout(DEADLINE, self.exchange(&request)).await?
    }

    async fn exchange(&self, request: &str) -> io::Result<Answer> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let bytes = match &self.tls {
            None => talk(stream, request).await?,
            Some(tls) => {
                let name = ServerName::IpAddress(IpAddr::from(self.address.ip()));
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
                talk(stream, request).await?
            }
        };
        parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut answer).await {
        // Go's servers close TLS without saying so.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
        Err(error) => Err(error),
        Ok(_) => Ok(answer),
    }
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}
