//! The labels of a conversation, and the bytes by kind. The input is what a client and a server send in turn, separated
//! by `|`. Wherever they are split, the joined pieces are the bytes, the lines are the content, and labels and sums are
//! the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::websocket::Role;
use overwire::wire::{Candidate, Conversation, Counts, Part, Piece, Tally};

fuzz_target!(|bytes: &[u8]| {
    let whole = label(bytes, bytes.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(label(bytes, size), whole, "in pieces of {size}");
    }
});

/// The joined pieces of the client and of the server, and the sums of their bytes.
fn label(bytes: &[u8], size: usize) -> ([Vec<Piece>; 2], [Counts; 2]) {
    let mut conversation = Conversation::default();
    let (mut pieces, mut sent) = ([vec![], vec![]], [vec![], vec![]]);
    let mut tallies = [0, 1].map(|side| Tally::new(role(side), keeps_alive));
    let mut sums = [Counts::default(); 2];
    let mut take = |side: usize, fresh: Vec<Piece>| {
        sums[side] += tallies[side].read(&fresh);
        add(&mut pieces[side], fresh);
    };
    for (side, turn) in [0, 1].into_iter().cycle().zip(bytes.split(|&byte| byte == b'|')) {
        sent[side].extend_from_slice(turn);
        for part in turn.chunks(size.max(1)) {
            take(side, conversation.read(role(side), part));
        }
    }
    for side in [0, 1] {
        take(side, conversation.read(role(side), b""));
        take(side, conversation.end(role(side)));
    }
    for side in [0, 1] {
        sums[side] += tallies[side].end();
        assert!(pieces[side].iter().flat_map(|piece| &piece.bytes).eq(&sent[side]));
        assert_eq!(sums[side].total(), sent[side].len() as u64, "each byte is counted once");
    }
    (pieces, sums)
}

fn keeps_alive(candidate: &Candidate<'_>) -> bool {
    match *candidate {
        Candidate::Event { name, data } => name == "b" || data.len() < 4,
        Candidate::Frame(text) | Candidate::Line(text) | Candidate::Answer(text) => text.len() < 4,
    }
}

fn role(side: usize) -> Role {
    if side == 0 { Role::Client } else { Role::Server }
}

fn add(all: &mut Vec<Piece>, pieces: Vec<Piece>) {
    for piece in pieces {
        let is_content = matches!(piece.part, Part::Content | Part::ChunkData);
        let inside = piece.lines.iter().flat_map(|line| &line.bytes);
        assert!(piece.lines.is_empty() || is_content && inside.eq(&piece.bytes));
        let other = match all.last_mut() {
            Some(last) => last.join(piece).err(),
            None => Some(piece),
        };
        all.extend(other);
    }
}
