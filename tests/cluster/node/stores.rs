//! What workflows bring things from and take them to: a registry and an S3 server.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use warmstep_tests::cluster::{BUCKET, REGISTRY_ADDRESS, S3, S3_KEY, S3_SECRET};
use warmstep_tests::paths;
use warmstep_tests::program::Program;

use crate::files::Files;

const START: Duration = Duration::from_secs(30);

pub(crate) fn registry(files: &Files) -> Result<Program> {
    let text = format!(
        "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: \"{REGISTRY_ADDRESS}\"}}\n\
         storage: {{filesystem: {{rootdirectory: \"{}\"}}, delete: {{enabled: true}}}}\n",
        files.at("registry").display()
    );
    fs::write(files.at("registry.yml"), text)?;
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(files.at("registry.yml")).env("OTEL_TRACES_EXPORTER", "none");
    let mut program = Program::start("docker-registry", command, &files.log("docker-registry"))?;
    program.until(START, |_| TcpStream::connect(REGISTRY_ADDRESS).ok())?;
    Ok(program)
}

pub(crate) fn s3(files: &Files) -> Result<Program> {
    // A bucket is a directory of the gateway's.
    let root = files.at("s3");
    fs::create_dir_all(root.join(BUCKET))?;
    let mut command = Command::new(paths::part("versitygw")?.join("versitygw"));
    command.args(["--port", S3, "--access", S3_KEY, "--secret", S3_SECRET, "posix"]).arg(&root);
    let mut program = Program::start("versitygw", command, &files.log("versitygw"))?;
    program.until(START, |_| TcpStream::connect(S3).ok())?;
    Ok(program)
}
