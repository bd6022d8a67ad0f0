//! The control plane: etcd, the API server, the controller manager and the scheduler.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use warmstep_tests::cluster::{NODE, SERVICES};
use warmstep_tests::program::Program;

use crate::files::Files;

/// How long each may take to come up on a busy machine.
const START: Duration = Duration::from_secs(90);

pub(crate) fn etcd(files: &Files) -> Result<Program> {
    let mut command = Command::new(files.program("etcd", "etcd")?);
    command
        .arg("--data-dir")
        .arg(files.at("etcd"))
        .args(["--listen-client-urls=http://127.0.0.1:2379"])
        .args(["--advertise-client-urls=http://127.0.0.1:2379"])
        .args(["--listen-peer-urls=http://127.0.0.1:2380"])
        // Nobody misses this cluster after a power cut.
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    Program::start("etcd", command, &files.log("etcd"))
}

pub(crate) fn apiserver(files: &Files) -> Result<Program> {
    let mut command = Command::new(files.program("kubernetes", "kube-apiserver")?);
    let flag = |name: &str, file: &str| format!("--{name}={}", files.at(file).display());
    command
        .args(["--etcd-servers=http://127.0.0.1:2379", "--secure-port=443"])
        .arg(format!("--advertise-address={NODE}"))
        .arg(format!("--service-cluster-ip-range={SERVICES}"))
        .arg(flag("tls-cert-file", "server.pem"))
        .arg(flag("tls-private-key-file", "server.key"))
        .arg(flag("token-auth-file", "tokens.csv"))
        .arg(flag("service-account-key-file", "accounts.pub"))
        .arg(flag("service-account-signing-key-file", "accounts.key"))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"])
        .arg("--kubelet-preferred-address-types=InternalIP")
        // It would write its own certificates somewhere else.
        .arg(format!("--cert-dir={}", files.at("apiserver").display()));
    Program::start("kube-apiserver", command, &files.log("kube-apiserver"))
}

/// Waits until the API server serves.
pub(crate) fn ready(files: &Files, server: &mut Program) -> Result<()> {
    let kubectl = files.program("kubernetes", "kubectl")?;
    server.until(START, |_| {
        let mut command = Command::new(&kubectl);
        command.arg("--kubeconfig").arg(files.kubeconfig("admin")).args(["get", "--raw=/readyz"]);
        command.output().ok().filter(|output| output.status.success()).map(|_| ())
    })
}

pub(crate) fn controller_manager(files: &Files) -> Result<Program> {
    let mut command = Command::new(files.program("kubernetes", "kube-controller-manager")?);
    command
        .arg("--kubeconfig")
        .arg(files.kubeconfig("controller-manager"))
        .arg(format!("--service-account-private-key-file={}", files.at("accounts.key").display()))
        .arg(format!("--root-ca-file={}", files.at("ca.pem").display()))
        // Each controller then has the permissions that Kubernetes gives it, and needs.
        .arg("--use-service-account-credentials=true")
        .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
        .arg(format!("--cert-dir={}", files.at("controller-manager").display()));
    Program::start("kube-controller-manager", command, &files.log("kube-controller-manager"))
}

pub(crate) fn scheduler(files: &Files) -> Result<Program> {
    let mut command = Command::new(files.program("kubernetes", "kube-scheduler")?);
    command
        .arg("--kubeconfig")
        .arg(files.kubeconfig("scheduler"))
        .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
        .arg(format!("--cert-dir={}", files.at("scheduler").display()));
    Program::start("kube-scheduler", command, &files.log("kube-scheduler"))
}
