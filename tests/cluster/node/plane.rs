//! The control plane: the API server with its etcd, the controller manager and the scheduler.

use std::process::Command;

use anyhow::Result;
use warmstep_tests::cluster::NODE;
use warmstep_tests::program::Program;
use warmstep_tests::{ApiServer, paths};

use crate::files::Files;

pub(crate) fn apiserver(files: &Files) -> Result<ApiServer> {
    ApiServer::builder()
        .directory(&files.state)
        .address(NODE.parse()?)
        .port(443)
        // The service's address is another one of the node's.
        .flag("--bind-address=0.0.0.0")
        .flag("--enable-admission-plugins=NodeRestriction")
        .flag("--kubelet-preferred-address-types=InternalIP")
        .start()
}

pub(crate) fn controller_manager(files: &Files, server: &ApiServer) -> Result<Program> {
    let kubeconfig = server.kubeconfig("system:kube-controller-manager", "")?;
    let mut command = Command::new(paths::part("kubernetes")?.join("kube-controller-manager"));
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--service-account-private-key-file")
        .arg(server.service_account_key())
        .arg("--root-ca-file")
        .arg(server.authority())
        // Each controller then has the permissions that Kubernetes gives it, and needs.
        .arg("--use-service-account-credentials=true")
        .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
        .arg(format!("--cert-dir={}", files.at("controller-manager").display()));
    Program::start("kube-controller-manager", command, &files.log("kube-controller-manager"))
}

pub(crate) fn scheduler(files: &Files, server: &ApiServer) -> Result<Program> {
    let mut command = Command::new(paths::part("kubernetes")?.join("kube-scheduler"));
    command
        .arg("--kubeconfig")
        .arg(server.kubeconfig("system:kube-scheduler", "")?)
        .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
        .arg(format!("--cert-dir={}", files.at("scheduler").display()));
    Program::start("kube-scheduler", command, &files.log("kube-scheduler"))
}
