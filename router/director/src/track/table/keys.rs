//! The hashes of the table, and which shard they choose.

use core::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use uvs_wire::Address;

use crate::base::ids::SHARDS;
use crate::track::connection::{Connection, ReplyKey, RequestKey};

/// What keys the hashes, so that no remote can choose collisions.
pub(super) struct Keys {
    seed: u64,
    shared: SharedSeed,
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed: seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15, shared: SharedSeed::from_u64(seed) }
    }

    /// Of one address and what stands beside it.
    #[inline]
    fn hash(&self, seed: u64, addr: Address, beside: u64) -> u64 {
        let (hi, lo) = addr.halves();
        let mut hasher = FoldHasher::with_seed(seed, &self.shared);
        hasher.write_u128(u128::from(hi) << 64 | u128::from(lo));
        hasher.write_u64(beside);
        hasher.finish()
    }

    /// Of what both directions carry: it chooses the shard, and all other hashes start from it.
    #[inline]
    pub(super) fn client(&self, protocol: u8, client: Address, port: u16) -> u64 {
        self.hash(self.seed, client, u64::from(protocol) << 16 | u64::from(port))
    }

    #[inline]
    pub(super) fn request(&self, client: u64, key: &RequestKey) -> u32 {
        upper(self.hash(
            client,
            key.virtual_addr,
            u64::from(key.announced) << 17 | u64::from(key.template) << 16 | u64::from(key.virtual_port),
        ))
    }

    #[inline]
    pub(super) fn reply(&self, client: u64, key: &ReplyKey) -> u32 {
        upper(self.hash(client, key.destination, u64::from(key.destination_port)))
    }
}

/// The hashes of an entry.
pub(super) struct Hashes {
    /// Of its client: chooses the shard.
    pub(super) client: u64,
    /// In the index of requests.
    pub(super) request: u32,
    /// In that of replies, if it translates them.
    pub(super) reply: Option<u32>,
}

impl Hashes {
    #[inline]
    pub(super) fn of(keys: &Keys, connection: &Connection) -> Self {
        let request = &connection.request;
        let client = keys.client(request.protocol, request.client, request.client_port);
        let reply = connection.translates_replies().then(|| keys.reply(client, &connection.reply_key()));
        Self { client, request: keys.request(client, request), reply }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the upper half")]
fn upper(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
pub(super) fn shard_of(client: u64) -> usize {
    #[allow(clippy::cast_possible_truncation, reason = "six bits")]
    let shard = (client >> (u64::BITS - SHARDS.trailing_zeros())) as usize;
    shard
}
