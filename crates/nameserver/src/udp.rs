//! One UDP socket: wait, answer what has arrived, wait again.

use crate::counters::{ZoneCounters, raise};
use crate::sockets::Service;
use publish::Reader;
use tokio::net::UdpSocket;
use zone::{Outcome, Transport, Zones};

/// Answered before other tasks of the worker get their turn.
const BATCH: usize = 64;
/// Longer than any query that makes sense; what is longer breaks off here and is answered by FORMERR.
const QUERY_BYTES: usize = 4096;

pub(crate) async fn serve(socket: UdpSocket, service: Service) {
    let mut stop = service.stop.clone();
    let mut reader = service.zones.reader();
    let mut buffers = Buffers { query: vec![0; QUERY_BYTES], answer: Vec::with_capacity(2048) };
    let (mut generation, mut zones) = (0, ZoneCounters::default());
    loop {
        if refresh(&mut reader, &mut generation) {
            zones = service.counters.of_zones(reader.current());
        }
        let is_stopping = tokio::select! {
            _ = Service::stopped(&mut stop) => true,
            // A failure shows again at the next receive.
            _ = socket.readable() => false,
            _ = reader.changed() => continue,
        };
        if refresh(&mut reader, &mut generation) {
            zones = service.counters.of_zones(reader.current());
        }
        drain(&socket, reader.current(), &service, &zones, &mut buffers);
        if is_stopping {
            return;
        }
        tokio::task::yield_now().await;
    }
}

struct Buffers {
    query: Vec<u8>,
    answer: Vec<u8>,
}

/// Takes the newest zones and says so; true when they are others than before.
fn refresh(reader: &mut Reader<Zones>, generation: &mut u64) -> bool {
    reader.current();
    reader.acknowledge();
    std::mem::replace(generation, reader.generation()) != reader.generation()
}

fn drain(
    socket: &UdpSocket,
    zones: &Zones,
    service: &Service,
    zone_counters: &ZoneCounters,
    buffers: &mut Buffers,
) {
    for _ in 0..BATCH {
        // "Nothing there", or an error of an earlier answer (ICMP): the next wake sees what comes.
        let Ok((length, peer)) = socket.try_recv_from(&mut buffers.query) else { return };
        let query = buffers.query.get(..length).unwrap_or_default();
        let outcome = zones.answer(query, Transport::Udp, &mut buffers.answer);
        service.counters.count(outcome, Transport::Udp, zone_counters);
        let is_answer = matches!(outcome, Outcome::Answered { .. });
        if is_answer && socket.try_send_to(&buffers.answer, peer).is_err() {
            raise(&service.counters.send_failures);
        }
    }
}
