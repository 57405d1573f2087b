//! The recovery phrase: 256 random bits that a person can write on paper and type again.
//!
//! Thirteen groups of five letters and digits. The last character of each group checks the group,
//! so that a slip of the pen is named by its place.

use zeroize::Zeroizing;

use crate::Error;

/// Without `i`, `l`, `o` and `u`, which are mistaken for others.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const GROUPS: usize = 13;
const GROUP: usize = 5;
const BYTES: usize = 32;

/// 32 bytes as a phrase.
pub(crate) fn write(secret: &[u8; BYTES]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP + 1)));
    for group in 0..GROUPS {
        if group > 0 {
            text.push('-');
        }
        let values: Vec<u8> = (0..GROUP - 1).map(|place| five_bits(secret, group * (GROUP - 1) + place)).collect();
        for value in values.iter().copied().chain([check(group, &values)]) {
            text.push(char::from(ALPHABET[usize::from(value)]));
        }
    }
    text
}

/// What a phrase stands for, however it was spaced and capitalised.
pub(crate) fn read(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let values = Zeroizing::new(
        text.chars()
            .filter(|letter| !letter.is_whitespace() && *letter != '-')
            .map(value_of)
            .collect::<Vec<Option<u8>>>(),
    );
    let mut secret = Zeroizing::new(vec![0; BYTES]);
    let mut groups = values.chunks(GROUP);
    for group in 0..GROUPS {
        let wrong = || Error::RecoveryPhrase { group: group + 1 };
        let values: Vec<u8> = groups.next().and_then(|group| group.iter().copied().collect()).ok_or_else(wrong)?;
        match values.split_last() {
            Some((last, values)) if values.len() == GROUP - 1 && check(group, values) == *last => {
                for (place, value) in values.iter().enumerate() {
                    set_five_bits(&mut secret, group * (GROUP - 1) + place, *value);
                }
            }
            _ => return Err(wrong()),
        }
    }
    if groups.next().is_some() { Err(Error::RecoveryPhrase { group: GROUPS + 1 }) } else { Ok(secret) }
}

fn value_of(letter: char) -> Option<u8> {
    let letter = match letter.to_ascii_lowercase() {
        'i' | 'l' => '1',
        'o' => '0',
        other => other,
    };
    ALPHABET.iter().position(|known| char::from(*known) == letter).and_then(|place| u8::try_from(place).ok())
}

/// Odd weights, so that every single wrong character changes the sum.
fn check(group: usize, values: &[u8]) -> u8 {
    let sum: usize = values.iter().enumerate().map(|(place, value)| (2 * place + 3) * usize::from(*value)).sum();
    ((sum + 7 * group) % 32) as u8
}

fn five_bits(secret: &[u8], index: usize) -> u8 {
    (0..5).fold(0, |value, bit| {
        let place = index * 5 + bit;
        let set = secret.get(place / 8).is_some_and(|byte| byte & (0x80 >> (place % 8)) != 0);
        (value << 1) | u8::from(set)
    })
}

fn set_five_bits(secret: &mut [u8], index: usize, value: u8) {
    for bit in 0..5 {
        let place = index * 5 + bit;
        if let Some(byte) = secret.get_mut(place / 8)
            && value & (0x10 >> bit) != 0
        {
            *byte |= 0x80 >> (place % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_phrase_is_read_back_however_it_is_typed(secret: [u8; 32]) {
            let text = write(&secret);
            prop_assert_eq!(read(&text).unwrap().to_vec(), secret.to_vec());
            prop_assert_eq!(read(&text.to_uppercase().replace('-', " ")).unwrap().to_vec(), secret.to_vec());
            prop_assert_eq!(read(&text.replace('1', "l").replace('0', "O")).unwrap().to_vec(), secret.to_vec());
        }

        #[test]
        fn every_single_wrong_character_is_named_by_its_group(secret: [u8; 32], place in 0usize..65, add in 1usize..32) {
            let text = write(&secret).replace('-', "");
            let mut letters: Vec<u8> = text.bytes().collect();
            let value = usize::from(value_of(char::from(letters[place])).unwrap());
            letters[place] = ALPHABET[(value + add) % 32];
            let read = read(std::str::from_utf8(&letters).unwrap());
            let Err(Error::RecoveryPhrase { group }) = read else { panic!("{read:?}") };
            prop_assert_eq!(group, place / 5 + 1);
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        let text = write(&[0xa5; 32]);
        assert!(read(&text[..text.len() - 1]).is_err());
        assert!(read(&format!("{}0", *text)).is_err());
        assert!(read("").is_err());
    }
}
