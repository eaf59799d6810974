//! The files of a folder, `--static`: which are served, their changes, their lengths, and the errors.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::{Running, TestServer};

const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// A temporary folder with a folder `static` in it. It is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("static/inner")).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.0.join(name), content).unwrap();
    }

    /// Creates a file of zeros.
    fn create(&self, name: &str, length: u64) {
        File::create(self.0.join("static").join(name)).unwrap().set_len(length).unwrap();
    }

    fn serve(&self) -> TestServer {
        let folder = self.0.join("static");
        TestServer::with(|config| config.static_folder = Some(folder))
    }

    /// Serves the folder in a separate process.
    fn run(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
        Running::start(command.args(["--port", "0", "--no-tap", "--static"]).arg(self.0.join("static")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn nothing_outside_is_served() {
    let folder = Folder::new("outside");
    folder.write("secret.txt", "secret");
    folder.write("static/inner/page.html", "page");
    symlink("../secret.txt", folder.0.join("static/link.txt")).unwrap();
    symlink("..", folder.0.join("static/up")).unwrap();
    symlink("inner", folder.0.join("static/link")).unwrap();
    let server = folder.serve();
    for target in ["/inner/page.html", "/link/page.html"] {
        let answer = server.get(target);
        assert_eq!((answer.status, answer.text()), (200, "page"), "{target}");
        assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
    }
    let secret = folder.0.join("secret.txt");
    let (absolute, long) = (format!("/{}", secret.to_str().unwrap()), format!("/{}", "x".repeat(300)));
    for target in [
        "/link.txt",
        "/up/secret.txt",
        "/up/nothing",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/inner/../../secret.txt",
        "/inner/%2e%2e/%2e%2e/secret.txt",
        &absolute,
        &long,
        "/inner",
        "/inner/",
        "/inner/page.html/",
        "/inner/page.html/page.html",
        "/inner//page.html",
        "/inner/./page.html",
        "/index.html", // in the program, but not in the folder
    ] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
}

/// To open a FIFO is to wait for its other end, and a device may have no end.
#[test]
fn only_regular_files_are_opened() {
    let folder = Folder::new("kinds");
    assert!(Command::new("mkfifo").arg(folder.0.join("static/fifo")).status().unwrap().success());
    symlink("/dev/zero", folder.0.join("static/device")).unwrap();
    symlink("fifo", folder.0.join("static/link")).unwrap();
    let socket = UnixListener::bind(folder.0.join("socket")).unwrap();
    fs::rename(folder.0.join("socket"), folder.0.join("static/socket")).unwrap();
    let server = folder.serve();
    for target in ["/fifo", "/device", "/link", "/socket", "/inner"] {
        assert_eq!(server.get(target).status, 404, "{target}");
        let head = format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(server.connect().send(head).head().starts_with("HTTP/1.1 404 "), "{target}");
    }
    drop(socket);
}

#[test]
fn each_change_of_a_file_is_served() {
    let folder = Folder::new("changes");
    let path = folder.0.join("static/a.js");
    let server = folder.serve();
    let mut client = server.connect();
    for number in 100..200 {
        let content = format!("{number}");
        folder.write("static/a.js", &content);
        assert_eq!(client.get("/a.js").text(), content);
    }
    let time = fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(3600);
    for number in 100..200 {
        let content = format!("{number}");
        folder.write("static/b.js", &content);
        File::options().write(true).open(folder.0.join("static/b.js")).unwrap().set_modified(time).unwrap();
        fs::rename(folder.0.join("static/b.js"), &path).unwrap();
        assert_eq!(client.get("/a.js").text(), content);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(client.get("/a.js").status, 404);
}

#[test]
fn a_file_that_the_client_has_is_not_sent_again() {
    let folder = Folder::new("tags");
    folder.write("static/app.js", "old");
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(folder.0.join("static/app.js")).unwrap().set_modified(hour_ago).unwrap();
    for server in [folder.serve(), TestServer::start()] {
        let answer = server.get("/app.js");
        let (tag, mut client) = (answer.field("ETag").expect("a tag"), server.connect());
        for (method, known, status) in [
            ("GET", tag, 304),
            ("HEAD", tag, 304),
            ("GET", &format!("\"other\", W/{tag}"), 304),
            ("GET", "*", 304),
            ("GET", "\"other\"", 200),
        ] {
            let request = format!("{method} /app.js HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {known}\r\n\r\n");
            let again = client.send(request).answer();
            assert_eq!((again.status, again.field("ETag")), (status, Some(tag)), "{method} {known}");
            assert_eq!((again.field("Cache-Control"), again.content.is_empty()), (Some("no-cache"), status == 304));
        }
    }
    folder.write("static/app.js", "new");
    let answer = folder.serve().get("/app.js");
    assert_eq!((answer.text(), answer.field("ETag")), ("new", None), "the same moment could bring another change");
}

#[test]
fn a_file_that_is_too_long_is_an_error() {
    let folder = Folder::new("lengths");
    folder.create("longest", LONGEST_FILE);
    folder.create("longer", LONGEST_FILE + 1);
    folder.create("huge", 1 << 40);
    let server = folder.serve();
    for (target, status, length) in
        [("/longest", 200, Some(LONGEST_FILE)), ("/longer", 501, None), ("/huge", 501, None)]
    {
        let answer = server.get(target);
        assert_eq!(answer.status, status, "{target}");
        let mut client = server.connect();
        let head =
            client.send(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        client.expect_end();
        match length {
            Some(length) => {
                assert_eq!(answer.content.len() as u64, length);
                assert!(head.contains(&format!("Content-Length: {length}\r\n")), "{head}");
            }
            None => assert!(answer.text().contains("expected at most 4194304"), "{answer:?}"),
        }
    }
}

#[test]
fn slow_readers_share_one_copy() {
    let folder = Folder::new("shared");
    folder.create("large", LONGEST_FILE);
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(folder.0.join("static/large")).unwrap().set_modified(hour_ago).unwrap();
    let server = folder.run();
    let mut readers = Vec::new();
    let growth = server.growth(|| {
        let mut reader = crate::common::Client::connect(server.address);
        reader.send_get("/large").head();
        readers.push(reader);
    });
    assert!(growth < 2 * LONGEST_FILE, "{growth} bytes for 20 readers");
    let memory = crate::common::Client::connect(server.address).get("/api/stats").json()["memory"].take();
    let (files, connections) = (memory["files"].as_u64().unwrap(), memory["connections"].as_u64().unwrap());
    assert!((LONGEST_FILE..LONGEST_FILE + 1000).contains(&files), "{memory}");
    assert!(connections < LONGEST_FILE, "the file is in the books once: {memory}");
}

#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_left_is_not_a_missing_file() {
    let folder = Folder::new("descriptors");
    folder.write("static/a.js", "text");
    let server = folder.run();
    let pid = server.process.id();
    let limit = |number: usize| {
        let arguments = [format!("--pid={pid}"), format!("--nofile={number}:")];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    };
    let mut client = crate::common::Client::connect(server.address);
    assert_eq!(client.get("/health").status, 200);
    let is_open = |number: &usize| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    limit((0..).find(|number| !is_open(number)).unwrap());
    let answer = client.get("/a.js");
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")), "{answer:?}");
    assert_eq!(client.get("/nothing.js").status, 404);
    limit(256);
    assert_eq!(client.get("/a.js").text(), "text");
}
