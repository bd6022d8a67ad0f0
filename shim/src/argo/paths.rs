//! The paths that a template declares, as grants.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use warmstep_wire::message::PathGrant;

/// Where init-less pods keep input artifacts, with symbolic links in their places
/// (`ExecutorArtifactBaseDir`).
const ARTIFACTS: &str = "/argo/inputs/artifacts";

/// What no template grants, however it is declared: the kernel's own files, those of Argo's executor,
/// and the token of the pod's service account.
const NEVER: [&str; 5] = ["/proc", "/sys", "/var/run/argo", "/var/run/secrets", "/run/secrets"];

/// Why a declared path cannot be granted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    /// It is the whole file system.
    #[error("this step's template declares the path {0:?}: it must be of a file or directory")]
    Nameless(PathBuf),
    /// It is, is in, or holds what is never granted.
    #[error(
        "this step's template declares the path {path:?}, which would give the module {held}: \
         declare a path apart from it"
    )]
    Never {
        /// The path.
        path: PathBuf,
        /// What it would give away.
        held: &'static str,
    },
    /// The directory of an output is not there and cannot be made.
    #[error(
        "cannot make the directory {directory:?} for this step's output {path:?}: {error}; mount a \
         volume there, for instance an emptyDir"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The output.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The path cannot be made absolute.
    #[error("cannot find the path {path:?} of this step's template: {error}")]
    Relative {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Paths that were declared, each once.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    paths: Vec<(PathBuf, PathGrant)>,
}

impl Declared {
    /// Adds an input, which may be read. One whose directory is missing was optional, and is not
    /// there.
    pub(crate) fn input(&mut self, path: &str) -> Result<(), PathError> {
        let path = clean(path)?;
        let Some(directory) = path.parent().filter(|directory| directory.is_dir()) else {
            return Ok(());
        };
        refuse(&path, directory)?;
        let host = moved(&path).unwrap_or_else(|| path.clone());
        self.add(host, path, true);
        Ok(())
    }

    /// Adds an output, which may be made and changed, and makes its directory.
    pub(crate) fn output(&mut self, path: &str) -> Result<(), PathError> {
        let path = clean(path)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        // Once before anything is made, and once for where links lead.
        refuse(&path, directory)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(
            |error| PathError::Directory { directory: directory.into(), path: path.clone(), error },
        )?;
        refuse(&path, directory)?;
        self.add(path.clone(), path, false);
        Ok(())
    }

    /// An input that is an output too is changed where it is.
    fn add(&mut self, host: PathBuf, guest: PathBuf, read_only: bool) {
        match self.paths.iter_mut().find(|(other, _)| *other == guest) {
            Some((_, grant)) => grant.read_only &= read_only,
            None => {
                let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec().into();
                let grant = PathGrant { host: bytes(&host), guest: bytes(&guest), read_only };
                self.paths.push((guest, grant));
            }
        }
    }

    /// What to ask the agent for.
    pub(crate) fn into_grants(self) -> Vec<PathGrant> {
        self.paths.into_iter().map(|(_, grant)| grant).collect()
    }
}

/// Makes a path absolute and simple, as Argo does before it mounts or saves something there.
fn clean(text: &str) -> Result<PathBuf, PathError> {
    let absolute = std::path::absolute(text)
        .map_err(|error| PathError::Relative { path: text.into(), error })?;
    let mut path = PathBuf::from("/");
    for component in absolute.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                path.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path.parent().is_none() { Err(PathError::Nameless(text.into())) } else { Ok(path) }
}

/// Refuses a path that would give away what is never granted, by its name or over links.
fn refuse(path: &Path, directory: &Path) -> Result<(), PathError> {
    let name = path.file_name().unwrap_or_default();
    let real = directory.canonicalize().map(|directory| directory.join(name)).ok();
    for held in NEVER {
        let reached = Path::new(held).canonicalize().ok();
        let kept = [Some(Path::new(held)), reached.as_deref()];
        for given in [Some(path), real.as_deref()].into_iter().flatten() {
            let meets = |kept: &Path| given.starts_with(kept) || kept.starts_with(given);
            if kept.into_iter().flatten().any(meets) {
                return Err(PathError::Never { path: path.into(), held });
            }
        }
    }
    Ok(())
}

/// Where an input artifact is, if there is only a link of Argo's in its place. Other links are not
/// followed: whoever wrote to a volume before may have left them.
fn moved(path: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(path).ok()?;
    let name = target.strip_prefix(ARTIFACTS).ok()?;
    let mut names = name.components();
    let is_plain = |component| matches!(component, Component::Normal(_));
    (names.clone().next().is_some() && names.all(is_plain)).then(|| Path::new(ARTIFACTS).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_simple() {
        for (text, simple) in [
            ("/tmp/in.md", "/tmp/in.md"),
            ("/tmp//a/./b/", "/tmp/a/b"),
            ("/tmp/safe/../safe/x", "/tmp/safe/x"),
            ("/..//x", "/x"),
            ("/tmp/\u{e4} b", "/tmp/\u{e4} b"),
        ] {
            assert_eq!(clean(text).expect("a path"), Path::new(simple), "{text}");
        }
        assert!(clean("src").expect("a path").is_absolute());
        for text in ["/", "//", "/..", "/tmp/.."] {
            assert!(matches!(clean(text), Err(PathError::Nameless(_))), "{text}");
        }
    }

    #[test]
    fn some_places_are_never_granted() {
        let mut declared = Declared::default();
        for path in [
            "/proc/self/environ",
            "/sys/kernel/x",
            "/var/run/secrets/kubernetes.io/serviceaccount",
            "/var/run/secrets",
            "/var/run",
            "/var",
            "/run/secrets/x",
            "/run",
            "/var/run/argo/template",
            "/tmp/../proc/1/root",
        ] {
            for result in [declared.input(path), declared.output(path)] {
                // What is not there is not granted either.
                assert!(
                    matches!(result, Err(PathError::Never { .. })) || declared.paths.is_empty(),
                    "{path}: {result:?}"
                );
            }
            let said = declared.output(path).expect_err("refused").to_string();
            assert!(said.contains("declare a path apart"), "{said}");
        }
    }

    #[test]
    fn no_link_leads_to_what_is_never_granted() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/self", &link).expect("a link");
        let inside = link.join("environ");
        let inside = inside.to_str().expect("a path");
        let mut declared = Declared::default();
        assert!(matches!(declared.input(inside), Err(PathError::Never { .. })));
        assert!(matches!(declared.output(inside), Err(PathError::Never { .. })));
    }

    #[test]
    fn a_link_is_followed_only_where_argo_puts_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("in");
        let lead = |target: &str| {
            let _ = std::fs::remove_file(&path);
            std::os::unix::fs::symlink(target, &path).expect("a link");
            moved(&path)
        };
        let there = Path::new("/argo/inputs/artifacts/page");
        assert_eq!(lead("/argo/inputs/artifacts/page").as_deref(), Some(there));
        for target in [
            "/argo/inputs/artifacts",
            "/argo/inputs/artifacts/../../secret",
            "/argo/inputs/artifactsx/page",
            "argo/inputs/artifacts/page",
            "/etc/passwd",
            "secret",
        ] {
            assert_eq!(lead(target), None, "{target}");
        }
        std::fs::remove_file(&path).expect("unlink");
        assert_eq!(moved(&path), None);
    }
}
