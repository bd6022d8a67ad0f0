//! The kubelet, told what this kind of machine lacks.

use std::fs;
use std::process::Command;

use anyhow::Result;
use warmstep_tests::cluster::{NODE, NODE_NAME};
use warmstep_tests::program::Program;
use warmstep_tests::{ApiServer, paths};

use crate::cgroups;
use crate::files::Files;

pub(crate) fn start(files: &Files, server: &ApiServer) -> Result<Program> {
    // Nobody answers there: what has a name here is in the pods' own hosts files.
    fs::write(files.at("resolv.conf"), format!("nameserver {NODE}\n"))?;
    fs::write(files.at("kubelet.yaml"), configuration(files))?;
    let kubeconfig = server.kubeconfig(&format!("system:node:{NODE_NAME}"), "system:nodes")?;
    let mut command = Command::new(paths::part("kubernetes")?.join("kubelet"));
    command
        .arg(format!("--config={}", files.at("kubelet.yaml").display()))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--hostname-override={NODE_NAME}"))
        .arg(format!("--node-ip={NODE}"))
        .arg("--cert-dir=/var/lib/kubelet/pki");
    Program::start("kubelet", command, &files.log("kubelet"))
}

/// Cgroup v1 and swap are what such a machine may have; of disk space it may have little left, and
/// a node that evicts its pods for that tests nothing. The network is the cluster's own, so whoever
/// reaches the kubelet may ask it.
fn configuration(files: &Files) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /{}
localStorageCapacityIsolation: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
resolvConf: {}
clusterDNS: [{NODE}]
clusterDomain: cluster.local
maxPods: 200
registryPullQPS: 0
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
",
        cgroups::NAME,
        files.at("resolv.conf").display()
    )
}
