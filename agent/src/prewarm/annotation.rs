//! What an annotation asks for: a list of modules, or `auto`. Pure, and trusting nothing: whoever may
//! write an object writes it.

use warmstep_registry::{Digest, Reference};

/// The longest value that is read, in bytes: room for a list as long as is allowed.
const MAX_BYTES: usize = 16 * 1024;

/// The most modules that one object may ask for.
pub(crate) const MAX_MODULES: usize = 64;

/// How much of a wrong value is repeated, in characters.
const SHOWN: usize = 80;

/// What a value means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// What the object's own templates run.
    Auto,
    /// These, and what is wrong with the others.
    Modules(Modules),
}

/// Modules in their one spelling, and why others are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modules {
    /// `oci://…` or `sha256:…`, each once, in the order in which they were written.
    pub(crate) modules: Vec<String>,
    /// Reasons, each with the module that it is about.
    pub(crate) problems: Vec<String>,
}

impl Modules {
    /// Nothing but a reason.
    pub(crate) fn problem(reason: impl Into<String>) -> Self {
        Self { modules: Vec::new(), problems: vec![reason.into()] }
    }

    /// Adds a module as somebody wrote it, or says why it is none.
    pub(crate) fn add(&mut self, written: &str) {
        match module(written) {
            Ok(module) if self.modules.contains(&module) => {}
            Ok(_) if self.modules.len() == MAX_MODULES => {
                self.refuse(format!(
                    "only the first {MAX_MODULES} modules of an object are made warm"
                ));
            }
            Ok(module) => self.modules.push(module),
            Err(reason) => self.refuse(reason),
        }
    }

    /// Adds a reason, once, and not more of them than there may be modules.
    pub(crate) fn refuse(&mut self, reason: String) {
        if self.problems.len() < MAX_MODULES && !self.problems.contains(&reason) {
            self.problems.push(reason);
        }
    }
}

/// Reads an annotation's value.
pub(crate) fn parse(value: &str) -> Request {
    if value.len() > MAX_BYTES {
        return Request::Modules(Modules::problem(format!(
            "the annotation is longer than {MAX_BYTES} bytes"
        )));
    }
    let mut words = value
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .peekable();
    if words.peek().is_none() {
        return Request::Modules(Modules::problem(
            "the annotation is empty: write modules such as oci://REGISTRY/NAME:TAG, or auto",
        ));
    }
    let words: Vec<&str> = words.collect();
    if words == ["auto"] {
        return Request::Auto;
    }
    let mut modules = Modules::default();
    for word in words {
        if word == "auto" {
            modules.refuse("auto stands alone, without other modules".to_owned());
        } else {
            modules.add(word);
        }
    }
    Request::Modules(modules)
}

/// A module in its one spelling.
fn module(written: &str) -> Result<String, String> {
    let shown = || {
        let mut shown: String = written.chars().take(SHOWN).collect();
        if shown.len() < written.len() {
            shown.push('…');
        }
        shown.escape_debug().to_string()
    };
    if written.contains("{{") {
        return Err(format!(
            "{}: a parameter has no value before a workflow runs; name the modules in the annotation",
            shown()
        ));
    }
    if written.starts_with("sha256:") {
        let digest: Digest = written.parse().map_err(|error| format!("{}: {error}", shown()))?;
        return Ok(digest.to_string());
    }
    if !written.starts_with("oci://") {
        return Err(format!(
            "{}: a module is written oci://REGISTRY/NAME:TAG or sha256:…",
            shown()
        ));
    }
    let reference: Reference =
        written.parse().map_err(|error: warmstep_registry::ReferenceError| error.to_string())?;
    Ok(format!("oci://{reference}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(value: &str) -> Modules {
        match parse(value) {
            Request::Modules(modules) => modules,
            Request::Auto => panic!("{value} is auto"),
        }
    }

    #[test]
    fn lists_are_separated_by_anything_and_have_one_spelling() {
        let digest = Digest::of(b"x").to_string();
        let value =
            format!("oci://R.example/a:1, oci://r.example/a:1\n\toci://r.example/b,{digest},,");
        let found = modules(&value);
        assert_eq!(found.modules, ["oci://r.example/a:1", "oci://r.example/b:latest", &digest]);
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        assert_eq!(parse(" auto\n"), Request::Auto);
    }

    #[test]
    fn what_is_no_module_is_said_and_the_rest_stands() {
        for (value, said) in [
            ("", "is empty"),
            (" ,, \n", "is empty"),
            ("render:1", "render:1: a module is written oci://"),
            ("/etc/passwd", "a module is written oci://"),
            ("oci://r.example/a:{{inputs.parameters.tag}}", "a parameter has no value"),
            ("sha256:12", "64 lowercase hexadecimal digits"),
            ("oci://nowhere", "names no registry"),
            ("oci://r.example/A:1", "lowercase"),
            ("auto oci://r.example/a:1", "auto stands alone"),
            ("\u{1b}[31mred", "\\u{1b}[31mred: a module"),
        ] {
            let found = modules(value);
            assert_eq!(found.problems.len(), 1, "{value}: {found:?}");
            assert!(found.problems[0].contains(said), "{value}: {found:?}");
            assert!(!found.problems[0].contains('\n'), "{found:?}");
        }
        let found = modules("nonsense oci://r.example/a:1");
        assert_eq!((found.modules.len(), found.problems.len()), (1, 1));
    }

    #[test]
    fn hostile_values_cost_little() {
        let found = modules(&"x".repeat(MAX_BYTES + 1));
        assert!(found.problems[0].contains("longer than 16384 bytes"));
        let many: String = (0..1000).map(|number| format!("{number},")).collect();
        assert_eq!(modules(&many).problems.len(), MAX_MODULES);
        let many: String = (0..400).map(|number| format!("oci://r.example/{number}:1 ")).collect();
        let found = modules(&many);
        assert_eq!(found.modules.len(), MAX_MODULES);
        assert_eq!(found.problems, ["only the first 64 modules of an object are made warm"]);
        let found = modules(&format!("oci://{}", "é".repeat(4000)));
        assert!(found.problems[0].chars().count() < 400, "{found:?}");
    }
}
