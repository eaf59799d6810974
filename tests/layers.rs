//! The import rule: a module imports only from the layers below its own. The sources are read as text, and a violation
//! is reported with its file and line.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The layers from the bottom up, as the table in `src/lib.rs` lists them.
const LAYERS: [&[&str]; 8] = [
    &["bytes", "json", "slab", "books", "limits", "random", "output", "histogram"],
    &["http", "sse", "websocket", "resp", "proxy_protocol", "proxies"],
    &[
        "feed",
        "signalling",
        "timers",
        "outbox",
        "access",
        "files",
        "signals",
        "socket_options",
        "activation",
        "heap",
        "access_log",
        "wire",
        "identity",
        "quotas",
    ],
    &["connection"],
    &["event_loop"],
    &["journal"],
    &["tap"],
    &["server"],
];

/// Imports that are allowed within a layer.
const NEIGHBOURS: [(&str, &str); 4] =
    [("sse", "http"), ("websocket", "http"), ("proxies", "http"), ("proxies", "proxy_protocol")];

/// Private modules of the event loop. The tap and the server use only the public API.
const PRIVATE: [&str; 3] = ["signals", "socket_options", "access_log"];

/// Words that only some modules may use.
const CONFINED: [(&str, &[&str]); 5] = [
    ("mio", &["event_loop"]),
    ("unsafe", &["signals", "socket_options", "activation", "heap"]),
    (
        "net",
        &[
            "event_loop",
            "access",
            "proxies",
            "proxy_protocol",
            "signals",
            "activation",
            "identity",
            "quotas",
            "tap",
            "journal",
            "server",
        ],
    ),
    ("SystemTime", &["event_loop", "access_log", "journal", "tap", "server"]),
    ("Instant::now", &["event_loop", "journal"]),
];

/// The crates that a program may use. `common` is shared by tests, and so by the lessons' exercises.
const PROGRAM_ROOTS: [&str; 8] = ["std", "overwire", "lessons", "serde_json", "common", "self", "super", "crate"];

/// The one lesson that does without overwire, and the crates that it may use.
const BELOW_THE_LIBRARY: &str = "lessons/00-readiness/";
const BELOW_ROOTS: [&str; 4] = ["std", "mio", "lessons", "common"];

/// The one lesson that computes digests by itself, and the crate that it may use for that.
const WITH_DIGESTS: (&str, &str) = ("lessons/11-who-are-you/", "sha1");

fn computes_digests(path: &str, root: &str) -> bool {
    path.starts_with(WITH_DIGESTS.0) && root == WITH_DIGESTS.1
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn may_import(from: &str, to: &str) -> bool {
    from == to
        || NEIGHBOURS.contains(&(from, to))
        || (layer_of(to) < layer_of(from) && !(matches!(from, "tap" | "server") && PRIVATE.contains(&to)))
}

/// `src/http/request.rs` belongs to `http`, as does `src/http/mod.rs`.
fn module_of(path: &str) -> Option<&str> {
    let module = path.strip_prefix("src/")?;
    Some(module.split('/').next()?.trim_end_matches(".rs"))
}

/// The number of `super` that lead from the module of the file to the root.
fn depth_of(path: &str) -> usize {
    path.matches('/').count() - usize::from(path.ends_with("/mod.rs"))
}

/// The source without its comments, line by line.
fn code_of(source: &str) -> String {
    let lines = source.lines().map(|line| match line.trim_start().starts_with("//") {
        true => "",
        false => line.split(" // ").next().unwrap_or_default(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_of_identifier(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn identifier(text: &str) -> &str {
    text.split(|character| !is_of_identifier(character)).next().unwrap_or_default()
}

/// The positions of `word` in `code`, except those inside a longer identifier.
fn find_word<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        !code[..at].ends_with(is_of_identifier) && !code[at + word.len()..].starts_with(is_of_identifier)
    })
}

/// The first segments of a path, or of each path in a group: of `{http::{self, list}, sse}`, `http`
/// and `sse`.
fn first_segments(text: &str) -> Vec<&str> {
    let Some(group) = text.strip_prefix('{') else { return vec![identifier(text)] };
    let (mut segments, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !character.is_whitespace() => {
                segments.push(identifier(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    segments
}

/// The modules that a file imports, each with its position in the code.
fn imports<'a>(path: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for at in find_word(code, "crate").filter(|at| code[at + 5..].starts_with("::")) {
        found.extend(first_segments(&code[at + 7..]).into_iter().map(|module| (at, module)));
    }
    for at in find_word(code, "super").filter(|at| !code[..*at].ends_with("super::")) {
        let rest = code[at..].trim_start_matches("super::");
        let supers = (code.len() - at - rest.len()) / "super::".len();
        if supers >= depth_of(path) {
            let modules = first_segments(rest).into_iter().filter(|name| layer_of(name).is_some());
            found.extend(modules.map(|module| (at, module)));
        }
    }
    found
}

/// The violations in a file.
fn violations(path: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut found = Vec::new();
    let mut complain = |at: usize, complaint: String| {
        found.push(format!("{path}:{}: {complaint}", code[..at].matches('\n').count() + 1));
    };
    let module = module_of(path).filter(|module| !matches!(*module, "main" | "bin"));
    // A program may use sockets and clocks.
    let is_below = path.starts_with(BELOW_THE_LIBRARY);
    let confined = match module {
        Some(_) => &CONFINED[..],
        None => &CONFINED[usize::from(is_below)..2],
    };
    for (word, modules) in confined.iter().filter(|(_, modules)| !module.is_some_and(|own| modules.contains(&own))) {
        // Tests may read the clock, because they need a time to pass as an argument.
        let tests = if *word == "Instant::now" { code.find("#[cfg(test)]\nmod tests") } else { None };
        let places = find_word(&code[..tests.unwrap_or(code.len())], word);
        places.for_each(|at| complain(at, format!("{word} belongs in {}", modules.join(", "))));
    }
    match module {
        None => {
            for (at, _) in code.match_indices("\nuse ") {
                let root = identifier(&code[at + 5..]);
                if is_below {
                    if !BELOW_ROOTS.contains(&root) {
                        complain(at + 1, format!("this lesson uses mio and std, not {root}"));
                    }
                } else if !PROGRAM_ROOTS.contains(&root) && !computes_digests(path, root) {
                    complain(at + 1, format!("a program uses overwire, not {root}"));
                }
            }
        }
        Some("lib") => {}
        Some(module) if layer_of(module).is_none() => complain(0, format!("{module} is in no layer")),
        Some(module) => {
            for (at, import) in imports(path, &code) {
                match layer_of(import) {
                    None => complain(at, format!("crate::{import} is not a module of a layer")),
                    Some(_) if may_import(module, import) => {}
                    Some(_) => complain(at, format!("{module} uses {import}, which is not below it")),
                }
            }
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The Rust files below a folder, if it exists.
fn files_below(folder: &str, files: &mut Vec<String>) {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    for entry in entries.into_iter().flatten().map(Result::unwrap) {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_below(&path, files);
        } else if path.ends_with(".rs") {
            files.push(path);
        }
    }
}

#[test]
fn imports_go_down_only() {
    let mut files = Vec::new();
    files_below("src", &mut files);
    files_below("lessons", &mut files);
    assert!(files.len() > 25, "{files:?}");
    let violations: Vec<_> = files.iter().flat_map(|path| violations(path, &read(path))).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn violations_are_found() {
    for (path, source, complaint) in [
        ("src/http/request.rs", "\nuse crate::feed::Feed;", "2: http uses feed, which is not below it"),
        ("src/http/request.rs", "use super::super::sse;", "1: http uses sse, which is not below it"),
        (
            "src/http/mod.rs",
            "use super::{\n  bytes,\n  timers::Timers,\n};",
            "1: http uses timers, which is not below it",
        ),
        ("src/slab.rs", "use crate::bytes::Shared;", "1: slab uses bytes, which is not below it"),
        (
            "src/sse.rs",
            "use crate::{bytes::{Parse, Shared}, websocket};",
            "1: sse uses websocket, which is not below it",
        ),
        ("src/feed.rs", "fn f() { crate::outbox::x() }", "1: feed uses outbox, which is not below it"),
        ("src/server/rooms.rs", "use crate::signals;", "1: server uses signals, which is not below it"),
        ("src/server/rooms.rs", "use crate::Limits;", "1: crate::Limits is not a module of a layer"),
        ("src/cables.rs", "", "1: cables is in no layer"),
        ("src/connection/mod.rs", "//\nlet now = Instant::now();", "2: Instant::now belongs in event_loop, journal"),
        (
            "src/connection/mod.rs",
            "use std::{io, net::TcpStream};",
            "1: net belongs in event_loop, access, proxies, proxy_protocol, signals, activation, identity, quotas, tap, \
             journal, server",
        ),
        (
            "src/lib.rs",
            "#![deny(unsafe_code)]\nunsafe {}",
            "2: unsafe belongs in signals, socket_options, activation, heap",
        ),
        ("src/main.rs", "use mio::Poll;", "1: mio belongs in event_loop"),
        (
            "lessons/02-polling/main.rs",
            "use overwire::http;\nuse httparse::Request;",
            "2: a program uses overwire, not httparse",
        ),
    ] {
        assert!(
            violations(path, source).contains(&format!("{path}:{complaint}")),
            "{path}: {:?}",
            violations(path, source)
        );
    }
}

#[test]
fn allowed_imports_are_not_reported() {
    for (path, source) in [
        ("src/http/request.rs", "use super::chunked::ChunkError;\nuse crate::bytes::Parse; // not crate::feed"),
        (
            "src/websocket/message.rs",
            "/// See crate::event_loop.\nuse crate::http::Response;\nuse super::super::bytes;",
        ),
        ("src/server/routes.rs", "use crate::server::params::ApiError;\nuse super::{Call, Server};"),
        ("src/connection/mod.rs", "fn unsafe_code() {}\n#[cfg(test)]\nmod tests {\n  let now = Instant::now();\n}"),
        ("src/main.rs", "use std::net::SocketAddr;\nuse overwire::server::Config;\nserde_json::json!(null);"),
    ] {
        assert_eq!(violations(path, source), [""; 0], "{path}");
    }
}

#[test]
fn the_table_in_lib_rs_lists_the_same_layers() {
    let map = read("src/lib.rs");
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | ")).filter(|row| row.contains('`'));
    let first_cells = rows.map(|row| row.split(" | ").next().unwrap_or_default());
    let layers = first_cells.map(|cell| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>());
    assert_eq!(layers.collect::<Vec<_>>(), LAYERS.map(<[_]>::to_vec));
}

/// The dependencies in a manifest, sorted. Each is on a separate line.
fn dependencies(manifest: &str) -> Vec<String> {
    let manifest = read(manifest);
    let section = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let section = section.take_while(|line| !line.starts_with('['));
    let mut names: Vec<_> = section.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect();
    names.sort_unstable();
    names
}

#[test]
fn overwire_has_five_dependencies() {
    let manifest = read("Cargo.toml");
    let headings: Vec<_> =
        manifest.lines().filter(|line| line.starts_with('[') && line.contains("dependencies")).collect();
    assert_eq!(headings, ["[dependencies]", "[dev-dependencies]"]);
    assert_eq!(dependencies("Cargo.toml"), ["base64", "httparse", "mio", "serde_json", "sha1"]);
}

/// The lessons are a separate crate, so they can use only the public API.
#[test]
fn lessons_depend_on_overwire_and_three_of_its_crates() {
    let manifest = read("lessons/Cargo.toml");
    assert_eq!(manifest.matches("dependencies").count(), 1, "there is one section of dependencies");
    assert_eq!(dependencies("lessons/Cargo.toml"), ["mio", "overwire", "serde_json", "sha1"]);
}

/// The package has what a program needs that uses overwire: no tests, no lessons, no pictures.
#[test]
fn the_package_has_only_sources_and_pages() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--package", "overwire", "--list", "--allow-dirty", "--offline"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let list = String::from_utf8(output.stdout).unwrap();
    let files = ["Cargo.toml", "Cargo.toml.orig", "Cargo.lock", ".cargo_vcs_info.json", "README.md", "LICENSE"];
    let known = |path: &str| {
        path.starts_with("src/")
            || path.starts_with("static/")
            || path == ".github/CHANGELOG.md"
            || files.contains(&path)
    };
    let others: Vec<_> = list.lines().filter(|path| !known(path)).collect();
    assert!(others.is_empty(), "{others:?}");
    for needed in ["src/lib.rs", "src/main.rs", "src/bin/wire/main.rs", "static/index.html", "README.md", "LICENSE"] {
        assert!(list.lines().any(|path| path == needed), "{needed} is missing:\n{list}");
    }
}

/// Cargo does not look for tests here. A file that no other file names would never run.
#[test]
fn every_test_file_is_named() {
    let mut unnamed = Vec::new();
    for (folder, root, manifest) in
        [("tests", "tests/all.rs", "Cargo.toml"), ("tests/lessons", "tests/lessons/all.rs", "lessons/Cargo.toml")]
    {
        let (modules, manifest) = (read(root), read(manifest));
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let is_test = path.extension().is_some_and(|extension| extension == "rs") || path.join("mod.rs").exists();
            let is_module = modules.contains(&format!("\nmod {name};"));
            if is_test && !is_module && !manifest.contains(&format!("{folder}/{name}.rs\"")) {
                unnamed.push(path);
            }
        }
    }
    assert!(unnamed.is_empty(), "{unnamed:?}");
}
