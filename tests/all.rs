//! The tests of the library and of the programs. They are one program, because a program is linked once:
//! `cargo test --test all tap::` runs the tests of one file. `allocations` and `fairness` measure
//! a whole process, so they are separate programs.

mod common;
#[path = "common/tap.rs"]
mod tapped;

mod access;
mod chaos;
mod command_line;
mod connection;
mod deadlines;
mod demo;
mod deploys;
mod disk;
mod evictions;
mod forget;
mod groups;
mod http;
mod identity;
mod identity_header;
mod json_log;
mod layers;
mod limits;
mod long_poll;
mod mailbox;
mod memory;
mod metrics;
mod no_loss;
mod openapi;
mod operator;
mod output;
mod proxies;
mod quotas;
mod raw;
mod redis;
mod relay;
mod replays;
mod retention;
mod ropes;
mod short_poll;
mod shutdown;
mod signal;
mod static_folder;
mod streams;
mod tap;
mod traffic;
mod tungstenite;
mod websocket;
mod wire;
mod write_time;
