//! A message's body as it is given on the command line: the text itself, `-` for stdin, `@path` for a file.

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;

use super::Failure;

/// The most bytes that are read: no nats-server can be told to accept more in one message.
const BYTES_MAX: u64 = 64 << 20;

/// The body that `written` stands for.
///
/// # Errors
/// The file or stdin cannot be read, or holds more than a message can.
pub(super) fn read(written: &str) -> Result<Bytes, Failure> {
    match written.strip_prefix('@') {
        Some(path) => {
            let name = format!("the file {path}");
            let file = File::open(path).map_err(|cause| Failure::Body { name: name.clone(), cause })?;
            read_from(file, name)
        }
        None if written == "-" => read_from(io::stdin().lock(), "stdin".to_owned()),
        None => Ok(Bytes::copy_from_slice(written.as_bytes())),
    }
}

fn read_from(source: impl Read, name: String) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    match source.take(BYTES_MAX + 1).read_to_end(&mut body) {
        Ok(_) if body.len() as u64 > BYTES_MAX => {
            Err(Failure::Usage(format!("{name} holds more than 64MiB, the most that a message can have")))
        }
        Ok(_) => Ok(body.into()),
        Err(cause) => Err(Failure::Body { name, cause }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_body_is_text_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\x00\xff").unwrap();
        assert_eq!(read("{}").unwrap(), "{}");
        assert_eq!(read(&format!("@{}", file.path().display())).unwrap(), &b"\x00\xff"[..]);
        assert!(read("@/nonexistent").unwrap_err().to_string().contains("/nonexistent"));
    }
}
