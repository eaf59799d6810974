//! The files of the browser client: embedded in the binary, or in a folder during development.

mod folder;

use std::path::PathBuf;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use sha1::{Digest, Sha1};

pub use self::folder::MOST_KEPT;
use self::folder::{FileError, Folder};
use crate::http::{Content, Method, Request, Response};

/// Allows a page to load files from this server only, and to connect to no other server.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// A client asks whether a file has changed before it uses the file again: an old module does not fit to a new one.
const CACHE_CONTROL: &str = "no-cache";

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../static/", $name)))),*]
    };
}

/// All files of `static/` except its README. A test compares this list with the folder.
const EMBEDDED: &[(&str, &[u8])] = embed![
    "app.js",
    "chaos/aftermath.js",
    "chaos/chaos-controls.js",
    "chaos/chaos.css",
    "chaos/chaos.js",
    "chaos/faults.js",
    "compare/compare-table.js",
    "compare/compare.css",
    "compare/compare.js",
    "compare/experiments.js",
    "compare/figures.js",
    "compare/meter.js",
    "compare/numbers.js",
    "compare/sparkline.js",
    "docs/docs.css",
    "docs/docs.html",
    "docs/docs.js",
    "docs/finder.js",
    "docs/try.js",
    "dom.js",
    "favicon.svg",
    "index.html",
    "lanes/auto.js",
    "lanes/lane.js",
    "lanes/link.js",
    "lanes/long-poll.js",
    "lanes/mailbox-poll.js",
    "lanes/mailbox-sse.js",
    "lanes/mailbox-websocket.js",
    "lanes/mailbox.js",
    "lanes/once.js",
    "lanes/peer-log.js",
    "lanes/short-poll.js",
    "lanes/sse.js",
    "lanes/stream.js",
    "lanes/urls.js",
    "lanes/webrtc.js",
    "lanes/websocket.js",
    "openapi.json",
    "overwire.d.ts",
    "overwire.js",
    "page/connections.js",
    "page/deliveries.js",
    "page/dock.js",
    "page/facts.js",
    "page/frames.js",
    "page/gauge.js",
    "page/kept.js",
    "page/log.js",
    "page/marks.js",
    "page/outgoing.js",
    "page/page.css",
    "page/panel.js",
    "page/people.js",
    "page/print.css",
    "page/session.js",
    "page/tap-address.js",
    "page/title.js",
    "page/tools.js",
    "style.css",
    "tap.js",
    "wire/acts.js",
    "wire/bytes.js",
    "wire/controls.js",
    "wire/curl.js",
    "wire/detail.js",
    "wire/exchanges.js",
    "wire/exports.js",
    "wire/filter.js",
    "wire/frame-bits.js",
    "wire/frame-panel.js",
    "wire/frames.js",
    "wire/har.js",
    "wire/idle.js",
    "wire/names.js",
    "wire/pane.js",
    "wire/place.js",
    "wire/pointer.js",
    "wire/recording.js",
    "wire/records.js",
    "wire/row.js",
    "wire/store.js",
    "wire/text.js",
    "wire/viewer.css",
    "wire/viewer.html",
    "wire/viewer.js",
    "wire/wire-view.css",
    "wire/wire-view.js",
];

/// The entity tag of each embedded file: a digest of all of them, which change together, with the binary.
static EMBEDDED_TAG: LazyLock<String> = LazyLock::new(|| {
    let all = EMBEDDED.iter().fold(Sha1::new(), |digest, (_, bytes)| digest.chain_update(bytes));
    format!("\"{}\"", BASE64_STANDARD_NO_PAD.encode(all.finalize()))
});

/// The source of the files.
#[derive(Debug)]
pub enum Files {
    /// The binary.
    Embedded,
    /// A folder.
    Folder(Folder),
}

impl Files {
    /// Serves the files of a folder.
    pub fn of_folder(path: PathBuf) -> Self {
        Files::Folder(Folder::new(path))
    }

    /// Returns the answer to a GET or HEAD request for `path`: as [`get`](Self::get) and [`head`](Self::head), or 304 if the
    /// client has the file (RFC 9110, section 13.1.2).
    pub fn answer(&mut self, path: &str, request: &Request) -> Option<Response> {
        let file = if request.method() == Method::Get { self.get(path) } else { self.head(path) }?;
        let Some(tag) = name_of(path).and_then(|name| self.tag(name)).filter(|_| file.status() == 200) else {
            return Some(file);
        };
        let is_known =
            request.elements("If-None-Match").any(|known| known == b"*" || without_weak(known) == tag.as_bytes());
        let response = if is_known { Response::new(304).with_field("Cache-Control", CACHE_CONTROL) } else { file };
        Some(response.with_field("ETag", &tag))
    }

    fn tag(&self, name: &str) -> Option<String> {
        match self {
            Files::Embedded => Some(EMBEDDED_TAG.clone()),
            Files::Folder(folder) => folder.tag(name),
        }
    }

    /// Returns the file at `path`, which begins with `/`, or an error if it is too long or cannot be read. Returns `None`
    /// if there is no such file, if the path contains `..`, or if a symbolic link leads out of the folder.
    pub fn get(&mut self, path: &str) -> Option<Response> {
        let name = name_of(path)?;
        let content = match self {
            Files::Embedded => embedded(name).map(Content::Static),
            Files::Folder(folder) => folder.read(name).map(Content::Shared),
        };
        answer(name, content)
    }

    /// Returns the answer to HEAD: the same without the content, which is not read.
    pub fn head(&self, path: &str) -> Option<Response> {
        let name = name_of(path)?;
        let length = match self {
            Files::Embedded => embedded(name).map(|bytes| bytes.len() as u64),
            Files::Folder(folder) => folder.length(name),
        };
        answer(name, length.map(|length| Content::Omitted(Some(length))))
    }

    /// Returns the number of bytes that are kept in memory, and the number of those that answers share.
    pub fn memory(&self) -> (usize, usize) {
        match self {
            Files::Embedded => (0, 0),
            Files::Folder(folder) => (folder.bytes(), folder.shared()),
        }
    }
}

fn name_of(path: &str) -> Option<&str> {
    match path {
        "/" => Some("index.html"),
        "/docs" | "/redoc" => Some("docs/docs.html"), // one page for both, with forms only at /docs
        _ => path.strip_prefix('/'),
    }
}

fn embedded(name: &str) -> Result<&'static [u8], FileError> {
    EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes).ok_or(FileError::Nothing)
}

fn answer(name: &str, content: Result<Content, FileError>) -> Option<Response> {
    match content {
        Err(error) => error.response(name),
        Ok(content) => Some(
            Response::new(200)
                .with_content(content_type(name), content)
                .with_field("Cache-Control", CACHE_CONTROL)
                .with_field("X-Content-Type-Options", "nosniff")
                .with_field("Content-Security-Policy", CONTENT_SECURITY_POLICY),
        ),
    }
}

/// An entity tag without its mark of weakness, which does not count here (RFC 9110, section 8.8.3.2).
fn without_weak(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("ts") => "text/plain; charset=utf-8", // no type is registered for TypeScript
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn names_below(folder: &Path, prefix: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => names_below(&entry.path(), &format!("{name}/"), names),
                false => names.push(name),
            }
        }
    }

    #[test]
    fn all_files_of_the_folder_are_embedded() {
        let mut names = Vec::new();
        names_below(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/static")), "", &mut names);
        names.retain(|name| name != "README.md");
        names.sort();
        let mut embedded: Vec<_> = EMBEDDED.iter().map(|(name, _)| name.to_string()).collect();
        embedded.sort();
        assert_eq!(embedded, names);
    }

    #[test]
    fn files_outside_the_folder_are_not_served() {
        let mut files = Files::of_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/static").into());
        assert!(files.get("/").is_some() && files.get("/index.html").is_some());
        for path in ["/../Cargo.toml", "//etc/passwd", "/./../Cargo.toml", "/lanes", "/nothing", "/index.html/..", ""] {
            assert!(files.get(path).is_none() && Files::Embedded.get(path).is_none(), "{path}");
        }
    }
}
