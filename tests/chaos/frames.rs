//! The frames of the NATS client protocol, as far as a proxy must know them to lose or delay one.

use std::sync::Arc;
use std::time::Duration;

/// One line of the protocol, with its payload where it has one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// All of it, as it is sent on.
    pub(crate) bytes: Vec<u8>,
    line_end: usize,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Lose,
    /// Arrives so much later; what comes after it does not wait.
    Hold(Duration),
}

/// Judges each frame.
pub(crate) type Filter = Arc<dyn Fn(&Frame) -> Verdict + Send + Sync>;

impl Frame {
    /// The first line, without its end.
    pub(crate) fn line(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.line_end]).unwrap_or_default()
    }

    /// What follows it.
    pub(crate) fn payload(&self) -> &[u8] {
        self.bytes.get(self.line_end + 2..).unwrap_or_default()
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    /// Adds bytes; returns what is complete now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.0.extend_from_slice(bytes);
        std::iter::from_fn(|| self.next()).collect()
    }

    fn next(&mut self) -> Option<Frame> {
        let line_end = self.0.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&self.0[..line_end]).unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let payload = match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "PUB" | "HPUB" | "MSG" | "HMSG" => words.last()?.parse::<usize>().ok()? + 2,
            _ => 0,
        };
        let whole = line_end + 2 + payload;
        (self.0.len() >= whole).then(|| {
            let rest = self.0.split_off(whole);
            Frame { bytes: std::mem::replace(&mut self.0, rest), line_end }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let whole = b"PING\r\nPUB a 4\r\n+ACK\r\nHMSG b 1 12 14\r\nNATS/1.0\r\n\r\nab\r\n+OK\r\n";
        for at in 0..whole.len() {
            let mut frames = Frames::default();
            let mut found = frames.push(&whole[..at]);
            found.extend(frames.push(&whole[at..]));
            let lines: Vec<_> = found.iter().map(Frame::line).collect();
            assert_eq!(lines, ["PING", "PUB a 4", "HMSG b 1 12 14", "+OK"], "cut at {at}");
            assert_eq!(found[1].payload(), b"+ACK\r\n");
            let all: Vec<u8> = found.into_iter().flat_map(|frame| frame.bytes).collect();
            assert_eq!(all, whole);
        }
    }
}
