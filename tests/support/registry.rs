//! A real registry on loopback: Debian's docker-registry with storage of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::program::Program;

/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);

/// A running registry, gone with its storage when dropped; or one that somebody else runs.
#[derive(Debug)]
pub struct Registry {
    program: Option<Program>,
    host: String,
    credentials: Option<(String, String)>,
    // After `program`: what still runs must not lose its storage.
    _scratch: Option<TempDir>,
}

impl Registry {
    /// Starts one that lets everybody in, on a port that the kernel chooses.
    ///
    /// # Errors
    ///
    /// When docker-registry is missing or does not come up.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// Starts one that wants this user name and password.
    ///
    /// # Errors
    ///
    /// When docker-registry or htpasswd is missing, or the registry does not come up.
    pub fn with_password(user: &str, password: &str) -> Result<Self> {
        Self::start_with(Some((user.to_owned(), password.to_owned())))
    }

    /// One that runs already, to push to.
    pub fn at(host: &str) -> Self {
        Self { program: None, host: host.to_owned(), credentials: None, _scratch: None }
    }

    fn start_with(credentials: Option<(String, String)>) -> Result<Self> {
        let scratch = TempDir::with_prefix("warmstep-registry-")?;
        let configuration = scratch.path().join("registry.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n\
             storage: {{filesystem: {{rootdirectory: \"{}\"}}, delete: {{enabled: true}}}}\n",
            scratch.path().join("storage").display()
        );
        if let Some((user, password)) = &credentials {
            let file = scratch.path().join("htpasswd");
            write_password(&file, user, password)?;
            text +=
                &format!("auth: {{htpasswd: {{realm: warmstep, path: \"{}\"}}}}\n", file.display());
        }
        fs::write(&configuration, text)?;

        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&configuration);
        // It would send spans to a collector that is not there.
        command.env("OTEL_TRACES_EXPORTER", "none");
        let log = scratch.path().join("log");
        let mut program = Program::start("docker-registry", command, &log)
            .context("docker-registry: run tests/tools/setup test")?;
        let host = program.until(START, |program| listening(&program.log().ok()?))?;
        Ok(Self { program: Some(program), host, credentials, _scratch: Some(scratch) })
    }

    /// `127.0.0.1:PORT`, as references name it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The user name and the password, where it wants them.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The running program, to look at or to signal.
    ///
    /// # Errors
    ///
    /// When somebody else runs it.
    pub fn program(&mut self) -> Result<&mut Program> {
        self.program.as_mut().context("this registry is somebody else's")
    }

    /// How many requests it has answered so far whose method and path begin so, such as
    /// `GET /v2/hello/blobs/`.
    ///
    /// # Errors
    ///
    /// When its log cannot be read.
    pub fn requests(&self, beginning: &str) -> Result<usize> {
        let quoted = format!("\"{beginning}");
        let program = self.program.as_ref().context("this registry is somebody else's")?;
        Ok(program.log()?.lines().filter(|line| line.contains(&quoted)).count())
    }
}

/// The address in the line that says where it listens.
fn listening(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    Some(rest[..end].to_owned())
}

fn write_password(file: &Path, user: &str, password: &str) -> Result<()> {
    // bcrypt, as the registry takes nothing else; cost 4 because nobody attacks it.
    let status = Command::new("htpasswd")
        .args(["-B", "-C", "4", "-b", "-c"])
        .arg(file)
        .args([user, password])
        .stderr(Stdio::null())
        .status()
        .context("htpasswd: run tests/tools/setup test")?;
    if !status.success() {
        bail!("htpasswd ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_log() {
        let line = r#"time="…" level=info msg="listening on 127.0.0.1:41813" go.version=go1.19"#;
        assert_eq!(listening(line).as_deref(), Some("127.0.0.1:41813"));
        assert_eq!(listening("starting"), None);
        // A line that is only half written.
        assert_eq!(listening("listening on 127.0.0.1:418"), None);
    }
}
