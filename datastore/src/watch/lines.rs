//! The lines of a stream of bytes, each of bounded length.

use std::io;

use futures::{AsyncBufRead, AsyncBufReadExt as _};

/// Longest line accepted. Servers refuse objects of more than a few MiB.
const LONGEST_LINE: usize = 32 << 20;

/// Splits what a reader gives into lines.
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
        }
    }

    /// The next line that is not empty, without its end; `None` at the end of the stream, also when that comes within
    /// a line: the rest of a line says nothing.
    ///
    /// # Cancel safety
    ///
    /// What was read before cancellation is kept for the next call.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (content, used) = match end {
                Some(end) => (bytes.get(..end).unwrap_or_default(), end + 1),
                None => (bytes, bytes.len()),
            };
            self.line.extend_from_slice(content);
            self.reader.consume_unpin(used);
            if self.line.len() > LONGEST_LINE {
                let problem = format!("a line is longer than {LONGEST_LINE} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            if end.is_some() && !self.line.trim_ascii().is_empty() {
                let line = std::mem::take(&mut self.line);
                return String::from_utf8(line)
                    .map(Some)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_and_a_broken_one_is_the_end() {
        let text: &[u8] = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\"";
        let mut lines = Lines::new(text);
        assert_eq!(lines.next().await.unwrap().as_deref(), Some("{\"a\":1}"));
        assert_eq!(lines.next().await.unwrap().as_deref(), Some("{\"b\":2}\r"));
        assert_eq!(lines.next().await.unwrap(), None);
        assert!(Lines::new(&b"\xff\n"[..]).next().await.is_err());
    }
}
