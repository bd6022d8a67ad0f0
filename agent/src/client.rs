//! The commands that talk to the running agent: `ls`, `status`, `prewarm`, `rm`.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use comfy_table::{Table, presets};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::admin::{Fared, Module, Named, SOCKET, Shrink, Status};
use crate::arguments::{ClientArguments, GcArguments, ModulesArguments, Output};
use crate::prewarm;

/// How many steps `status` shows a person.
const SHOWN_STEPS: usize = 10;

/// How many digits of a digest a person sees. `rm` wants all of them: `--output json` has them.
const SHOWN_DIGITS: usize = "sha256:".len() + 12;

/// Lists the modules in the cache.
pub(crate) async fn ls(arguments: &ClientArguments) -> Result<()> {
    let modules: Vec<Module> = get(&arguments.cache, "/v1/modules").await?;
    if arguments.output == Output::Json {
        return print_json(&modules);
    }
    let mut table = table(&["MODULE", "DIGEST", "TIER", "SIZE", "USED"]);
    for module in &modules {
        let mut references = module.references.join("\n");
        if references.is_empty() {
            "-".clone_into(&mut references);
        }
        table.add_row([
            references,
            short(&module.digest.to_string()),
            module.tier.name().to_owned(),
            ByteSize::b(module.bytes).to_string(),
            ago(module.used),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// Shows how the agent is doing.
pub(crate) async fn status(arguments: &ClientArguments) -> Result<()> {
    let status: Status = get(&arguments.cache, "/v1/status").await?;
    if arguments.output == Output::Json {
        return print_json(&status);
    }
    let counts = status.counts;
    println!("agent {} on {}", status.version, status.socket);
    let tiers: Vec<String> =
        status.modules.iter().map(|(tier, count)| format!("{count} {tier}")).collect();
    let tiers = if tiers.is_empty() { "none".to_owned() } else { tiers.join(", ") };
    println!("modules: {tiers}; {}", ByteSize::b(status.bytes));
    println!(
        "steps: {} lent ({} hits), {} refused, {} told to come back, {} died, {} waiting",
        counts.lent, counts.hits, counts.refused, counts.busy, counts.died, status.waiting
    );
    for (process, missing) in &status.missing_layers {
        println!("jail of {}: without {missing}", process.name());
    }
    print_prewarm(&status.prewarm);
    if status.recent.is_empty() {
        return Ok(());
    }
    let mut table = table(&["LAST STEPS", "CACHE", "LEND", "LOAD", "RUN", "EXIT", "REASON"]);
    for step in status.recent.iter().rev().take(SHOWN_STEPS) {
        table.add_row([
            step.module.clone(),
            step.cache.clone(),
            time(step.lend_us),
            time(step.load_us),
            time(step.run_us),
            step.code.map_or_else(|| "died".to_owned(), |code| code.to_string()),
            step.reason.clone().unwrap_or_default(),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn print_prewarm(prewarm: &prewarm::Status) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for module in &prewarm.modules {
        *counts.entry(&module.state).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(state, count)| format!(", {count} {state}")).collect();
    println!(
        "prewarming: {} modules wanted by {} objects{}; kubernetes: {}",
        prewarm.modules.len(),
        prewarm.objects,
        counts.concat(),
        prewarm.kubernetes
    );
    if prewarm.ignored > 0 {
        println!("prewarming: {} more objects are not heeded (prewarm.objects)", prewarm.ignored);
    }
    for problem in &prewarm.problems {
        println!("prewarming: {}: {}", problem.object, problem.reason);
    }
    if prewarm.modules.is_empty() {
        return;
    }
    let mut table = table(&["PREWARMED", "STATE", "DIGEST", "WANTED BY", "REASON"]);
    for module in &prewarm.modules {
        table.add_row([
            module.module.clone(),
            module.state.clone(),
            module.digest.map_or_else(|| "-".to_owned(), |digest| short(&digest.to_string())),
            module.wanted_by.join("\n"),
            module.reason.clone().unwrap_or_default(),
        ]);
    }
    println!("{table}");
}

/// Makes modules ready before the first step asks for them.
pub(crate) async fn prewarm(arguments: &ModulesArguments) -> Result<()> {
    let mut response = post_named(arguments, "/v1/prewarm").await?;
    let mut text = Vec::new();
    let mut fared = Vec::new();
    while let Some(frame) = response.frame().await {
        if let Ok(data) = frame.context("the agent went away")?.into_data() {
            text.extend_from_slice(&data);
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let one: Fared = serde_json::from_slice(&line).context("the agent's answer")?;
            tell(arguments, &one);
            fared.push(one);
        }
    }
    if fared.len() < arguments.modules.len() {
        bail!("the agent went away before all modules were ready: run it again");
    }
    conclude(arguments, &fared)
}

/// Removes modules from the cache.
pub(crate) async fn rm(arguments: &ModulesArguments) -> Result<()> {
    let response = post_named(arguments, "/v1/remove").await?;
    let fared: Vec<Fared> = read(response).await?;
    for one in &fared {
        tell(arguments, one);
    }
    conclude(arguments, &fared)
}

fn tell(arguments: &ModulesArguments, fared: &Fared) {
    if arguments.client.output == Output::Json {
        return;
    }
    let module = &fared.module;
    match (&fared.done, &fared.error, &fared.digest) {
        (_, Some(error), _) => eprintln!("warmstep-agent: {module}: {error}"),
        (Some(done), _, Some(digest)) => println!("{module}: {done} ({digest})"),
        (done, _, _) => println!("{module}: {}", done.as_deref().unwrap_or("done")),
    }
}

fn conclude(arguments: &ModulesArguments, fared: &[Fared]) -> Result<()> {
    if arguments.client.output == Output::Json {
        print_json(fared)?;
    }
    let failed = fared.iter().filter(|one| one.error.is_some()).count();
    if failed > 0 {
        bail!("{failed} of {} modules failed", fared.len());
    }
    Ok(())
}

/// Removes the least recently used modules from the cache.
pub(crate) async fn gc(arguments: &GcArguments) -> Result<()> {
    let bytes = arguments.to.map(|size| size.as_u64());
    let response = post(&arguments.client, "/v1/gc", &Shrink { bytes }).await?;
    let fared: Vec<Fared> = read(response).await?;
    if arguments.client.output == Output::Json {
        return print_json(&fared);
    }
    for one in &fared {
        println!("{}: removed", one.module);
    }
    println!("{} modules removed", fared.len());
    Ok(())
}

async fn get<T: DeserializeOwned>(cache: &Path, path: &str) -> Result<T> {
    let request = Request::get(path).header("host", "warmstep").body(Full::default())?;
    read(call(cache, request).await?).await
}

async fn post_named(arguments: &ModulesArguments, path: &str) -> Result<Incoming> {
    post(&arguments.client, path, &Named { modules: arguments.modules.clone() }).await
}

async fn post<T: Serialize>(client: &ClientArguments, path: &str, body: &T) -> Result<Incoming> {
    let body = serde_json::to_vec(body)?;
    let request = Request::post(path).header("host", "warmstep").body(Full::from(body))?;
    call(&client.cache, request).await
}

async fn call(cache: &Path, request: Request<Full<Bytes>>) -> Result<Incoming> {
    let stream = connect(cache).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response: Response<Incoming> =
        sender.send_request(request).await.context("the agent does not answer")?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response.into_body());
    }
    let reason = response.into_body().collect().await?.to_bytes();
    bail!("the agent says {status}: {}", String::from_utf8_lossy(&reason));
}

/// Connects to the agent. The cache's directory shows whether it is the right one.
async fn connect(cache: &Path) -> Result<UnixStream> {
    let path = cache.join(SOCKET);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} is not a socket: is {} an agent's cache?", path.display(), cache.display())
        }
        _ => {}
    }
    UnixStream::connect(&path).await.with_context(|| {
        format!(
            "no agent runs on the cache {}: start one with `warmstep-agent serve`, or name its \
             cache with --cache",
            cache.display()
        )
    })
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T> {
    let bytes = body.collect().await.context("the agent went away")?.to_bytes();
    serde_json::from_slice(&bytes).context("the agent's answer")
}

fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(columns);
    table
}

fn short(digest: &str) -> String {
    digest.chars().take(SHOWN_DIGITS).collect()
}

fn time(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100),
        _ => format!("{}.{} s", microseconds / 1_000_000, microseconds % 1_000_000 / 100_000),
    }
}

fn ago(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let age = Duration::from_secs(now.saturating_sub(seconds));
    format!("{} ago", humantime::format_duration(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(time(999), "999 µs");
        assert_eq!(time(1_250), "1.2 ms");
        assert_eq!(time(2_345_678), "2.3 s");
    }
}
