//! New connections: TCP_NODELAY, and a bound on TCP and TLS together.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use kube::client::ConfigExt;
use tower::{BoxError, Service};

type Https = HttpsConnector<HttpConnector>;

#[derive(Clone)]
pub(super) struct Dial {
    https: Https,
    limit: Duration,
}

impl Dial {
    pub(super) fn new(config: &kube::Config, limit: Duration) -> Result<Self, kube::Error> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        // A peer that is gone without a word is noticed within a minute, also by a watch on which nothing happens.
        http.set_keepalive(Some(Duration::from_secs(30)));
        http.set_keepalive_interval(Some(Duration::from_secs(10)));
        http.set_keepalive_retries(Some(3));
        http.set_connect_timeout(Some(limit));
        Ok(Self { https: config.rustls_https_connector_with_connector(http)?, limit })
    }
}

impl Service<Uri> for Dial {
    type Response = <Https as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.https.call(to);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    let message = format!("no connection within {} s", limit.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
                }
            }
        })
    }
}
