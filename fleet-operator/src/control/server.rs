//! Answering.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::path::Reach;
use super::{Answer, LONGEST_REQUEST, Question};

/// How many are answered at once.
const CONNECTIONS: usize = 16;
/// How long a question, and taking in the answer, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who answers.
#[async_trait]
pub trait Answering: Send + Sync + 'static {
    /// The answer, or why there is none, in one sentence.
    async fn answer(&self, question: Question) -> Result<Answer, String>;
}

/// A control socket that is there already.
pub struct Control {
    listener: UnixListener,
    reach: Reach,
}

impl Control {
    /// Makes the socket, in place of one that an operator left behind which was killed. The caller must be the only
    /// operator on the data folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn bind(data: &Path) -> std::io::Result<Self> {
        let reach = Reach::new(data)?;
        let unfinished = reach.unfinished();
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
        fs::rename(&unfinished, reach.socket())?;
        Ok(Self { listener, reach })
    }

    /// Answers until `shutdown`, then takes the socket away.
    pub async fn run(self, answering: Arc<dyn Answering>, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accept = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let answering = Arc::clone(&answering);
                    connections.spawn(async move {
                        match timeout(PATIENCE, serve(stream, &*answering)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => debug!(%error, "a question was broken off"),
                            Err(_) => debug!("a question took too long"),
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "the control socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if let Err(error) = fs::remove_file(self.reach.socket()) {
            debug!(%error, "the control socket stays behind");
        }
    }
}

async fn serve(mut stream: UnixStream, answering: &dyn Answering) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST_REQUEST)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) => answering.answer(question).await,
        Err(_) => Err("the question is not understood; is the program as new as the operator?".to_owned()),
    };
    write.write_all(&serde_json::to_vec(&answer)?).await?;
    write.shutdown().await
}
