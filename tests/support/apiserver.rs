//! A real kube-apiserver with a real etcd, without a node: on loopback, unless told otherwise.
//!
//! Whoever is to talk to it gets a certificate in a KUBECONFIG of its own, and the rights that RBAC
//! gives to the name in it.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::paths;
use crate::program::Program;

/// How long it may take to be ready, on a busy machine.
const START: Duration = Duration::from_secs(120);

/// How long it may take to end: it waits for those who watch, up to a minute.
const STOP: Duration = Duration::from_secs(90);

/// The addresses of services.
const SERVICES: &str = "10.96.0.0/16";

/// The first address of the services' range: the API server's own, as pods see it.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// How an API server is to be started.
#[derive(Debug)]
pub struct Builder {
    address: IpAddr,
    port: Option<u16>,
    directory: Option<PathBuf>,
    flags: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { address, port: None, directory: None, flags: Vec::new() }
    }
}

impl Builder {
    /// The address on which it listens, such as one that pods can reach.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// The port on which it listens, instead of one that nobody has.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// An empty directory for all its files and etcd's, left to the caller in the end.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// A further flag of kube-apiserver, such as `--feature-gates=…`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Starts etcd and the API server, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When one of them does not come up; the end of its log is part of the error.
    pub fn start(self) -> Result<ApiServer> {
        let scratch = match self.directory {
            Some(_) => None,
            None => Some(TempDir::with_prefix("warmstep-apiserver-")?),
        };
        let directory = self.directory.clone();
        let directory = directory.or(scratch.as_ref().map(|own| own.path().to_owned()));
        let directory = directory.context("no directory")?;
        fs::create_dir_all(directory.join("logs"))?;
        let programs = paths::part("kubernetes")?;
        let authority = authority()?;
        self.certificates(&directory, &authority)?;
        let [client, peer, port] = free_ports()?;
        let etcd = etcd(&directory, client, peer)?;
        let mut server = ApiServer {
            program: None,
            etcd,
            _scratch: scratch,
            directory,
            authority,
            programs,
            etcd_port: client,
            port: self.port.unwrap_or(port),
            how: self,
        };
        server.start()?;
        Ok(server)
    }

    /// Writes the server's certificate and the key of service accounts.
    fn certificates(
        &self,
        directory: &Path,
        authority: &CertifiedIssuer<'static, KeyPair>,
    ) -> Result<()> {
        let server = CertificateParams::new(vec![
            "localhost".to_owned(),
            "kubernetes.default.svc".to_owned(),
            self.address.to_string(),
            SERVICE.to_string(),
        ])?;
        let key = KeyPair::generate()?;
        let server = server.signed_by(&key, authority)?;
        fs::write(directory.join("ca.pem"), authority.pem())?;
        fs::write(directory.join("server.pem"), server.pem())?;
        fs::write(directory.join("server.key"), key.serialize_pem())?;
        let accounts = KeyPair::generate()?;
        fs::write(directory.join("accounts.key"), accounts.serialize_pem())?;
        fs::write(directory.join("accounts.pub"), accounts.public_key_pem())?;
        Ok(())
    }
}

/// An API server, gone with its etcd when dropped, and with all that was in it unless it was given
/// a directory.
#[derive(Debug)]
pub struct ApiServer {
    program: Option<Program>,
    etcd: Program,
    // After the programs, so that what still runs does not lose its files.
    _scratch: Option<TempDir>,
    directory: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
    programs: PathBuf,
    etcd_port: u16,
    port: u16,
    how: Builder,
}

impl ApiServer {
    /// An API server is described, then started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts it again after it was stopped or killed, with the same etcd, on the same port.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub fn start(&mut self) -> Result<()> {
        if self.program.is_some() {
            bail!("the API server is running already");
        }
        let log = self.directory.join("logs/kube-apiserver.log");
        let mut program = Program::start("kube-apiserver", self.command(), &log)?;
        let config = self.kubeconfig("admin", "system:masters")?;
        program.until(START, |_| {
            let mut question = self.kubectl_as(&config);
            question.args(["get", "--raw", "/readyz"]).stderr(Stdio::null());
            let ready = question.output().is_ok_and(|answer| answer.status.success());
            if !ready {
                std::thread::sleep(Duration::from_millis(200));
            }
            ready.then_some(())
        })?;
        self.program = Some(program);
        Ok(())
    }

    fn command(&self) -> Command {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let mut command = Command::new(self.programs.join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--bind-address={}", self.how.address))
            .arg(format!("--advertise-address={}", self.how.address))
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--tls-cert-file={}", file("server.pem")))
            .arg(format!("--tls-private-key-file={}", file("server.key")))
            .arg(format!("--client-ca-file={}", file("ca.pem")))
            .arg(format!("--service-account-key-file={}", file("accounts.pub")))
            .arg(format!("--service-account-signing-key-file={}", file("accounts.key")))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-cluster-ip-range={SERVICES}"))
            .arg("--authorization-mode=Node,RBAC")
            // It would write certificates of its own somewhere else.
            .arg(format!("--cert-dir={}", file("apiserver")))
            .args(&self.how.flags);
        command
    }

    /// Ends it with SIGTERM; etcd stays.
    ///
    /// # Errors
    ///
    /// When it is not running, or does not end in time.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Ends it with SIGKILL; etcd stays.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let mut program = self.program.take().context("the API server is not running")?;
        program.signal(signal)?;
        program.wait(STOP).map(drop)
    }

    /// `https://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", std::net::SocketAddr::new(self.how.address, self.port))
    }

    /// The certificate authority that signed its certificate and everybody's.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The private key with which it signs the tokens of service accounts.
    pub fn service_account_key(&self) -> PathBuf {
        self.directory.join("accounts.key")
    }

    /// A certificate for a user of a group, such as `system:node:NAME` of `system:nodes`, and its
    /// key, both in PEM.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn certificate(&self, user: &str, group: &str) -> Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.authority)?.pem(), key.serialize_pem()))
    }

    /// A KUBECONFIG for a user of a group.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn kubeconfig(&self, user: &str, group: &str) -> Result<PathBuf> {
        let path = self.directory.join(format!("{}.kubeconfig", user.replace(':', "-")));
        let (certificate, key) = (path.with_extension("pem"), path.with_extension("key"));
        let (certificate_text, key_text) = self.certificate(user, group)?;
        fs::write(&certificate, certificate_text)?;
        fs::write(&key, key_text)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url(), "certificate-authority": self.authority()}}],
            "users": [{"name": "user", "user": {
                "client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        });
        fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
        Ok(path)
    }

    fn kubectl_as(&self, config: &Path) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.env_clear().env("HOME", &self.directory).env("KUBECONFIG", config);
        command.arg("--request-timeout=30s").stdin(Stdio::null());
        command
    }

    /// What `kubectl ARGUMENTS` prints, as an administrator.
    ///
    /// # Errors
    ///
    /// When it fails; what it says is the error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.kubectl_as(&self.directory.join("admin.kubeconfig"));
        let output = command.args(arguments).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), said.trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Applies manifests.
    ///
    /// # Errors
    ///
    /// As [`ApiServer::kubectl`].
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(manifests.as_bytes())?;
        let path = file.path().display().to_string();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path]).map(drop)
    }

    /// Installs Argo's resources: templates, workflows and the rest.
    ///
    /// # Errors
    ///
    /// When Argo's module or its manifests cannot be found.
    pub fn install_argo_crds(&self) -> Result<()> {
        let crds = paths::argo_module()?.join("manifests/base/crds/minimal");
        self.kubectl(&["apply", "--server-side", "-k", &crds.display().to_string()])?;
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
        self.kubectl(&wait).map(drop)
    }

    /// The end of everything, in the order in which it can end: for tests that look at what is left.
    ///
    /// # Errors
    ///
    /// When something does not end in time.
    pub fn finish(mut self) -> Result<()> {
        if self.program.is_some() {
            self.stop()?;
        }
        self.etcd.signal(Signal::TERM)?;
        self.etcd.wait(STOP).map(drop)
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "warmstep tests");
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn etcd(directory: &Path, client: u16, peer: u16) -> Result<Program> {
    let mut command = Command::new(paths::part("etcd")?.join("etcd"));
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    command
        .arg(format!("--data-dir={}", directory.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        // Nothing of a test has to outlive a power cut.
        .arg("--unsafe-no-fsync");
    let mut program = Program::start("etcd", command, &directory.join("logs/etcd.log"))?;
    program.until(START, |program| {
        let ready = program.log().ok()?.contains("ready to serve client requests");
        ready.then_some(())
    })?;
    Ok(program)
}

/// Ports that nobody had a moment ago: neither program says which one it was given.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners = (0..N)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<Vec<_>>>()?;
    let ports = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<Result<Vec<u16>>>()?;
    ports.try_into().map_err(|_| anyhow::anyhow!("as many ports as were asked for"))
}
