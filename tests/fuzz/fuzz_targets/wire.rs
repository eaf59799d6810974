//! The labels of the wire view. The input is what a client and a server send in turn, parted by `|`. Whatever the sizes
//! that it comes in, the pieces put together are the bytes that came, the lines inside of content are the content, and
//! the labels are the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::websocket::Role;
use overwire::wire::{Conversation, Part, Piece};

fuzz_target!(|bytes: &[u8]| {
    let whole = label(bytes, bytes.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(label(bytes, size), whole, "in pieces of {size}");
    }
});

/// What the client and what the server sent, in pieces as large as they can be.
fn label(bytes: &[u8], size: usize) -> [Vec<Piece>; 2] {
    let mut conversation = Conversation::default();
    let (mut pieces, mut sent) = ([vec![], vec![]], [vec![], vec![]]);
    for (side, turn) in [0, 1].into_iter().cycle().zip(bytes.split(|&byte| byte == b'|')) {
        sent[side].extend_from_slice(turn);
        for part in turn.chunks(size.max(1)) {
            add(&mut pieces[side], conversation.read(role(side), part));
        }
    }
    for side in [0, 1] {
        add(&mut pieces[side], conversation.read(role(side), b""));
        add(&mut pieces[side], conversation.end(role(side)));
        assert!(pieces[side].iter().flat_map(|piece| &piece.bytes).eq(&sent[side]));
    }
    pieces
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
