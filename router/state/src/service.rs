//! The name of a service in bytes.

use uvs_director::spec::{Family, Protocol, ServiceKey};

use crate::field::{Fields, Writer};

/// 1: protocol and address, 2: mark and family.
pub(crate) fn write(to: &mut Writer<'_>, service: &ServiceKey) {
    match *service {
        ServiceKey::Address { protocol, addr } => {
            to.u8(1);
            to.u8(protocol.number());
            to.socket_addr(addr);
        }
        ServiceKey::Mark { mark, family } => {
            to.u8(2);
            to.u32(mark);
            to.u8(if family == Family::V4 { 4 } else { 6 });
        }
    }
}

pub(crate) fn read(fields: &mut Fields<'_>) -> Option<ServiceKey> {
    match fields.u8()? {
        1 => Some(ServiceKey::new(Protocol::from_number(fields.u8()?)?, fields.socket_addr()?)),
        2 => {
            let mark = fields.u32()?;
            let family = match fields.u8()? {
                4 => Family::V4,
                6 => Family::V6,
                _ => return None,
            };
            Some(ServiceKey::Mark { mark, family })
        }
        _ => None,
    }
}
