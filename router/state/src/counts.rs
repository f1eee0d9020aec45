//! What was counted, in bytes.
//!
//! ```text
//!   u8 0, 1 and a service, 2 and a service and an end      all services that are gone, a service, a destination
//!   u64 connections, u64 packets in, u64 packets out, u64 bytes in, u64 bytes out
//! ```

use uvs_director::record::{Counted, CountsRecord};
use uvs_director::view::Counters;

use crate::field::{Fields, Writer};
use crate::service;

pub(crate) fn write(to: &mut Writer<'_>, CountsRecord { of, counters }: &CountsRecord) {
    match of {
        Counted::Total => to.u8(0),
        Counted::Service(key) => {
            to.u8(1);
            service::write(to, key);
        }
        Counted::Destination(key, addr) => {
            to.u8(2);
            service::write(to, key);
            to.socket_addr(*addr);
        }
    }
    let Counters { connections, packets_in, packets_out, bytes_in, bytes_out } = *counters;
    for count in [connections, packets_in, packets_out, bytes_in, bytes_out] {
        to.u64(count);
    }
}

pub(crate) fn read(fields: &mut Fields<'_>) -> Option<CountsRecord> {
    let of = match fields.u8()? {
        0 => Counted::Total,
        1 => Counted::Service(service::read(fields)?),
        2 => Counted::Destination(service::read(fields)?, fields.socket_addr()?),
        _ => return None,
    };
    let counters = Counters {
        connections: fields.u64()?,
        packets_in: fields.u64()?,
        packets_out: fields.u64()?,
        bytes_in: fields.u64()?,
        bytes_out: fields.u64()?,
    };
    Some(CountsRecord { of, counters })
}
