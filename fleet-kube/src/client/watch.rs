//! Watches: answers that go on, with one line for each event.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;

use super::{ClusterClient, Failure, LARGEST_ANSWER, retry_after};

/// How long an API server may take until it begins to answer.
const OPENING: Duration = Duration::from_secs(30);

/// Why a watch did not begin.
pub(crate) struct Refused {
    pub(crate) failure: Failure,
    /// Whether that is an answer of the API server; else it could not be asked.
    pub(crate) answered: bool,
}

impl ClusterClient {
    /// Begins a watch. It holds a connection of its own until it is dropped.
    pub(crate) async fn watch(&self, path: &str, accept: &'static str) -> Result<Lines, Refused> {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty());
        let not_asked = |failure| Refused { failure, answered: false };
        let request = request.map_err(|_| {
            let message = "the request's path is malformed".to_owned();
            not_asked(Failure::Invalid { message, causes: Vec::new() })
        })?;
        let no_answer = || Failure::NoAnswer { reason: "the API server did not answer in time".to_owned() };
        let opening = async {
            let response = self.inner.send(request).await;
            let response = response.map_err(|error| not_asked(Failure::of_transport(error)))?;
            let (parts, body) = response.into_parts();
            if parts.status.is_success() {
                return Ok(Lines { body, buffer: BytesMut::new(), scanned: 0 });
            }
            let body = Limited::new(body, LARGEST_ANSWER).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let retry_after = retry_after(parts.status, &parts.headers);
            Err(Refused { failure: Failure::of_status(parts.status, retry_after, 0, &body), answered: true })
        };
        tokio::time::timeout(OPENING, opening).await.unwrap_or_else(|_| Err(not_asked(no_answer())))
    }
}

/// The lines of an answer that goes on.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// So much of the buffer holds no end of a line.
    scanned: usize,
}

impl Lines {
    /// The next line; `None` once the server has said all. What comes is read only as far as it is asked for. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + end + 1).freeze();
                self.scanned = 0;
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.scanned > LARGEST_ANSWER {
                return Err(broken("sent an event that is larger than 16 MiB"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err(broken("broke off")),
            }
        }
    }
}

fn broken(how: &str) -> Failure {
    Failure::NoAnswer { reason: format!("a watch {how}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        let lines = |text: &'static str| Lines {
            body: Body::from(text.as_bytes().to_vec()),
            buffer: BytesMut::new(),
            scanned: 0,
        };
        let mut three = lines("{\"a\":1}\n\n{\"b\":2}\n{\"half");
        for expected in ["{\"a\":1}\n", "\n", "{\"b\":2}\n"] {
            assert_eq!(three.next().await.unwrap().unwrap(), expected);
        }
        assert_eq!(three.next().await.unwrap(), None, "half a line is none");
    }
}
