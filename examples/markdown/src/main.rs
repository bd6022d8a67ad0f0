//! Renders a Markdown file to an HTML page: `markdown INPUT OUTPUT`.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use pulldown_cmark::{Options, Parser, html};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: markdown INPUT OUTPUT");
        return ExitCode::from(2);
    };
    match render(Path::new(input), Path::new(output)) {
        Ok((read, written)) => {
            println!("{input}: {read} bytes of Markdown, {output}: {written} bytes of HTML");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("markdown: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many bytes were read and written.
fn render(input: &Path, output: &Path) -> io::Result<(usize, usize)> {
    let markdown = fs::read_to_string(input).map_err(|error| naming(input, &error))?;
    let page = page(&markdown);
    fs::write(output, &page).map_err(|error| naming(output, &error))?;
    Ok((markdown.len(), page.len()))
}

fn page(markdown: &str) -> String {
    let extensions =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut page = String::from("<!DOCTYPE html>\n<meta charset=\"utf-8\">\n");
    html::push_html(&mut page, Parser::new_ext(markdown, extensions));
    page
}

/// An error that says which path it is about.
fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
