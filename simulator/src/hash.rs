//! Numbers and ids that look random and are functions of a seed.

/// SplitMix64 (Steele, Lea, Flood 2014): one well-mixed number for each input.
pub(crate) fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One number for a text (FNV-1a, then mixed).
pub(crate) fn of(seed: u64, text: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    mix(seed, text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// `length` letters and digits, lower case.
pub(crate) fn letters(seed: u64, length: usize) -> String {
    const SET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |i: usize| char::from(SET[(mix(seed, i as u64) % 36) as usize]);
    (0..length).map(letter).collect()
}

/// A UUID of a number.
pub(crate) fn uuid(seed: u64, n: u64) -> String {
    let (a, b) = (mix(seed, n), mix(seed ^ 0x5bd1_e995, n));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}
