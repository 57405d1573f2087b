use backstay_model::ObjectId;
use fastcdc::v2020::{FastCDC, Normalization};

use crate::Flaw;

pub(crate) const CHUNK_MIN: usize = 256 << 10;
pub(crate) const CHUNK_AVERAGE: usize = 1 << 20;
pub(crate) const CHUNK_MAX: usize = 4 << 20;

/// One entry of a list: the chunk's id and its length.
pub(crate) const ENTRY_BYTES: usize = 36;
/// A list larger than this is itself a stream.
pub(crate) const LIST_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(CHUNK_MAX <= crate::seal::OBJECT_BYTES_MAX && LIST_BYTES_MAX <= crate::seal::OBJECT_BYTES_MAX);

/// The lengths of the chunks at the head of `bytes` that no further byte could change; with `last`,
/// of all of them.
pub(crate) fn cuts(seed: u64, bytes: &[u8], last: bool) -> Vec<usize> {
    let cutter = FastCDC::with_level_and_seed(bytes, CHUNK_MIN, CHUNK_AVERAGE, CHUNK_MAX, Normalization::Level1, seed);
    let mut lengths = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let (_, end) = cutter.cut(start, bytes.len() - start);
        // A chunk that ends where the bytes end might go on.
        if end == bytes.len() && !last {
            break;
        }
        lengths.push(end - start);
        start = end;
    }
    lengths
}

pub(crate) fn push_entry(list: &mut Vec<u8>, id: &ObjectId, bytes: usize) {
    list.extend_from_slice(id.as_bytes());
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    list.extend_from_slice(&bytes.to_le_bytes());
}

/// The chunks a list names, in order.
pub(crate) fn entries(list: &[u8]) -> Result<Vec<(ObjectId, u32)>, Flaw> {
    if !list.len().is_multiple_of(ENTRY_BYTES) {
        return Err(Flaw::Meaning);
    }
    Ok(list.chunks_exact(ENTRY_BYTES).map(entry).collect())
}

fn entry(bytes: &[u8]) -> (ObjectId, u32) {
    let mut id = [0; 32];
    id.copy_from_slice(&bytes[..32]);
    let mut length = [0; 4];
    length.copy_from_slice(&bytes[32..ENTRY_BYTES]);
    (ObjectId::from_bytes(id), u32::from_le_bytes(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes from a linear congruence: the same on every machine, forever.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        (0..bytes)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    #[test]
    fn cut_points_are_the_golden_ones() {
        let bytes = noise(12 << 20);
        assert_eq!(cuts(1, &bytes, true), GOLDEN_SEED_1);
        assert_eq!(cuts(0x0123_4567_89ab_cdef, &bytes, true), GOLDEN_OTHER_SEED);
    }

    const GOLDEN_SEED_1: &[usize] =
        &[1_770_972, 1_274_904, 2_311_007, 3_111_471, 2_217_193, 361_398, 1_244_257, 291_710];
    const GOLDEN_OTHER_SEED: &[usize] = &[
        285_785, 272_192, 464_146, 2_535_631, 443_815, 922_392, 569_501, 910_696, 1_188_769, 2_804_436, 492_461,
        1_174_023, 519_065,
    ];

    #[test]
    fn cutting_piece_by_piece_is_cutting_at_once() {
        let bytes = noise(20 << 20);
        let whole = cuts(99, &bytes, true);
        let mut lengths = Vec::new();
        let mut buffer = Vec::new();
        for piece in bytes.chunks(3_000_001) {
            buffer.extend_from_slice(piece);
            let sure = cuts(99, &buffer, false);
            buffer.drain(..sure.iter().sum::<usize>());
            lengths.extend(sure);
        }
        lengths.extend(cuts(99, &buffer, true));
        assert_eq!(lengths, whole);
    }

    #[test]
    fn a_changed_byte_changes_only_its_neighbourhood() {
        let bytes = noise(24 << 20);
        let ends = |bytes: &[u8]| {
            cuts(5, bytes, true)
                .into_iter()
                .scan(0, |end, length| {
                    *end += length;
                    Some(*end)
                })
                .collect::<std::collections::BTreeSet<_>>()
        };
        let before = ends(&bytes);
        for place in [0, 5_000_000, 11_111_111, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[place] ^= 0x40;
            let moved = ends(&changed).symmetric_difference(&before).count();
            assert!(moved <= 12, "{moved} cut points moved");
        }
    }

    #[test]
    fn a_list_is_read_back_as_written_and_a_torn_one_refused() {
        let mut list = Vec::new();
        let chunks = [(ObjectId::from_bytes([1; 32]), 5), (ObjectId::from_bytes([9; 32]), 4 << 20)];
        for (id, bytes) in &chunks {
            push_entry(&mut list, id, *bytes as usize);
        }
        assert_eq!(entries(&list).unwrap(), chunks);
        assert!(entries(&list[..40]).is_err());
    }
}
