//! An authority, the API server's certificate, the key of service accounts, and who may say who
//! they are with which token.

use std::fs;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use warmstep_tests::cluster::{NODE, NODE_NAME, SERVICE};

use crate::files::Files;

/// Users of the API server: the name of their kubeconfig, their own, their group.
const USERS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kubelet", "", "system:nodes"),
];

/// Writes them all.
pub(crate) fn write(files: &Files) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name.push(DnType::CommonName, "warmstep-cluster");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(files.at("ca.pem"), parameters.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(parameters, key);

    let key = KeyPair::generate()?;
    let names = [NODE, SERVICE, "127.0.0.1", "kubernetes.default.svc"];
    let server = CertificateParams::new(names.map(str::to_owned))?.signed_by(&key, &issuer)?;
    fs::write(files.at("server.pem"), server.pem())?;
    fs::write(files.at("server.key"), key.serialize_pem())?;
    let accounts = KeyPair::generate()?;
    fs::write(files.at("accounts.key"), accounts.serialize_pem())?;
    fs::write(files.at("accounts.pub"), accounts.public_key_pem())?;

    let mut tokens = String::new();
    for (name, user, group) in USERS {
        let token = hex::encode(random()?);
        let user =
            if user.is_empty() { format!("system:node:{NODE_NAME}") } else { user.to_owned() };
        tokens += &format!("{token},{user},{user},\"{group}\"\n");
        fs::write(files.kubeconfig(name), kubeconfig(files, &token))?;
    }
    fs::write(files.at("tokens.csv"), tokens)?;
    Ok(())
}

fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

fn kubeconfig(files: &Files, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: warmstep
contexts: [{{name: warmstep, context: {{cluster: warmstep, user: user}}}}]
clusters: [{{name: warmstep, cluster: {{server: \"https://{NODE}\", certificate-authority: {}}}}}]
users: [{{name: user, user: {{token: {token}}}}}]
",
        files.at("ca.pem").display()
    )
}
