//! A TCP proxy in front of a server, that can cut, hold up and slow down the network to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::keeper;
use crate::port::local;

/// More connections than any test opens; further ones wait.
const MAX_CONNECTIONS: usize = 8_192;
const BUFFER: usize = 16 * 1024;

/// What the network between a client and a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Passes everything on.
    #[default]
    Open,
    /// Resets the connections there are, and each new one at once.
    Cut,
    /// Keeps all connections, takes new ones, and passes nothing on: packets seem to be lost.
    Silent,
    /// Passes everything on, each piece (up to 16 KiB) this much later.
    Slow(Duration),
}

/// A TCP proxy on 127.0.0.1 in front of one server. It stays when the server restarts; dropping it closes it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    accepting: AbortHandle,
}

impl Proxy {
    /// One more in front of a server, at a port of its own.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn before(server: SocketAddr) -> io::Result<Self> {
        Self::start(0, server).await
    }

    /// Listens at `port`, passing everything on to `server`.
    pub(crate) async fn start(port: u16, server: SocketAddr) -> io::Result<Self> {
        let (network, seen) = watch::channel(Network::default());
        let (address, accepting) = keeper::run(async move {
            let listener = TcpListener::bind(local(port)).await?;
            let address = listener.local_addr()?;
            Ok((address, tokio::spawn(accept(listener, server, seen)).abort_handle()))
        })
        .await?;
        Ok(Proxy { address, network, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the network behave so, for the connections there are and for new ones, until told otherwise.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Short for `set(Network::Cut)`.
    pub fn cut(&self) {
        self.set(Network::Cut);
    }

    /// Short for `set(Network::Open)`. Connections that were cut stay so: their clients must connect again.
    pub fn heal(&self) {
        self.set(Network::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ends the connections too: their tasks belong to this one.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, network: watch::Receiver<Network>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, most likely; accepting again at once would spin.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let network = network.clone();
        connections.spawn(async move {
            // An error is one of the two ends going away, which the other end learns by this ending.
            let _ended = connect(client, server, network).await;
            drop(place);
        });
    }
}

async fn connect(
    mut client: TcpStream,
    server: SocketAddr,
    mut network: watch::Receiver<Network>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut cuts = network.clone();
    let cut = cuts.wait_for(|network| *network == Network::Cut);
    tokio::pin!(cut);
    let mut server = tokio::select! {
        biased;
        _ = &mut cut => return client.set_zero_linger(),
        server = async {
            pass(&mut network).await;
            TcpStream::connect(server).await
        } => server?,
    };
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        biased;
        _ = &mut cut => {}
        ended = async {
            tokio::try_join!(
                pump(from_client, to_server, network.clone()),
                pump(from_server, to_client, network.clone()),
            )
        } => return ended.map(drop),
    }
    // Closing now resets, instead of saying goodbye in order.
    client.set_zero_linger()?;
    server.set_zero_linger()
}

/// Passes on one direction until its sender closes it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut network: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        pass(&mut network).await;
        match buffer.get(..read) {
            None | Some([]) => return to.shutdown().await,
            Some(bytes) => to.write_all(bytes).await?,
        }
    }
}

/// Waits as long as the network makes a piece wait.
async fn pass(network: &mut watch::Receiver<Network>) {
    let passes = |network: &Network| matches!(network, Network::Open | Network::Slow(_));
    // The channel closes only with the proxy, which ends this task.
    let Ok(now) = network.wait_for(passes).await.map(|now| *now) else {
        return;
    };
    let delay = match now {
        Network::Slow(delay) => delay,
        _ => Duration::ZERO,
    };
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(local(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_cut_resets_connections_until_it_is_healed() {
        let proxy = Proxy::start(0, echo().await).await.unwrap();
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut old).await.unwrap(), b'x');
        proxy.cut();
        let error = timeout(SOON, ask(&mut old)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // A new one is reset before or after the client notices that it was taken.
        let ask_anew = async || ask(&mut TcpStream::connect(proxy.address()).await?).await;
        assert!(timeout(SOON, ask_anew()).await.unwrap().is_err());
        proxy.heal();
        assert_eq!(timeout(SOON, ask_anew()).await.unwrap().unwrap(), b'x');
    }

    #[tokio::test]
    async fn silence_loses_nothing() {
        let proxy = Proxy::start(0, echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
        proxy.set(Network::Silent);
        assert!(timeout(Duration::from_millis(100), ask(&mut stream)).await.is_err());
        proxy.heal();
        assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_slow_network_takes_its_time() {
        let proxy = Proxy::start(0, echo().await).await.unwrap();
        proxy.set(Network::Slow(Duration::from_millis(50)));
        let begun = std::time::Instant::now();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
        assert!(begun.elapsed() >= Duration::from_millis(100), "there and back, each 50 ms");
    }
}
