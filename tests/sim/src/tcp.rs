//! One end of a TCP connection (RFC 9293): handshake, a stream with acknowledgements and retransmission, both ways of
//! closing. Data that comes out of order is not kept: the sender goes back to it.

use uvs_director::{Duration, Instant};
use uvs_wire::tcp::{ACK, FIN, PSH, RST, SYN};

use crate::packet::Segment;

/// Segments that may be under way at once.
const WINDOW: u32 = 4;
/// Retransmissions of one segment before an end gives up.
const TRIES: u8 = 5;
/// What comes last stays for that long.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The client has asked.
    SynSent,
    /// The server has answered.
    SynReceived,
    /// Both ends have; one or both may have closed.
    Open,
    /// Both have closed, this one first.
    TimeWait,
    /// It is over.
    Closed,
}

/// One end.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    /// Where it stands.
    pub(crate) state: State,
    /// Oldest byte that is not acknowledged, next to send, highest that was sent, end of what there is to send.
    una: u32,
    nxt: u32,
    max: u32,
    end: u32,
    /// Bytes of data in a segment.
    pub(crate) size: u16,
    /// Close once all is sent.
    fin: bool,
    fin_acked: bool,
    peer_fin: bool,
    closed_first: bool,
    /// Next byte from the other end.
    rcv: u32,
    due: Option<Instant>,
    tries: u8,
}

/// True if `a` comes before `b`.
fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) > u32::MAX / 2
}

impl Tcp {
    fn new(state: State, iss: u32, rcv: u32, now: Instant) -> Self {
        let first = iss.wrapping_add(1);
        Self {
            state,
            una: iss,
            nxt: first,
            max: first,
            end: first,
            size: 100,
            fin: false,
            fin_acked: false,
            peer_fin: false,
            closed_first: false,
            rcv,
            due: Some(now + Duration::from_secs(1)),
            tries: 0,
        }
    }

    /// A client's end, and its first segment.
    pub(crate) fn connect(iss: u32, now: Instant) -> (Self, Segment) {
        let tcp = Self::new(State::SynSent, iss, 0, now);
        let syn = tcp.syn();
        (tcp, syn)
    }

    /// The end of a server that was sent this segment, and its first one.
    pub(crate) fn accept(iss: u32, syn: &Segment, now: Instant) -> (Self, Segment) {
        let tcp = Self::new(State::SynReceived, iss, syn.seq.wrapping_add(1), now);
        let answer = tcp.syn();
        (tcp, answer)
    }

    fn syn(&self) -> Segment {
        let flags = if self.state == State::SynSent { SYN } else { SYN | ACK };
        Segment { flags, seq: self.una, ack: self.rcv, len: 0 }
    }

    fn acknowledge(&self) -> Segment {
        Segment { flags: ACK, seq: self.nxt, ack: self.rcv, len: 0 }
    }

    /// Whether nothing more will come of it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::TimeWait | State::Closed)
    }

    /// Whether a SYN may begin another connection in its place.
    pub(crate) fn yields_to(&self, syn: &Segment) -> bool {
        self.is_over() || self.state == State::SynReceived && self.rcv != syn.seq.wrapping_add(1)
    }

    /// Has so many segments more to send.
    pub(crate) fn queue(&mut self, size: u16, count: u32, now: Instant) -> Vec<Segment> {
        if self.fin || self.is_over() {
            return Vec::new();
        }
        self.size = size.max(1);
        self.end = self.end.wrapping_add(count * u32::from(self.size));
        self.flush(now)
    }

    /// Closes once all is sent.
    pub(crate) fn close(&mut self, now: Instant) -> Vec<Segment> {
        self.fin = true;
        self.flush(now)
    }

    /// Ends at once.
    pub(crate) fn reset(&mut self) -> Option<Segment> {
        let was_open = !self.is_over() && self.state != State::SynSent;
        self.state = State::Closed;
        was_open.then_some(Segment { flags: RST | ACK, seq: self.nxt, ack: self.rcv, len: 0 })
    }

    fn flush(&mut self, now: Instant) -> Vec<Segment> {
        let mut segments = Vec::new();
        if self.state != State::Open {
            return segments;
        }
        let window = WINDOW * u32::from(self.size);
        while before(self.nxt, self.end) && self.nxt.wrapping_sub(self.una) < window {
            let len = self.end.wrapping_sub(self.nxt).min(self.size.into());
            let len = u16::try_from(len).expect("at most one segment's size");
            segments.push(Segment { flags: ACK | PSH, seq: self.nxt, ack: self.rcv, len });
            self.nxt = self.nxt.wrapping_add(len.into());
        }
        if self.fin && self.nxt == self.end {
            self.closed_first |= !self.peer_fin;
            segments.push(Segment { flags: FIN | ACK, seq: self.nxt, ack: self.rcv, len: 0 });
            self.nxt = self.nxt.wrapping_add(1);
        }
        if before(self.max, self.nxt) {
            self.max = self.nxt;
        }
        if self.una != self.nxt && self.due.is_none() {
            self.due = Some(now + Duration::from_secs(1));
        }
        segments
    }

    /// What it does about a segment; and how many bytes of data came with it.
    pub(crate) fn on_segment(&mut self, segment: &Segment, now: Instant) -> (Vec<Segment>, u32) {
        let has = |flag| segment.flags & flag != 0;
        if has(RST) {
            let fits = match self.state {
                State::SynSent => has(ACK) && segment.ack == self.nxt,
                _ => segment.seq.wrapping_sub(self.rcv) < 0xffff,
            };
            if fits {
                self.state = State::Closed;
            }
            return (Vec::new(), 0);
        }
        match self.state {
            State::SynSent if has(SYN) && has(ACK) && segment.ack == self.nxt => {
                (self.una, self.rcv) = (self.nxt, segment.seq.wrapping_add(1));
                (self.state, self.due, self.tries) = (State::Open, None, 0);
                let mut segments = vec![self.acknowledge()];
                segments.extend(self.flush(now));
                (segments, 0)
            }
            // An end that remembers another connection: it is told that there is none.
            State::SynSent if has(ACK) && !has(SYN) => {
                (vec![Segment { flags: RST, seq: segment.ack, ack: 0, len: 0 }], 0)
            }
            State::SynSent | State::Closed => (Vec::new(), 0),
            State::SynReceived if has(SYN) => (vec![self.syn()], 0),
            State::SynReceived if !has(ACK) || segment.ack != self.nxt => (Vec::new(), 0),
            State::SynReceived => {
                (self.state, self.due, self.tries) = (State::Open, None, 0);
                self.una = self.nxt;
                self.in_stream(segment, now)
            }
            State::Open if has(SYN) => (vec![self.acknowledge()], 0),
            State::Open => self.in_stream(segment, now),
            State::TimeWait if has(FIN) => (vec![self.acknowledge()], 0),
            State::TimeWait => (Vec::new(), 0),
        }
    }

    fn in_stream(&mut self, segment: &Segment, now: Instant) -> (Vec<Segment>, u32) {
        if segment.flags & ACK != 0 && before(self.una, segment.ack) && !before(self.max, segment.ack) {
            self.una = segment.ack;
            if before(self.nxt, self.una) {
                self.nxt = self.una;
            }
            self.fin_acked |= self.fin && self.una == self.end.wrapping_add(1);
            (self.tries, self.due) = (0, None);
        }
        let has_more = segment.len > 0 || segment.flags & FIN != 0;
        let mut received = 0;
        if has_more && segment.seq == self.rcv && !self.peer_fin {
            received = u32::from(segment.len);
            self.rcv = self.rcv.wrapping_add(received);
            if segment.flags & FIN != 0 {
                self.rcv = self.rcv.wrapping_add(1);
                self.peer_fin = true;
            }
        }
        let mut segments: Vec<_> = has_more.then(|| self.acknowledge()).into_iter().collect();
        segments.extend(self.flush(now));
        if self.fin_acked && self.peer_fin {
            (self.state, self.due) = if self.closed_first {
                (State::TimeWait, Some(now + TIME_WAIT))
            } else {
                (State::Closed, None)
            };
        }
        (segments, received)
    }

    /// The other end has closed.
    pub(crate) fn peer_has_closed(&self) -> bool {
        self.peer_fin
    }

    /// When [`Self::on_time`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.state != State::Closed)
    }

    /// What is sent again.
    pub(crate) fn on_time(&mut self, now: Instant) -> Vec<Segment> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.tries += 1;
        if self.state == State::TimeWait || self.tries > TRIES {
            self.state = State::Closed;
            return Vec::new();
        }
        self.due = Some(now + Duration::from_secs(1 << self.tries));
        match self.state {
            State::SynSent | State::SynReceived => vec![self.syn()],
            _ => {
                self.nxt = self.una;
                self.flush(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes segments back and forth until both ends are silent.
    fn exchange(client: &mut Tcp, server: &mut Tcp, mut to_server: Vec<Segment>) -> (u32, u32) {
        let (mut sent, mut received) = (0, 0);
        while !to_server.is_empty() {
            let mut to_client = Vec::new();
            for segment in to_server.drain(..) {
                let (answers, bytes) = server.on_segment(&segment, Instant::ZERO);
                to_client.extend(answers);
                if bytes > 0 {
                    sent += bytes;
                    to_client.extend(server.queue(50, bytes / 50, Instant::ZERO));
                }
            }
            for segment in to_client {
                let (answers, bytes) = client.on_segment(&segment, Instant::ZERO);
                to_server.extend(answers);
                received += bytes;
            }
        }
        (sent, received)
    }

    #[test]
    fn a_conversation_and_its_end() {
        let (mut client, syn) = Tcp::connect(1000, Instant::ZERO);
        let (mut server, answer) = Tcp::accept(u32::MAX - 100, &syn, Instant::ZERO);
        client.queue(100, 10, Instant::ZERO);
        let (first, _) = client.on_segment(&answer, Instant::ZERO);
        assert_eq!(exchange(&mut client, &mut server, first), (1000, 1000));
        let fin = client.close(Instant::ZERO);
        exchange(&mut client, &mut server, fin);
        assert!(server.peer_has_closed());
        for fin in server.close(Instant::ZERO) {
            for last in client.on_segment(&fin, Instant::ZERO).0 {
                server.on_segment(&last, Instant::ZERO);
            }
        }
        assert_eq!((client.state, server.state), (State::TimeWait, State::Closed));
    }

    #[test]
    fn what_is_lost_is_sent_again() {
        let (mut client, syn) = Tcp::connect(1, Instant::ZERO);
        assert_eq!(client.on_time(Instant::from_secs(1)), [syn]);
        let (mut server, answer) = Tcp::accept(1, &syn, Instant::ZERO);
        client.on_segment(&answer, Instant::ZERO);
        let lost = client.queue(100, 2, Instant::from_secs(2));
        assert_eq!(lost.len(), 2);
        assert_eq!(server.on_segment(&lost[1], Instant::ZERO).1, 0, "not in order");
        let again = client.on_time(Instant::from_secs(3));
        assert_eq!(again, lost);
        let received: u32 = again.iter().map(|it| server.on_segment(it, Instant::ZERO).1).sum();
        assert_eq!(received, 200);
    }
}
