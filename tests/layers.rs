//! Holds the code to the table in `src/ARCHITECTURE.md`: who may use whom, in paths and in manifests, and who reads the environment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Parts that are modules of the root crate, seen as `crate::store`.
const MODULES: [&str; 6] = ["hub", "store", "jobs", "server", "cli", "config"];
/// Parts that are crates, seen as `engine::Pipeline`.
const CRATES: [&str; 3] = ["engine", "train", "app"];
/// What would bring async, a database, HTTP or pages into the crates that compute.
const NOT_FOR_COMPUTING: [&str; 14] = [
    "apalis",
    "apalis-sqlite",
    "async-trait",
    "axum",
    "futures",
    "hyper",
    "leptos",
    "leptos_axum",
    "object_store",
    "reqwest",
    "sqlx",
    "tokio",
    "tower",
    "tower-http",
];
/// What cannot be compiled for the browser, or has no business there.
const NOT_FOR_PAGES: [&str; 10] =
    ["axum", "candle-core", "candle-nn", "clap", "image", "object_store", "rayon", "sqlx", "tokenizers", "tokio"];

#[test]
fn every_path_keeps_to_the_table() {
    let table = table();
    let mut broken = Vec::new();
    for module in MODULES {
        for file in sources(module) {
            let text = read(&file);
            let depth = depth(&file);
            for (line, path) in paths(&text, depth) {
                if !allowed(&table, module, &path) {
                    broken.push(format!("{}:{line}: {}", file.display(), rule(&table, module, &path)));
                }
            }
        }
    }
    assert!(broken.is_empty(), "the table in src/ARCHITECTURE.md is broken:\n{}", broken.join("\n"));
}

#[test]
fn every_manifest_keeps_to_the_table() {
    let table = table();
    let mut broken = Vec::new();
    for (part, folder, barred) in [
        ("engine", "src/engine", &NOT_FOR_COMPUTING[..]),
        ("train", "src/train", &NOT_FOR_COMPUTING[..]),
        ("app", "app", &NOT_FOR_PAGES[..]),
    ] {
        let file = format!("{folder}/Cargo.toml");
        for name in dependencies(&read(Path::new(&file))) {
            if CRATES.contains(&name.as_str()) && !allowed(&table, part, &name) {
                broken.push(format!("{file}: {}", rule(&table, part, &name)));
            }
            if barred.contains(&name.as_str()) {
                broken.push(format!("{file}: {part} must not depend on {name}; it belongs to the root crate"));
            }
        }
    }
    assert!(broken.is_empty(), "the table in src/ARCHITECTURE.md is broken:\n{}", broken.join("\n"));
}

#[test]
fn only_config_reads_the_environment() {
    let mut broken = Vec::new();
    for file in rust_files(Path::new("src")).into_iter().chain(rust_files(Path::new("app"))) {
        // A build script is told where the toolkits are by its environment, and by nothing else.
        if file == Path::new("src/config.rs") || file.ends_with("build.rs") {
            continue;
        }
        for (line, code) in code_lines(&read(&file)) {
            if ["env::var", "env::vars", "env::set_var"].iter().any(|call| code.contains(call)) {
                broken.push(format!("{}:{line}: only src/config.rs reads the environment; take the value from there", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_broken_rule_is_found() {
    let table = table();
    let found = |module: &str, code: &str| -> Vec<String> {
        paths(code, 2).into_iter().map(|(_, path)| path).filter(|path| !allowed(&table, module, path)).collect()
    };
    assert_eq!(found("store", "use crate::jobs::Queue;"), ["jobs"]);
    assert_eq!(found("store", "use crate::{\n    store::Store,\n    server::{error, files},\n};"), ["server"]);
    assert_eq!(found("store", "let queue = super::super::jobs::queue();"), ["jobs"]);
    assert_eq!(found("store", "use super::jobs;"), [""; 0], "a module of store's own");
    assert_eq!(found("store", "use app::pages::Train;"), ["app"]);
    assert_eq!(found("store", "use app::api::Run;"), [""; 0]);
    assert_eq!(found("jobs", "use crate::cli;\n// use crate::server;"), ["cli"]);
    assert_eq!(found("server", "engine::Pipeline::load(my_app::x, \"train::step\")"), ["engine"]);
    assert_eq!(found("cli", "use crate::{jobs, server, store}; use engine::Size;"), [""; 0]);
}

/// Part → what it may use, from the rows of `src/ARCHITECTURE.md`.
fn table() -> BTreeMap<String, Vec<String>> {
    let text = read(Path::new("src/ARCHITECTURE.md"));
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let table: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let part = cells[0].trim_start_matches('`').split('`').next().unwrap();
            let part = part.trim_start_matches("src/").trim_end_matches(".rs");
            let uses = cells[2].split(',').map(|used| used.trim().trim_matches('`').to_owned());
            (part.to_owned(), uses.filter(|used| !used.is_empty()).collect())
        })
        .collect();
    for part in MODULES.iter().chain(&CRATES) {
        assert!(table.contains_key(*part), "src/ARCHITECTURE.md has no row for {part}");
    }
    table
}

fn allowed(table: &BTreeMap<String, Vec<String>>, part: &str, used: &str) -> bool {
    used == part || table[part].iter().any(|allowed| allowed == used || allowed == "everything" || (used == "app::api" && allowed == "app"))
}

fn rule(table: &BTreeMap<String, Vec<String>>, part: &str, used: &str) -> String {
    let may = if table[part].is_empty() { "nothing".to_owned() } else { table[part].join(", ") };
    format!("{part} uses {used}, but may use {may}")
}

/// Parts that a file names, with the line. `depth` is how many `super::` lead to the root of the crate.
fn paths(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code: String = code_lines(text).map(|(_, line)| line + "\n").collect();
    let mut found = Vec::new();
    let root = "super::".repeat(depth);
    for prefix in ["crate::", "atelier::", &root] {
        for (at, rest) in occurrences(&code, prefix).filter(|(at, _)| !code[..*at].ends_with("super::")) {
            let named = first_names(rest).into_iter().filter(|name| MODULES.contains(&name.as_str()));
            found.extend(named.map(|name| (line_of(&code, at), name)));
        }
    }
    for name in CRATES {
        for (at, rest) in occurrences(&code, &format!("{name}::")).filter(|(at, _)| !code[..*at].ends_with("::")) {
            let part = if name == "app" && first_names(rest) == ["api"] { "app::api" } else { name };
            found.push((line_of(&code, at), part.to_owned()));
        }
    }
    found.sort();
    found
}

/// Where `prefix` begins a path, and the text behind it.
fn occurrences<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let begins = |at: usize| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
    code.match_indices(prefix).filter(move |(at, _)| begins(*at)).map(move |(at, _)| (at, &code[at + prefix.len()..]))
}

/// The first name of a path, or of every path in a `{group}`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    match rest.strip_prefix('{') {
        Some(group) => members(group).into_iter().map(name).filter(|name| !name.is_empty()).collect(),
        None => vec![name(rest)],
    }
}

/// What the commas of a group divide, up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    members
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Lines without comments and string contents, numbered from 1.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(i, line)| {
        let code = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
        (i + 1, code.split("//").next().unwrap_or_default().to_owned())
    })
}

fn sources(module: &str) -> Vec<PathBuf> {
    let (file, folder) = (PathBuf::from(format!("src/{module}.rs")), Path::new("src").join(module));
    let below = if folder.is_dir() { rust_files(&folder) } else { Vec::new() };
    Some(file).filter(|file| file.is_file()).into_iter().chain(below).collect()
}

/// `src/store/mod.rs` and `src/config.rs` are one below the root, `src/store/blob.rs` two.
fn depth(file: &Path) -> usize {
    file.components().count() - 1 - usize::from(file.ends_with("mod.rs"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Names under `[dependencies]`, optional ones too; those of tests are free.
fn dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    manifest["dependencies"].as_table().unwrap().keys().cloned().collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
