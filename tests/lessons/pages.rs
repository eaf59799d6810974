//! The pages of the course: excerpts are the code, links resolve, and each lesson has its parts in order.
//! `BLESS=1 cargo test --test lessons` rewrites excerpts and transcripts.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The project's folder, which holds the folder of the lessons' package.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub const LESSONS: [&str; 14] = [
    "00-readiness",
    "01-http",
    "02-short-polling",
    "03-long-polling",
    "04-http-streaming",
    "05-server-sent-events",
    "06-websocket",
    "07-webrtc-signalling",
    "08-choosing",
    "09-keeping-it",
    "10-many-servers",
    "11-who-are-you",
    "12-in-front",
    "13-replacing",
];

/// The pages that are not lessons.
const PAGES: [&str; 9] = [
    "README.md",
    ".github/CHANGELOG.md",
    ".github/CONTRIBUTING.md",
    "lessons/README.md",
    "src/README.md",
    "static/README.md",
    "tests/README.md",
    "tests/bench/README.md",
    "tests/fuzz/README.md",
];

/// The longest line of README.md, in columns.
const COLUMNS: usize = 120;

/// Whether what differs is to be rewritten.
pub fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn readme(lesson: &str) -> PathBuf {
    Path::new(ROOT).join("lessons").join(lesson).join("README.md")
}

/// Every page of the project.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = PAGES.iter().map(|page| Path::new(ROOT).join(page)).collect();
    pages.extend(LESSONS.iter().map(|lesson| readme(lesson)));
    pages
}

// Fenced blocks.

/// A fenced block of a page: the numbers of the lines between its fences, counted from 0.
pub struct Block {
    pub info: String,
    pub first: usize,
    pub end: usize,
}

pub fn blocks(lines: &[String]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for (at, line) in lines.iter().enumerate() {
        let Some(info) = line.strip_prefix("```") else { continue };
        match open.take() {
            Some((info, first)) => blocks.push(Block { info, first, end: at }),
            None => open = Some((info.trim().to_owned(), at + 1)),
        }
    }
    assert!(open.is_none(), "a fence is not closed: {open:?}");
    blocks
}

pub fn lines_of(path: &Path) -> Vec<String> {
    read(path).lines().map(str::to_owned).collect()
}

/// Replaces ranges of lines, the last range first, so that the numbers of the others stay valid.
pub fn rewrite(path: &Path, mut lines: Vec<String>, mut changes: Vec<(Range<usize>, Vec<String>)>) {
    changes.sort_by_key(|(range, _)| range.start);
    for (range, new) in changes.into_iter().rev() {
        lines.splice(range, new);
    }
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

// Excerpts.

/// Reads a marked region of a source, without its common indentation and without the marks inside it.
fn region(path: &Path, name: &str) -> Result<Vec<String>, String> {
    let source = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_mark = |line: &str, mark: &str| {
        let words: Vec<_> =
            line.split_whitespace().filter(|word| !matches!(*word, "//" | "<!--" | "-->" | "#")).collect();
        words == [mark, name]
    };
    let mut lines = source.lines().skip_while(|line| !is_mark(line, "ANCHOR:"));
    lines.next().ok_or_else(|| format!("{} has no `ANCHOR: {name}`", path.display()))?;
    let mut inside = Vec::new();
    for line in lines.by_ref() {
        if is_mark(line, "ANCHOR_END:") {
            let shortest = inside.iter().filter(|line: &&String| !line.is_empty());
            let indentation = shortest.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
            return Ok(inside.iter().map(|line| line.get(indentation..).unwrap_or_default().to_owned()).collect());
        }
        if !line.contains("ANCHOR: ") && !line.contains("ANCHOR_END: ") {
            inside.push(line.to_owned());
        }
    }
    Err(format!("{} has no `ANCHOR_END: {name}`", path.display()))
}

#[test]
fn excerpts_match_the_code() {
    let mut wrong = String::new();
    for page in pages() {
        let lines = lines_of(&page);
        let mut changes = Vec::new();
        for block in blocks(&lines) {
            let mark = block.first.checked_sub(2).map(|at| lines[at].as_str()).unwrap_or_default();
            let place = mark.strip_prefix("<!-- excerpt: ").and_then(|rest| rest.strip_suffix(" -->"));
            let Some(place) = place else {
                if block.info == "rust" {
                    writeln!(wrong, "{}:{}: Rust that is not an excerpt", page.display(), block.first).unwrap();
                }
                continue;
            };
            let (file, name) = place.split_once('#').expect("a file and the name of a region");
            let file = match file.strip_prefix('/') {
                Some(file) => Path::new(ROOT).join(file),
                None => page.parent().unwrap().join(file),
            };
            match region(&file, name) {
                Ok(code) if code == lines[block.first..block.end] => {}
                Ok(code) if blessing() => changes.push((block.first..block.end, code)),
                Ok(code) => {
                    writeln!(wrong, "{}:{}: {place} is now\n{}", page.display(), block.first, code.join("\n")).unwrap()
                }
                Err(error) => writeln!(wrong, "{}:{}: {error}", page.display(), block.first).unwrap(),
            }
        }
        if !changes.is_empty() {
            rewrite(&page, lines, changes);
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 rewrites excerpts\n{wrong}");
}

// Links.

/// The targets of a page's links outside fenced blocks, with their line numbers.
fn links(lines: &[String]) -> Vec<(usize, String)> {
    let fenced = blocks(lines);
    let mut links = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if is_fenced(at, &fenced) {
            continue;
        }
        for (start, _) in line.match_indices("](") {
            let target = line[start + 2..].split(')').next().unwrap_or_default();
            links.push((at + 1, target.to_owned()));
        }
    }
    links
}

/// The name of a heading in a link: lower case, spaces as hyphens, no punctuation.
fn slug(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars();
    let kept = kept.filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Says what is wrong with a link. A link to a specification must name a section.
fn broken_link(page: &Path, target: &str) -> Option<&'static str> {
    if let Some(rest) = target.strip_prefix("https://") {
        let names_a_section = match rest.split_once('/').unwrap_or((rest, "")) {
            ("www.rfc-editor.org", path) => {
                path.starts_with("rfc/rfc") && (path.contains("#section-") || path.contains("#appendix-"))
            }
            ("html.spec.whatwg.org" | "fetch.spec.whatwg.org" | "websockets.spec.whatwg.org", path) => {
                path.contains('#')
            }
            ("w3c.github.io" | "www.w3.org", path) => path.contains('#'),
            _ => true,
        };
        return (!names_a_section).then_some("names no section");
    }
    if target.contains("://") {
        return Some("is neither https nor a file");
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !file.exists() {
        return Some("leads nowhere");
    }
    let found = heading.is_empty() || lines_of(&file).iter().any(|line| line.starts_with('#') && slug(line) == heading);
    (!found).then_some("names no heading of that page")
}

#[test]
fn links_resolve() {
    let mut wrong = String::new();
    for page in pages() {
        for (line, target) in links(&lines_of(&page)) {
            if let Some(fault) = broken_link(&page, &target) {
                writeln!(wrong, "{}:{line}: {target} {fault}", page.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Whether a line stands between the fences of a block.
fn is_fenced(at: usize, fenced: &[Block]) -> bool {
    fenced.iter().any(|block| (block.first..block.end).contains(&at))
}

#[test]
fn readme_is_short() {
    let lines = lines_of(&Path::new(ROOT).join("README.md"));
    assert!(lines.len() < 120, "{} lines", lines.len());
    let fenced = blocks(&lines);
    let is_wide = |(at, line): &(usize, &String)| line.chars().count() > COLUMNS && !is_fenced(*at, &fenced);
    assert_eq!(lines.iter().enumerate().find(is_wide), None, "no line has more than {COLUMNS} columns");
}

/// Every file and folder of `src` stands in the map.
#[test]
fn map_of_the_source_is_complete() {
    let folder = Path::new(ROOT).join("src");
    let page = read(&folder.join("README.md"));
    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let shown = if entry.path().is_dir() { format!("`{name}/") } else { format!("`{name}`") };
        assert!(name == "README.md" || page.contains(&shown), "{name} is not in the map of src/README.md");
    }
}

/// The headings of a lesson, in order. Those in the second list may be missing.
const HEADINGS: [&str; 12] = [
    "What you should know already",
    "The goal",
    "Run it",
    "Steps",
    "The bytes",
    "The sequence",
    "Run the broken one",
    "In the browser",
    "What it costs, and when to choose it",
    "What this code leaves out",
    "Exercises",
    "Sections to read",
];
const OPTIONAL: [&str; 1] = ["Run the broken one"];

#[test]
fn lessons_have_their_parts_in_order() {
    for lesson in LESSONS {
        let lines = lines_of(&readme(lesson));
        let headings: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("## ")).collect();
        let has_broken = Path::new(ROOT).join("lessons").join(lesson).join("broken.rs").exists();
        let wanted = HEADINGS.iter().filter(|heading| has_broken || !OPTIONAL.contains(heading)).copied();
        assert_eq!(headings, wanted.collect::<Vec<_>>(), "{lesson}");
        assert!(lines.iter().any(|line| line == "```mermaid"), "{lesson} has no diagram");
        let has_page = Path::new(ROOT).join("lessons").join(lesson).join("page.html").exists();
        let has_picture = lines.iter().any(|line| line.starts_with("![") && line.contains("/screenshots/lessons/"));
        assert_eq!(has_picture, has_page, "{lesson}: a picture of its page");
        let number = &lesson[..2];
        for (exercise, answer) in exercises(lesson) {
            let text = lines.join("\n");
            let command = format!("cargo test --test {number}-exercises {exercise}");
            assert!(text.contains(&command), "{lesson} does not say `{command}`");
            assert!(text.contains(&format!("](answers/{answer})")), "{lesson} has no link to {answer}");
        }
    }
}

/// Lists a lesson's exercises in order: the names of their tests and the files of their answers.
pub fn exercises(lesson: &str) -> Vec<(String, String)> {
    let folder = Path::new(ROOT).join("lessons").join(lesson);
    let source = read(&folder.join("exercises.rs"));
    let mut tests = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line == "#[test]" {
            let name = lines.next().and_then(|line| line.strip_prefix("fn ")).expect("a test is a function");
            tests.push(name.split('(').next().unwrap().to_owned());
        }
    }
    let mut answers: Vec<_> =
        fs::read_dir(folder.join("answers")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    answers.sort();
    let answers: Vec<_> = answers.into_iter().map(|name| name.into_string().unwrap()).collect();
    let wanted = tests.iter().enumerate().map(|(at, test)| format!("{}-{}.patch", at + 1, test.replace('_', "-")));
    assert_eq!(answers, wanted.collect::<Vec<_>>(), "the answers of {lesson}");
    assert!((2..=4).contains(&tests.len()), "{lesson} has {} exercises", tests.len());
    tests.into_iter().zip(answers).collect()
}

#[test]
fn planted_mistakes_in_links_are_found() {
    let page = Path::new(ROOT).join("lessons/README.md");
    for (target, fault) in [
        ("00-readiness/README.md", None),
        ("00-readiness/README.md#the-goal", None),
        ("https://www.rfc-editor.org/rfc/rfc9112#section-7.1", None),
        ("00-readiness/NOTHING.md", Some("leads nowhere")),
        ("00-readiness/README.md#no-such-heading", Some("names no heading of that page")),
        ("https://www.rfc-editor.org/rfc/rfc9112", Some("names no section")),
        ("http://example.com", Some("is neither https nor a file")),
    ] {
        assert_eq!(broken_link(&page, target), fault, "{target}");
    }
    assert!(region(&page, "nothing").is_err());
}
