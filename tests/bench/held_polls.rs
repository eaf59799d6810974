//! How much a held poll costs, and how long one message takes to reach all of them:
//! `cargo run --release --example held-polls -- 10000` starts the server, holds so many polls at once,
//! answers them by one `POST /api/send`, and prints the figures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;
use std::{env, fs, io};

fn main() -> ExitCode {
    let count = env::args().nth(1).map_or(Ok(10_000), |text| text.parse::<usize>());
    let Ok(count) = count else {
        eprintln!("usage: held-polls [COUNT]");
        return ExitCode::from(2);
    };
    match measure(count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("held-polls: {error}");
            eprintln!(
                "It needs the server's binary (cargo build --release), and a file limit above the count (ulimit -n)."
            );
            ExitCode::FAILURE
        }
    }
}

/// The server, which ends with its owner, whichever way that ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(count: usize) -> io::Result<()> {
    let (server, address) = start()?;
    request(address, "GET", "/health", "")?;
    let before = resident(&server)?;
    let mut polls = Vec::with_capacity(count);
    for number in 0..count {
        let mut poll = TcpStream::connect(address)?;
        write!(poll, "GET /api/poll?client_id={number}&timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        polls.push(poll);
    }
    // Only long polls are open, so only theirs is this count.
    let all_held = format!(r#""open":{count}}}"#);
    while !request(address, "GET", "/api/stats", "")?.contains(&all_held) {}
    let while_held = resident(&server)?;
    let sent = Instant::now();
    request(address, "POST", "/api/send", r#"{"sender": "bench", "text": "to all of you"}"#)?;
    let answered = sent.elapsed();
    for poll in &mut polls {
        let mut answer = [0; 1024];
        let length = poll.read(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("to all of you"), "{answer}");
    }
    let last = sent.elapsed();
    println!("{count} polls held at once");
    println!(
        "{} B resident for each ({} KiB before, {} KiB with them)",
        (while_held - before) * 1024 / count,
        before,
        while_held
    );
    println!(
        "{answered:.1?} from the send to its own answer, {last:.1?} to the last poll's answer, read one after the other"
    );
    Ok(())
}

/// The server's binary, which lies beside the examples' folder.
fn start() -> io::Result<(Server, SocketAddr)> {
    let binary = env::current_exe()?.with_file_name("../overwire");
    let child = Command::new(binary).args(["--port", "0"]).stdout(Stdio::piped()).spawn()?;
    let mut server = Server(child);
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
    let address = line.trim().rsplit('/').next().unwrap_or_default().parse().map_err(io::Error::other)?;
    Ok((server, address))
}

/// Resident memory in KiB, as the system accounts it.
fn resident(server: &Server) -> io::Result<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_err(io::Error::other)
}

fn request(address: SocketAddr, method: &str, target: &str, content: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = content.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{content}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
