//! The children's log lines on the way to the container's log: each with the name of its process in front.

/// Longest line that is passed on as one.
pub const LINE_LEN_MAX: usize = 64 * 1024;

/// A line with its process: `[felix] ...`, or a field of a JSON line.
#[must_use]
pub fn named(process: &str, line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut out = Vec::with_capacity(line.len() + process.len() + 16);
    match line.strip_prefix(b"{") {
        // Log collectors parse the line: the name becomes its first field.
        Some(rest) if line.ends_with(b"}") => {
            out.extend_from_slice(format!("{{\"process\":\"{process}\"").as_bytes());
            if rest != b"}" {
                out.push(b',');
            }
            out.extend_from_slice(rest);
        }
        _ => {
            out.extend_from_slice(format!("[{process}] ").as_bytes());
            out.extend_from_slice(line);
        }
    }
    out.push(b'\n');
    out
}

/// Takes whole lines off the front of what was read; a line without end is cut at [`LINE_LEN_MAX`].
pub fn take_lines(read: &mut Vec<u8>, ended: bool) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    loop {
        let end = match read.iter().position(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if read.len() >= LINE_LEN_MAX || (ended && !read.is_empty()) => read.len(),
            None => return lines,
        };
        lines.push(read.drain(..end).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_whose_they_are() {
        let check = |line: &str, expected: &str| {
            assert_eq!(
                String::from_utf8(named("felix", line.as_bytes())).unwrap(),
                expected
            );
        };
        check("in sync\n", "[felix] in sync\n");
        check("", "[felix] \n");
        check(
            "{\"level\":\"INFO\"}\n",
            "{\"process\":\"felix\",\"level\":\"INFO\"}\n",
        );
        check("{}\n", "{\"process\":\"felix\"}\n");
        check("{ half\r\n", "[felix] { half\n");
    }

    #[test]
    fn half_lines_wait_for_their_end() {
        let mut read = b"one\ntwo\nthr".to_vec();
        assert_eq!(
            take_lines(&mut read, false),
            [b"one\n".to_vec(), b"two\n".to_vec()]
        );
        read.extend(b"ee");
        assert!(take_lines(&mut read, false).is_empty());
        assert_eq!(take_lines(&mut read, true), [b"three".to_vec()]);
        let mut endless = vec![b'x'; LINE_LEN_MAX + 5];
        assert_eq!(take_lines(&mut endless, false)[0].len(), LINE_LEN_MAX + 5);
        assert!(endless.is_empty());
    }
}
