//! Arguments that were too long to be passed on to a program, back in their places.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Mode, OFlags};
use warmstep_wire::frame::MAX_BODY;

/// Set where Argo hands a container's arguments over in a file (`EnvVarContainerArgsFile`).
const ARGUMENTS_FILE: &str = "ARGO_CONTAINER_ARGS_FILE";

/// The module's arguments as the template has them. Its executor writes one of more than 128 KiB into
/// `/tmp/argo_arg_N.txt` and passes `@` and that path: Linux takes none that long. The agent does, and
/// the module cannot read the file.
pub(crate) fn whole(
    arguments: Vec<OsString>,
    lookup: impl Fn(&OsStr) -> Option<OsString>,
) -> Vec<OsString> {
    if lookup(ARGUMENTS_FILE.as_ref()).is_none() {
        return arguments;
    }
    arguments.into_iter().map(|argument| written(&argument).unwrap_or(argument)).collect()
}

/// What is in the file of an argument, if it has one. One that is too long is left as it is: together
/// they would be refused.
fn written(argument: &OsStr) -> Option<OsString> {
    let path = argument.as_bytes().strip_prefix(b"@")?;
    let number = path.strip_prefix(b"/tmp/argo_arg_")?.strip_suffix(b".txt")?;
    if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let most = MAX_BODY as u64;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= most) {
        return None;
    }
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text).ok()?;
    Some(OsString::from_vec(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_arguments_come_back() {
        // A number that nobody else uses, as the place is Argo's to choose.
        let path = format!("/tmp/argo_arg_{}.txt", u64::from(std::process::id()) + 7_000_000_000);
        let long = "x".repeat(200_000);
        std::fs::write(&path, &long).expect("a file");
        let given: Vec<OsString> = [
            format!("@{path}"),
            path.clone(),
            "@/tmp/argo_arg_x.txt".into(),
            "@/etc/passwd".into(),
        ]
        .map(Into::into)
        .to_vec();
        let here = |_: &OsStr| Some("/argo/config/x".into());
        let back = whole(given.clone(), here);
        assert_eq!(whole(given.clone(), |_| None), given, "elsewhere it is an argument");
        std::fs::remove_file(&path).expect("unlink");
        assert_eq!(back[0], OsString::from(long));
        assert_eq!(back[1..], given[1..]);
        assert_eq!(whole(given.clone(), here), given, "what is not there stays");
    }
}
