//! The tests of the lessons. They are one program, because a program is linked once: `cargo test --test lessons`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/lesson.rs"]
mod lesson;
#[allow(dead_code)]
#[path = "../redis/process.rs"]
mod process;
#[path = "../common/tap.rs"]
mod tapped;

mod exercises;
mod lesson_00;
mod lesson_01;
mod lesson_02;
mod lesson_03;
mod lesson_04;
mod lesson_05;
mod lesson_06;
mod lesson_07;
mod lesson_08;
mod lesson_09;
mod lesson_10;
mod lesson_11;
mod lesson_12;
mod lesson_13;
mod masks;
mod pages;
mod tap;
mod terminals;
mod transcripts;
