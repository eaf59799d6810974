//! CRC-32C, the checksum of a record (Castagnoli's polynomial; RFC 9260, appendix A).
//!
//! The log needs a proof against accidents: a torn write, a flipped bit, a block of zeros. A CRC finds every single
//! flipped bit, every burst of up to 32 bits, and of anything else all but one in 4 billion. A hash such as SHA-1
//! promises none of the first two, takes longer, and is better only against somebody who changes a record on purpose.
//! An attacker who can write to the folder can write a right hash, too.

/// The polynomial with its bits reversed, because the bytes are read with their lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainders of a byte that is followed by 0 to 7 others. With them, eight bytes take one step.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut remainder, mut bit) = (byte as u32, 0);
        while bit < 8 {
            remainder = if remainder & 1 == 1 { remainder >> 1 ^ POLYNOMIAL } else { remainder >> 1 };
            bit += 1;
        }
        tables[0][byte] = remainder;
        byte += 1;
    }
    let mut entry = 256;
    while entry < 8 * 256 {
        let before = tables[entry / 256 - 1][entry % 256];
        tables[entry / 256][entry % 256] = before >> 8 ^ tables[0][(before & 0xff) as usize];
        entry += 1;
    }
    tables
}

/// Returns the CRC-32C of parts that follow each other.
///
/// ```
/// use overwire::journal::disk::checksum;
///
/// assert_eq!(checksum(&[b"123456789"]), 0xe306_9283);
/// assert_eq!(checksum(&[b"1234", b"56789"]), 0xe306_9283);
/// ```
pub fn checksum(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(u32::MAX, |remainder, part| add(remainder, part))
}

fn add(mut remainder: u32, bytes: &[u8]) -> u32 {
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let front = remainder ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
        let [a, b, c, d] = front.to_le_bytes();
        let bytes = [a, b, c, d, eight[4], eight[5], eight[6], eight[7]];
        remainder = (0..8).fold(0, |sum, at| sum ^ TABLES[7 - at][usize::from(bytes[at])]);
    }
    rest.iter().fold(remainder, |sum, byte| sum >> 8 ^ TABLES[0][usize::from(sum as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::checksum;

    /// The vectors of RFC 3720, appendix B.4.
    #[test]
    fn the_vectors_of_the_standard_hold() {
        let up: [u8; 32] = std::array::from_fn(|at| at as u8);
        let down: [u8; 32] = std::array::from_fn(|at| 31 - at as u8);
        for (bytes, sum) in
            [(&[0; 32], 0x8a91_36aa), (&[0xff; 32], 0x62a8_ab43), (&up, 0x46dd_794e), (&down, 0x113f_db5c)]
        {
            assert_eq!(checksum(&[bytes]), sum);
        }
        assert_eq!(checksum(&[]), 0);
    }

    #[test]
    fn parts_have_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..100u8).map(|byte| byte.wrapping_mul(37)).collect();
        for at in 0..bytes.len() {
            assert_eq!(checksum(&[&bytes[..at], &bytes[at..]]), checksum(&[&bytes]));
        }
    }
}
