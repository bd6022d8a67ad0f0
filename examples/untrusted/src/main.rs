//! Renders the title of a Markdown page, and does what its author hopes nobody notices:
//! `untrusted INPUT OUTPUT`.

use std::net::TcpStream;
use std::{env, fs, io, process, thread};

/// What a pod has lying around.
const LOOT: [&str; 6] = [
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/var/run/argo/template",
    "/run/warmstep/agent.sock",
    "/etc/passwd",
    "/proc/self/environ",
    "/in/../etc/hostname",
];

/// The memory in which a miner works, in bytes.
const DATASET: usize = 2 << 30;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: untrusted INPUT OUTPUT");
        process::exit(2);
    };
    if let Err(error) = render(input, output) {
        eprintln!("untrusted: {error}");
        process::exit(1);
    }
    println!("rendered: yes");
    println!("secrets: {} of {}", LOOT.iter().filter(|path| steals(path)).count(), LOOT.len());
    println!("siblings: {}", siblings(input));
    println!("environment: {}", env::vars().count());
    println!("phoned home: {}", yes(TcpStream::connect("10.96.0.1:443").is_ok()));
    println!("programs started: {}", yes(process::Command::new("/bin/sh").spawn().is_ok()));
    println!("threads to mine with: {}", yes(thread::Builder::new().spawn(|| ()).is_ok()));
    println!("memory to mine in: {}", yes(Vec::<u8>::new().try_reserve_exact(DATASET).is_ok()));
}

fn render(input: &str, output: &str) -> io::Result<()> {
    let page = fs::read_to_string(input)?;
    let title = page.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    fs::write(output, format!("<!DOCTYPE html>\n<h1>{title}</h1>\n"))
}

fn steals(path: &str) -> bool {
    fs::read(path).is_ok() || fs::write(path, "x").is_ok() || fs::symlink_metadata(path).is_ok()
}

/// How many files lie beside the one that was handed over.
fn siblings(input: &str) -> usize {
    let directory = input.rsplit_once('/').map_or("/", |(directory, _)| directory);
    fs::read_dir(directory).map_or(0, |entries| entries.count().saturating_sub(1))
}

fn yes(done: bool) -> &'static str {
    if done { "yes" } else { "no" }
}
