//! Connections from an address of the test's choice, on Linux: all of 127.0.0.0/8 is this machine.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const AF_INET: c_int = 2;
const SOCK_STREAM: c_int = 1;
const SOCK_CLOEXEC: c_int = 0o2_000_000;

/// `struct sockaddr_in` (ip(7)). The port and the address have the order of the network.
#[repr(C)]
struct Address {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

impl Address {
    fn new(address: [u8; 4], port: u16) -> Self {
        Address { family: AF_INET as u16, port: port.to_be_bytes(), address, zero: [0; 8] }
    }
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(socket: c_int, address: *const c_void, length: u32) -> c_int;
    fn connect(socket: c_int, address: *const c_void, length: u32) -> c_int;
}

/// Connects from 127.0.0.`host`. The standard library cannot choose the address of a client.
pub fn connect_from(host: u8, server: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(server) = server else { return Err(io::ErrorKind::Unsupported.into()) };
    let (own, other) = (Address::new([127, 0, 0, host], 0), Address::new(server.ip().octets(), server.port()));
    let length = size_of::<Address>() as u32;
    let check = |result: c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: the descriptor is new and belongs to nobody else, and the addresses outlive the calls.
    unsafe {
        let descriptor = OwnedFd::from_raw_fd(check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))?);
        check(bind(descriptor.as_raw_fd(), (&raw const own).cast(), length))?;
        check(connect(descriptor.as_raw_fd(), (&raw const other).cast(), length))?;
        Ok(TcpStream::from(descriptor))
    }
}
