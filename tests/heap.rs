//! What the heap keeps of freed memory. In a program of its own: other tests would change its resident memory.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::{fs, hint};

use overwire::heap::return_large_blocks;

const MIB: usize = 1024 * 1024;

/// Returns the resident memory in MiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[test]
fn large_blocks_between_small_ones_are_given_back() {
    return_large_blocks();
    drop(hint::black_box(vec![1_u8; 8 * MIB])); // would raise the threshold
    let before = resident();
    let blocks: Vec<_> = (0..200).map(|_| hint::black_box((vec![1_u8; MIB], Box::new(1_u8)))).collect();
    let most = resident();
    let small: Vec<_> = blocks.into_iter().map(|(_, small)| small).collect();
    let after = resident();
    assert!(most >= before + 150, "{before}, {most} MiB");
    assert!(after <= most - 150, "{before}, {most}, {after} MiB with {} small blocks", small.len());
}
