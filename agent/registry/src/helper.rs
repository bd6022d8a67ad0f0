//! Credential helpers: `docker-credential-NAME get`, with a deadline.
//!
//! The protocol is that of docker-credential-helpers: the server's name on stdin, a JSON document
//! on stdout; on failure a message on stdout and an exit code other than 0.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use docker_credential::DockerCredential;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::text::one_line;

/// Tokens of a few KiB are common; nothing honest is longer than this.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// What a helper says for a server it does not know (`credentials.errCredentialsNotFound` of
/// docker-credential-helpers).
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("\"{0}\" is not the name of a credential helper")]
    Name(String),
    #[error("cannot start docker-credential-{name}: {error}; put it on the agent's PATH")]
    Start { name: String, error: std::io::Error },
    #[error("docker-credential-{name}: {error}")]
    Io { name: String, error: std::io::Error },
    #[error("docker-credential-{name} gave no answer within {} (limits.credential_helper)", humantime::format_duration(*deadline))]
    Deadline { name: String, deadline: Duration },
    #[error("docker-credential-{name} failed: {message}")]
    Failed { name: String, message: String },
    #[error("docker-credential-{name} answered something other than credentials")]
    Answer { name: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper for the credentials of `server`.
pub(crate) async fn ask(
    name: &str,
    server: &str,
    deadline: Duration,
) -> Result<Option<DockerCredential>, HelperError> {
    // The name becomes part of a path.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(HelperError::Name(one_line(name, 60)));
    }
    match tokio::time::timeout(deadline, run(name, server)).await {
        Ok(answer) => answer,
        Err(_) => Err(HelperError::Deadline { name: name.to_owned(), deadline }),
    }
}

async fn run(name: &str, server: &str) -> Result<Option<DockerCredential>, HelperError> {
    let io = |error| HelperError::Io { name: name.to_owned(), error };
    let mut group = Group::start(name)?;
    if let Some(mut stdin) = group.child.stdin.take() {
        // A helper that does not read its input still may answer.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = group.child.stdout.take() {
        stdout.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut answer).await.map_err(io)?;
    }
    if answer.len() as u64 > MAX_ANSWER_BYTES {
        return Err(HelperError::Answer { name: name.to_owned() });
    }
    let status = group.child.wait().await.map_err(io)?;
    if !status.success() {
        return failure(name, status, &answer);
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| HelperError::Answer { name: name.to_owned() })?;
    Ok(Some(if answer.username == "<token>" {
        DockerCredential::IdentityToken(answer.secret)
    } else {
        DockerCredential::UsernamePassword(answer.username, answer.secret)
    }))
}

/// What a helper that failed has said. Nothing of it is repeated that could be credentials.
fn failure(
    name: &str,
    status: ExitStatus,
    answer: &[u8],
) -> Result<Option<DockerCredential>, HelperError> {
    let message = one_line(&String::from_utf8_lossy(answer), 200);
    if message.contains(NOT_FOUND) {
        return Ok(None);
    }
    let is_message = status.code().is_some() && !message.is_empty() && !message.contains('{');
    let message = if is_message { message } else { status.to_string() };
    Err(HelperError::Failed { name: name.to_owned(), message })
}

/// A helper and whatever it has started, in a process group that ends with this value.
struct Group {
    child: Child,
    group: Option<Pid>,
}

impl Group {
    fn start(name: &str) -> Result<Self, HelperError> {
        let child = Command::new(format!("docker-credential-{name}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| HelperError::Start { name: name.to_owned(), error })?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // Fails when nothing is left of the group, which is how it should be.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
