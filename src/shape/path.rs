//! The path and query of a target's URL when they have places for parts of messages. Whatever a message holds, the request
//! goes to the same host and stays within the segment, or the query value, where the place is.

use std::fmt;

use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Position, Url};

use super::{
    misread::Misread,
    template::{Part, Parts, Template},
};

/// All but what means nothing anywhere in a URL (RFC 3986, 2.3).
const IN_A_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The longest path and query, in bytes: receivers commonly refuse longer request lines.
const BYTES_MAX: usize = 8 * 1024;

/// Path and query with places. Printed without the query.
#[derive(Clone, PartialEq, Eq)]
pub struct PathTemplate {
    /// What is sent, with every literal as a URL has it.
    parts: Vec<Part>,
    /// The path as it was written.
    shown: String,
}

/// Why an address with places cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadAddress {
    /// A place cannot be read.
    Misread(Misread),
    /// A place where none may be: scheme, host and port are judged once and for all.
    InHost,
    /// The rest of the address does not keep every place, as `..` after one would not.
    Lost,
    /// Without its places it is no URL.
    Url(url::ParseError),
}

impl PathTemplate {
    /// Reads `text`, an address with places. The URL is where it leads whatever a message holds: its path and query are
    /// to be replaced by what [`Self::render`] makes.
    ///
    /// # Errors
    /// It is not what it has to be.
    pub fn read(text: &str) -> Result<(Url, Self), BadAddress> {
        let after_scheme = text.find("://").map_or(0, |end| end + "://".len());
        let host_end =
            text[after_scheme..].find(['/', '?', '#', '\\']).map_or(text.len(), |end| after_scheme + end);
        if Template::has_places(&text[..host_end]) {
            return Err(BadAddress::InHost);
        }
        let template = Template::new(text).map_err(BadAddress::Misread)?;
        // No address holds such a word by chance, and a longer one is found where somebody writes it.
        let mut mark = "natshook-place".to_owned();
        while text.contains(&mark) {
            mark.push_str("-x");
        }
        let marked: String = template
            .0
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_str(),
                Part::Place(_) => mark.as_str(),
            })
            .collect();
        let url = Url::parse(&marked).map_err(BadAddress::Url)?;
        let places: Vec<&Part> = template.0.iter().filter(|part| matches!(part, Part::Place(_))).collect();
        let literals: Vec<&str> = url[Position::BeforePath..Position::AfterQuery].split(&mark).collect();
        if literals.len() != places.len() + 1 {
            return Err(BadAddress::Lost);
        }
        let mut parts = Vec::new();
        for (index, literal) in literals.into_iter().enumerate() {
            parts.push(Part::Literal(literal.to_owned()));
            parts.extend(places.get(index).map(|place| (*place).clone()));
        }
        let path_end = text[host_end..].find(['?', '#']).map_or(text.len(), |end| host_end + end);
        Ok((url, Self { parts, shown: text[host_end..path_end].to_owned() }))
    }

    /// The path as it was written, with its places and without the query.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Where on the target's host a message goes.
    ///
    /// # Errors
    /// The message has no such part, or one that makes no path; why, in one line without anything from the message.
    pub fn render(&self, message: &Parts<'_>) -> Result<PathAndQuery, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Place(place) => {
                    let value = place.value(message).map_err(|error| format!("url: {error}"))?;
                    if value.is_empty() && !text.contains('?') {
                        return Err(format!(
                            "url: {} is empty, which would name another place",
                            place.written
                        ));
                    }
                    text.extend(utf8_percent_encode(&value, IN_A_VALUE));
                }
            }
        }
        if text.len() > BYTES_MAX {
            return Err(format!("url: path and query are longer than {BYTES_MAX} bytes"));
        }
        let path = text.split('?').next().unwrap_or_default();
        if path.split('/').any(is_dots) {
            return Err("url: a value would make a segment of dots, which leads elsewhere".to_owned());
        }
        PathAndQuery::try_from(text).map_err(|_| "url: the values make no path".to_owned())
    }

    /// The same as people may see it: of the query only the values that come from the message.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_shown(&self, message: &Parts<'_>) -> Result<String, String> {
        let sent = self.render(message)?;
        let Some(query) = sent.query() else { return Ok(sent.path().to_owned()) };
        let template: String = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(literal) => literal.as_str(),
                // No literal of a URL holds a space.
                Part::Place(_) => " ",
            })
            .collect();
        let written = template.split_once('?').map(|(_, query)| query).unwrap_or_default();
        // What comes from a message has no ampersand any more, so that both have the same pairs.
        let pairs = query.split('&').zip(written.split('&')).map(|(pair, written)| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            if written.contains(' ') { pair.to_owned() } else { format!("{name}=[redacted]") }
        });
        Ok(format!("{}?{}", sent.path(), pairs.collect::<Vec<_>>().join("&")))
    }
}

/// `.` and `..` mean another place, however they are written (RFC 3986, 3.3). A URL's own literals have none any more.
fn is_dots(segment: &str) -> bool {
    matches!(&*percent_decode_str(segment).collect::<Vec<u8>>(), b"." | b"..")
}

impl fmt::Debug for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PathTemplate").field(&self.shown).finish()
    }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
