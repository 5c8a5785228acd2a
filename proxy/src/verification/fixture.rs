//! A DNS server for tests.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};

use hickory_resolver::proto::{
    op::{Message, MessageType},
    rr::{Name, RData, Record, rdata},
};
use tokio::net::UdpSocket;

/// Answers with the records of a name, whatever is asked of them; of names without any, with none.
pub(crate) async fn dns_server(records: Vec<Record>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut by_name: HashMap<String, Vec<Record>> = HashMap::new();
    for record in records {
        by_name.entry(record.name.to_ascii().to_ascii_lowercase()).or_default().push(record);
    }
    tokio::spawn(async move {
        let mut datagram = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut datagram).await {
            let mut message = Message::from_vec(&datagram[..length]).unwrap();
            let mut asked = message.queries[0].name().to_ascii().to_ascii_lowercase();
            message.metadata.message_type = MessageType::Response;
            // As a resolver does, with what the name is an alias of.
            while let Some(records) = by_name.get(&asked) {
                message.answers.extend(records.iter().cloned());
                let Some(RData::CNAME(alias)) = records.first().map(|record| &record.data) else { break };
                asked = alias.0.to_ascii().to_ascii_lowercase();
            }
            socket.send_to(&message.to_vec().unwrap(), client).await.unwrap();
        }
    });
    address
}

/// A record by which `server` is a name server of `zone`; both with a final dot.
pub(crate) fn ns(zone: &str, server: &str) -> Record {
    Record::from_rdata(name(zone), 60, RData::NS(rdata::NS(name(server))))
}

/// A record by which `alias` is another name of `of`; both with a final dot.
pub(crate) fn cname(alias: &str, of: &str) -> Record {
    Record::from_rdata(name(alias), 60, RData::CNAME(rdata::CNAME(name(of))))
}

/// A CAA record of `at`, which has a final dot.
pub(crate) fn caa(at: &str, tag: &str, value: &str) -> Record {
    let mut caa = rdata::CAA::new_issue(false, None, Vec::new());
    (caa.tag, caa.value) = (tag.to_owned(), value.as_bytes().to_vec());
    Record::from_rdata(name(at), 60, RData::CAA(caa))
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}
