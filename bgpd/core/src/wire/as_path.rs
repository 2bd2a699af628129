//! AS_PATH: checking, measuring and changing it in its encoded form (RFC 4271 §4.3, §5.1.2; RFC 6793).
//!
//! Inside the speaker AS numbers always take four octets; two-octet forms are widened at the edge.

use std::fmt::Write;

use super::cursor::Cursor;
use super::open::AS_TRANS;

const AS_SET: u8 = 1;
const AS_SEQUENCE: u8 = 2;
const SEGMENT_MAX: usize = 255;

/// How many octets an AS number takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// RFC 4271.
    Two,
    /// RFC 6793.
    Four,
}

/// A segment of a well-formed path.
#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    kind: u8,
    count: usize,
    octets: &'a [u8],
    width: Width,
}

impl<'a> Segment<'a> {
    fn numbers(self) -> impl Iterator<Item = u32> + use<'a> {
        let (two, four) = match self.width {
            Width::Two => (self.octets, &[][..]),
            Width::Four => (&[][..], self.octets),
        };
        let (two, _) = two.as_chunks::<2>();
        let (four, _) = four.as_chunks::<4>();
        let two = two.iter().map(|octets| u32::from(u16::from_be_bytes(*octets)));
        two.chain(four.iter().map(|octets| u32::from_be_bytes(*octets)))
    }
}

fn next_segment<'a>(cursor: &mut Cursor<'a>, width: Width) -> Option<Segment<'a>> {
    let kind = cursor.u8()?;
    let count = usize::from(cursor.u8()?);
    let each = match width {
        Width::Two => 2,
        Width::Four => 4,
    };
    let octets = cursor.take(count * each)?;
    Some(Segment {
        kind,
        count,
        octets,
        width,
    })
}

fn segments(path: &[u8], width: Width) -> impl Iterator<Item = Segment<'_>> {
    let mut cursor = Cursor::new(path);
    std::iter::from_fn(move || next_segment(&mut cursor, width))
}

/// Whether a path is well-formed (RFC 7606 §7.2). Confederation segments (RFC 5065) are not: there are no confederations
/// here, and a peer that is not of one must not send them. Nor is AS 0 (RFC 7607 §2).
pub fn is_valid(path: &[u8], width: Width) -> bool {
    let mut cursor = Cursor::new(path);
    while !cursor.is_empty() {
        let Some(segment) = next_segment(&mut cursor, width) else {
            return false;
        };
        if segment.count == 0 || !matches!(segment.kind, AS_SET | AS_SEQUENCE) {
            return false;
        }
        if segment.numbers().any(|number| number == 0) {
            return false;
        }
    }
    true
}

/// Returns the length as the decision process counts it: a set is one (RFC 4271 §9.1.2.2 a).
pub fn length(path: &[u8], width: Width) -> usize {
    segments(path, width)
        .map(|segment| if segment.kind == AS_SET { 1 } else { segment.count })
        .sum()
}

/// Returns the leftmost AS number when it is in a sequence: the neighbouring AS (RFC 4271 §9.1.2.2 c).
pub fn first(path: &[u8]) -> Option<u32> {
    let segment = segments(path, Width::Four).next()?;
    (segment.kind == AS_SEQUENCE).then(|| segment.numbers().next())?
}

/// Returns how often an AS number stands in the path.
pub fn occurrences(path: &[u8], number: u32) -> usize {
    segments(path, Width::Four)
        .flat_map(Segment::numbers)
        .filter(|found| *found == number)
        .count()
}

/// Whether the path starts with these numbers, in a sequence.
pub fn starts_with(path: &[u8], numbers: &[u32]) -> bool {
    let mut leading = segments(path, Width::Four)
        .take_while(|segment| segment.kind == AS_SEQUENCE)
        .flat_map(Segment::numbers);
    numbers.iter().all(|number| leading.next() == Some(*number))
}

/// Returns the path with these numbers in front, the first of them leftmost (RFC 4271 §5.1.2).
pub fn prepend(path: &[u8], numbers: &[u32]) -> Vec<u8> {
    let mut sequence: Vec<u32> = numbers.to_vec();
    let mut cursor = Cursor::new(path);
    let mut rest = path;
    if let Some(segment) = next_segment(&mut cursor, Width::Four)
        && segment.kind == AS_SEQUENCE
    {
        sequence.extend(segment.numbers());
        rest = cursor.rest();
    }
    let mut out = Vec::with_capacity(path.len() + 4 * numbers.len() + 4);
    // The first chunk is the short one, so that later prepending has room.
    let odd = sequence.len() % SEGMENT_MAX;
    let (short, full) = sequence.split_at_checked(odd).unwrap_or((&sequence, &[]));
    push_sequence(&mut out, short);
    full.chunks(SEGMENT_MAX)
        .for_each(|chunk| push_sequence(&mut out, chunk));
    out.extend(rest);
    out
}

fn push_sequence(out: &mut Vec<u8>, numbers: &[u32]) {
    if let Ok(count @ 1..) = u8::try_from(numbers.len()) {
        out.extend([AS_SEQUENCE, count]);
        numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
    }
}

/// Appends a two-octet path in four-octet form.
pub fn widen(path: &[u8], out: &mut Vec<u8>) {
    for segment in segments(path, Width::Two) {
        out.extend([segment.kind, u8::try_from(segment.count).unwrap_or(u8::MAX)]);
        segment
            .numbers()
            .for_each(|number| out.extend(number.to_be_bytes()));
    }
}

/// Returns the two-octet form, and whether AS_TRANS had to stand for a number (RFC 6793 §4.2.2).
pub fn narrow(path: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(path.len() / 2 + 2);
    let mut replaced = false;
    for segment in segments(path, Width::Four) {
        out.extend([segment.kind, u8::try_from(segment.count).unwrap_or(u8::MAX)]);
        for number in segment.numbers() {
            let short = u16::try_from(number);
            replaced |= short.is_err();
            out.extend(short.unwrap_or(AS_TRANS).to_be_bytes());
        }
    }
    (out, replaced)
}

/// Appends the whole path of a two-octet AS_PATH and the AS4_PATH beside it (RFC 6793 §4.2.3): as much of the front of
/// the first as the second lacks, then the second. A longer AS4_PATH is ignored.
pub fn merge(short: &[u8], long: &[u8], out: &mut Vec<u8>) {
    let Some(mut lacking) = length(short, Width::Two).checked_sub(length(long, Width::Four)) else {
        widen(short, out);
        return;
    };
    for segment in segments(short, Width::Two) {
        if lacking == 0 {
            break;
        }
        let (taken, counts) = if segment.kind == AS_SET {
            (segment.count, 1)
        } else {
            let taken = segment.count.min(lacking);
            (taken, taken)
        };
        out.extend([segment.kind, u8::try_from(taken).unwrap_or(u8::MAX)]);
        for number in segment.numbers().take(taken) {
            out.extend(number.to_be_bytes());
        }
        lacking = lacking.saturating_sub(counts);
    }
    out.extend(long);
}

/// Returns the path as people write it: numbers with spaces, sets in braces.
pub fn display(path: &[u8]) -> String {
    let mut text = String::new();
    for segment in segments(path, Width::Four) {
        if !text.is_empty() {
            text.push(' ');
        }
        let (open, separator, close) = if segment.kind == AS_SET {
            ("{", ",", "}")
        } else {
            ("", " ", "")
        };
        text.push_str(open);
        for (index, number) in segment.numbers().enumerate() {
            let before = if index == 0 { "" } else { separator };
            // Writing to a String cannot fail.
            let _ = write!(text, "{before}{number}");
        }
        text.push_str(close);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(numbers: &[u32]) -> Vec<u8> {
        prepend(&[], numbers)
    }

    // RFC 7606 §7.2.
    #[test]
    fn malformed_paths_are_found() {
        let bad: [&[u8]; 6] = [
            &[2, 0],
            &[2, 2, 0, 1, 0],
            &[2, 1, 0, 1, 9],
            &[3, 1, 0, 1],
            &[5, 1, 0, 1],
            &[2, 1, 0, 0],
        ];
        for path in bad {
            assert!(!is_valid(path, Width::Two), "{path:?}");
        }
        assert!(is_valid(&[], Width::Two));
        assert!(is_valid(&[2, 1, 0, 1, 1, 2, 0, 1, 0, 2], Width::Two));
    }

    // RFC 4271 §5.1.2 b: a new segment when the first is full or is a set.
    #[test]
    fn prepending_keeps_segments_in_bounds() {
        let full = sequence(&[7; 255]);
        let longer = prepend(&full, &[1, 2]);
        assert!(is_valid(&longer, Width::Four));
        assert_eq!(&longer[..2], [2, 2]);
        assert_eq!(length(&longer, Width::Four), 257);
        assert!(starts_with(&longer, &[1, 2, 7]) && !starts_with(&longer, &[2]));
        let set = [1, 2, 0, 0, 0, 5, 0, 0, 0, 6];
        let path = prepend(&set, &[9]);
        assert_eq!(display(&path), "9 {5,6}");
        assert_eq!(
            (length(&path, Width::Four), first(&path), first(&set)),
            (2, Some(9), None)
        );
    }

    // RFC 6793 §4.2.2, §4.2.3.
    #[test]
    fn as_trans_is_replaced_by_what_as4_path_knows() {
        let path = sequence(&[65001, 4_200_000_001, 65002]);
        let (short, replaced) = narrow(&path);
        assert_eq!(
            (short, replaced),
            (vec![2, 3, 0xfd, 0xe9, 0x5b, 0xa0, 0xfd, 0xea], true)
        );
        let seen = [2, 4, 0, 100, 0xfd, 0xe9, 0x5b, 0xa0, 0xfd, 0xea];
        let mut merged = Vec::new();
        merge(&seen, &path, &mut merged);
        assert_eq!(display(&merged), "100 65001 4200000001 65002");
        let mut ignored = Vec::new();
        merge(&[2, 1, 0, 5], &path, &mut ignored);
        assert_eq!(display(&ignored), "5");
    }
}
