//! A DNS server that answers each time what the test scripted next (RFC 1035, as much of it as a stub resolver asks).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// Addresses of one answer. Questions for IPv4 and for IPv6 each go through the list by themselves.
type Answers = Vec<Vec<IpAddr>>;

const HEADER_BYTES: usize = 12;
/// Question types of IPv4 and IPv6 addresses (RFC 1035, 3.2.2; RFC 3596).
const A: u16 = 1;
const AAAA: u16 = 28;

/// A listening server. It stops with the value.
#[derive(Debug)]
pub(crate) struct Dns {
    asked: Arc<Mutex<HashMap<(String, u16), usize>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Dns {
    /// A server on 127.0.0.1:53 which answers the nth question for a name with its nth list of addresses, and later
    /// ones with the last. It knows no other names.
    pub(crate) async fn start(names: &[(&str, &[&[&str]])]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").await.expect("port 53 is ours in here");
        let address = |text: &&str| text.parse().expect("an address");
        let lists = |lists: &[&[&str]]| lists.iter().map(|list| list.iter().map(address).collect()).collect();
        let names = names.iter().map(|(name, answers)| ((*name).to_owned(), lists(answers))).collect();
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let serving = tokio::spawn(serve(socket, names, Arc::clone(&asked)));
        Self { asked, serving }
    }

    /// How often the IPv4 addresses of `name` were asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().expect("lock").get(&(name.to_owned(), A)).copied().unwrap_or_default()
    }
}

async fn serve(
    socket: UdpSocket,
    names: HashMap<String, Answers>,
    asked: Arc<Mutex<HashMap<(String, u16), usize>>>,
) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query).await {
        let Some((name, kind, end)) = question(&query[..length]) else { continue };
        let turn = {
            let mut asked = asked.lock().expect("lock");
            let count = asked.entry((name.clone(), kind)).or_default();
            *count += 1;
            *count - 1
        };
        let answers = names.get(&name).and_then(|answers| answers.get(turn).or(answers.last()));
        let _ = socket.send_to(&answer(&query[..end], kind, answers), from).await;
    }
}

/// The name that is asked for, the type of the question, and where it ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

/// The answer to `query`, which ends with its one question; an unknown name is NXDOMAIN.
fn answer(query: &[u8], kind: u16, addresses: Option<&Vec<IpAddr>>) -> Vec<u8> {
    let records: Vec<Vec<u8>> = addresses
        .into_iter()
        .flatten()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
            _ => None,
        })
        .collect();
    let code = if addresses.is_some() { 0 } else { 3 };
    let mut answer = query[..2].to_vec();
    answer.extend([0x85, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    answer.extend(&query[HEADER_BYTES..]);
    for record in records {
        // A pointer to the name in the question, its type, the class IN, a TTL of 0 s.
        answer.extend([0xc0, 0x0c]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0, record.len() as u8]);
        answer.extend(record);
    }
    answer
}
