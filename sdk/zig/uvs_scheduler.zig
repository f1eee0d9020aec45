//! A scheduler for uvs in Zig: which destination takes each new connection of a virtual service.
//!
//! A policy is a file that says `comptime { uvs.scheduler(@This()); }` and has
//!
//!   pub fn init(service: []const u8, options: []const u8) ?[]const u8
//!       Bound to a service. Null, or a sentence for the operator: what is wrong with the options.
//!   pub fn schedule(flow: *const uvs.Flow, table: *const uvs.Table) ?u32
//!       One pick: a position in the table, or null when nothing can take the connection. A position that is not eligible is
//!       refused by the director and counts as a failure.
//!
//! and, where it needs them,
//!
//!   pub fn update(table: *const uvs.Table) void
//!       The set of destinations changed. Loads read zero until the next pick.
//!   pub fn save() []const u8
//!       What a later instance needs to go on from here, at most 1 MiB, from `uvs.allocator`; it is freed.
//!   pub fn restore(state: []const u8) bool
//!       Takes over what `save` of an earlier instance returned. False: could not use it, and nothing has changed.
//!
//! The director calls one function at a time, and `schedule` once for each new connection, never per packet. A trap (a panic)
//! ends the instance: the director picks by its own scheduler meanwhile and starts a fresh one.

const std = @import("std");

pub const allocator = std.heap.wasm_allocator;

/// An IPv6 address, or an IPv4 address mapped into one (::ffff:a.b.c.d), as two halves.
pub const Address = struct {
    hi: u64,
    lo: u64,

    pub fn eql(a: Address, b: Address) bool {
        return a.hi == b.hi and a.lo == b.lo;
    }
};

pub const Protocol = enum(u8) { tcp = 0, udp = 1, sctp = 2 };

/// A new connection.
pub const Flow = struct {
    protocol: Protocol,
    /// CIP.
    client: Address,
    client_port: u16,
    /// The address the client asked for: the VIP.
    virtual_address: Address,
    virtual_port: u16,
    /// The firewall mark; 0 is none.
    mark: u32,
};

/// One destination.
pub const Destination = struct {
    /// Stable for as long as the destination belongs to the service.
    id: u32,
    /// 0 quiesces: nothing new may be scheduled to it. At most 2^31 - 1.
    weight: u32,
    /// RIP.
    address: Address,
    port: u16,
    /// Connections in an active state; below 2^23.
    active: u32 = 0,
    /// Connections in any other state, all of UDP; below 2^24.
    inactive: u32 = 0,
    /// False: over its upper threshold, nothing new may be scheduled to it.
    available: bool = true,

    /// Whether a new connection may go to it: available and not quiesced.
    pub fn isEligible(self: *const Destination) bool {
        return self.available and self.weight > 0;
    }
};

/// Whether `load` is less for its weight than the other's is, exactly.
pub fn less(load: u32, weight: u32, other_load: u32, other_weight: u32) bool {
    return @as(u64, load) * other_weight < @as(u64, other_load) * weight;
}

/// The destinations in the kernel's list order: the one added last comes first. A position is an index into `list`; it is good
/// until the next `update`.
pub const Table = struct {
    list: []Destination,
    /// The positions whose load came with this pick, in no special order.
    changed: []const u32,

    /// Where the destination with this id is; walks the list.
    pub fn positionOf(self: *const Table, id: u32) ?u32 {
        for (self.list, 0..) |*it, position| {
            if (it.id == id) return @intCast(position);
        }
        return null;
    }

    /// The eligible destination with the least load for its weight, the first in list order among equals. `load` says what a
    /// destination carries.
    pub fn least(self: *const Table, comptime load: fn (*const Destination) u32) ?u32 {
        var best: ?u32 = null;
        var best_load: u32 = 0;
        for (self.list, 0..) |*it, position| {
            if (!it.isEligible()) continue;
            const its_load = load(it);
            if (best == null or less(its_load, it.weight, best_load, self.list[best.?].weight)) {
                best = @intCast(position);
                best_load = its_load;
            }
        }
        return best;
    }
};

// ---- What the director lends ----

const imports = struct {
    extern "$root" fn log(level: u32, text: [*]const u8, len: usize) void;
    extern "$root" fn random() u64;
    extern "$root" fn @"now-ms"() u64;
};

pub const Level = enum(u8) { err = 0, warn = 1, info = 2, debug = 3 };

/// A line in the director's log.
pub fn log(level: Level, message: []const u8) void {
    imports.log(@intFromEnum(level), message.ptr, message.len);
}

/// 64 random bits.
pub fn random() u64 {
    return imports.random();
}

/// Milliseconds since some moment in the past; never runs backwards.
pub fn nowMs() u64 {
    return imports.@"now-ms"();
}

// ---- A memory of clients ----

/// Remembers where clients were sent lately: at most `capacity` of them, each for `ttl_ms` after it came last.
///
/// When it is full, the client that stayed away longest makes room. All SDKs have it, with one layout of the saved state
/// (sdk/README.md).
pub const Affinity = struct {
    const end = std.math.maxInt(u32);
    const magic = "UVSAFF01";
    const saved_len = 28;

    const Entry = struct {
        client: Address,
        used_ms: u64,
        id: u32,
        /// In its chain, or among the free ones.
        next: u32,
        older: u32,
        newer: u32,
    };

    ttl_ms: u64,
    now_ms: u64 = 0,
    /// Keys the hash, so that clients cannot choose addresses that collide.
    key: [2]u64,
    heads: []u32,
    entries: []Entry,
    len: u32 = 0,
    oldest: u32 = end,
    newest: u32 = end,
    free: u32 = 0,

    /// Remembers nobody yet; `capacity` is 1 to 1000000. To be called from `init` or later.
    pub fn init(capacity: u32, ttl_ms: u64) Affinity {
        std.debug.assert(capacity >= 1 and capacity <= 1_000_000);
        const chains = std.math.ceilPowerOfTwoAssert(u32, @max(capacity / 2, 1));
        var self: Affinity = .{
            .ttl_ms = ttl_ms,
            .key = .{ random(), random() },
            .heads = allocator.alloc(u32, chains) catch @panic("out of memory"),
            .entries = allocator.alloc(Entry, capacity) catch @panic("out of memory"),
        };
        self.clear();
        return self;
    }

    /// Sets the clock and forgets up to two clients whose time is over; to be called at the beginning of each pick.
    pub fn tick(self: *Affinity) void {
        self.now_ms = nowMs();
        // A pick remembers one client at most: to forget two keeps up, and no pick has to forget them all.
        for (0..2) |_| {
            if (self.oldest == end or self.isFresh(&self.entries[self.oldest])) break;
            self.removeOldest();
        }
    }

    /// The destination id of a client, if its time is not over. Does not count as a use.
    pub fn get(self: *const Affinity, client: Address) ?u32 {
        const at = self.find(client);
        if (at == end or !self.isFresh(&self.entries[at])) return null;
        return self.entries[at].id;
    }

    /// Remembers that the client goes to destination `id`; its time starts anew.
    pub fn put(self: *Affinity, client: Address, id: u32) void {
        self.insert(client, id, self.now_ms);
    }

    /// The state, for `save`.
    pub fn save(self: *const Affinity) []const u8 {
        const state = allocator.alloc(u8, magic.len + self.len * saved_len) catch @panic("out of memory");
        @memcpy(state[0..magic.len], magic);
        var at = self.oldest;
        var to = magic.len;
        while (at != end) : (to += saved_len) {
            const entry = &self.entries[at];
            std.mem.writeInt(u64, state[to..][0..8], entry.client.hi, .little);
            std.mem.writeInt(u64, state[to + 8 ..][0..8], entry.client.lo, .little);
            std.mem.writeInt(u64, state[to + 16 ..][0..8], entry.used_ms, .little);
            std.mem.writeInt(u32, state[to + 24 ..][0..4], entry.id, .little);
            at = entry.newer;
        }
        return state;
    }

    /// Takes over a state. False: it was not such a state or has more clients than fit, and nothing has changed.
    pub fn restore(self: *Affinity, state: []const u8) bool {
        if (!std.mem.startsWith(u8, state, magic)) return false;
        const clients = state[magic.len..];
        if (clients.len % saved_len != 0 or clients.len / saved_len > self.entries.len) return false;
        self.clear();
        var from: usize = 0;
        while (from < clients.len) : (from += saved_len) {
            const client: Address = .{
                .hi = std.mem.readInt(u64, clients[from..][0..8], .little),
                .lo = std.mem.readInt(u64, clients[from + 8 ..][0..8], .little),
            };
            const used_ms = std.mem.readInt(u64, clients[from + 16 ..][0..8], .little);
            self.insert(client, std.mem.readInt(u32, clients[from + 24 ..][0..4], .little), used_ms);
        }
        return true;
    }

    fn clear(self: *Affinity) void {
        @memset(self.heads, end);
        for (self.entries, 1..) |*entry, next| entry.next = @intCast(next);
        self.entries[self.entries.len - 1].next = end;
        self.len = 0;
        self.oldest = end;
        self.newest = end;
        self.free = 0;
    }

    /// A time that is still to come was another director's: it says nothing.
    fn isFresh(self: *const Affinity, entry: *const Entry) bool {
        return entry.used_ms <= self.now_ms and self.now_ms - entry.used_ms < self.ttl_ms;
    }

    /// A mix whose every bit depends on every bit of address and key.
    fn chain(self: *const Affinity, client: Address) *u32 {
        var hash = (client.hi ^ self.key[0]) *% 0xff51afd7ed558ccd;
        hash = (hash ^ hash >> 32 ^ client.lo ^ self.key[1]) *% 0xc4ceb9fe1a85ec53;
        hash = (hash ^ hash >> 29 ^ self.key[0]) *% 0x9e3779b97f4a7c15;
        return &self.heads[@intCast(hash >> 32 & (self.heads.len - 1))];
    }

    fn find(self: *const Affinity, client: Address) u32 {
        var at = self.chain(client).*;
        while (at != end and !self.entries[at].client.eql(client)) at = self.entries[at].next;
        return at;
    }

    fn insert(self: *Affinity, client: Address, id: u32, used_ms: u64) void {
        var at = self.find(client);
        if (at != end) {
            self.unlink(at);
        } else {
            if (self.len == self.entries.len) self.removeOldest();
            at = self.free;
            self.free = self.entries[at].next;
            const head = self.chain(client);
            self.entries[at].client = client;
            self.entries[at].next = head.*;
            head.* = at;
            self.len += 1;
        }
        const entry = &self.entries[at];
        entry.id = id;
        entry.used_ms = used_ms;
        entry.older = self.newest;
        entry.newer = end;
        (if (self.newest == end) &self.oldest else &self.entries[self.newest].newer).* = at;
        self.newest = at;
    }

    fn removeOldest(self: *Affinity) void {
        const victim = self.oldest;
        self.unlink(victim);
        var link = self.chain(self.entries[victim].client);
        while (link.* != victim) link = &self.entries[link.*].next;
        link.* = self.entries[victim].next;
        self.entries[victim].next = self.free;
        self.free = victim;
        self.len -= 1;
    }

    /// Takes an entry out of the list by use.
    fn unlink(self: *Affinity, at: u32) void {
        const entry = self.entries[at];
        (if (entry.older == end) &self.oldest else &self.entries[entry.older].newer).* = entry.newer;
        (if (entry.newer == end) &self.newest else &self.entries[entry.newer].older).* = entry.older;
    }
};

// ---- The component's side of wit/scheduler.wit, by the canonical ABI ----

/// Makes `policy` the scheduler that this module is.
pub fn scheduler(comptime policy: type) void {
    const exports = struct {
        var table: Table = .{ .list = &.{}, .changed = &.{} };
        var changed: []u32 = &.{};

        const Failure = extern struct { is_error: u8, text: [*]const u8, len: usize };
        const Pick = extern struct { is_some: u8, position: u32 };
        const Bytes = extern struct { data: [*]const u8, len: usize };
        var failure: Failure = undefined;
        var pick: Pick = undefined;
        var state: Bytes = undefined;

        const WireDestination = extern struct { id: u32, weight: u32, address_hi: u64, address_lo: u64, port: u16 };

        fn init(service: [*]u8, service_len: usize, options: [*]u8, options_len: usize) callconv(.c) *Failure {
            defer release(service, service_len);
            defer release(options, options_len);
            const refusal = policy.init(service[0..service_len], options[0..options_len]);
            const text = refusal orelse "";
            failure = .{ .is_error = @intFromBool(refusal != null), .text = text.ptr, .len = text.len };
            return &failure;
        }

        fn update(wire: [*]WireDestination, len: usize) callconv(.c) void {
            defer release(@ptrCast(wire), len * @sizeOf(WireDestination));
            allocator.free(table.list);
            allocator.free(changed);
            table.list = allocator.alloc(Destination, len) catch @panic("out of memory");
            changed = allocator.alloc(u32, len) catch @panic("out of memory");
            table.changed = changed[0..0];
            for (table.list, wire[0..len]) |*to, from| {
                to.* = .{
                    .id = from.id,
                    .weight = from.weight,
                    .address = .{ .hi = from.address_hi, .lo = from.address_lo },
                    .port = from.port,
                };
            }
            if (@hasDecl(policy, "update")) policy.update(&table);
        }

        fn schedule(
            protocol: u32,
            client_hi: u64,
            client_lo: u64,
            client_port: u32,
            virtual_hi: u64,
            virtual_lo: u64,
            virtual_port: u32,
            mark: u32,
            words: [*]u64,
            count: usize,
        ) callconv(.c) *Pick {
            defer release(@ptrCast(words), count * @sizeOf(u64));
            var known: usize = 0;
            for (words[0..count]) |word| {
                const position: u32 = @intCast(word >> 48);
                if (position >= table.list.len) continue;
                const destination = &table.list[position];
                destination.available = word >> 47 & 1 == 0;
                destination.active = @as(u23, @truncate(word >> 24));
                destination.inactive = @as(u24, @truncate(word));
                // The contract has one word for a position; more would not fit.
                if (known < changed.len) {
                    changed[known] = position;
                    known += 1;
                }
            }
            table.changed = changed[0..known];
            const flow: Flow = .{
                .protocol = @enumFromInt(protocol),
                .client = .{ .hi = client_hi, .lo = client_lo },
                .client_port = @intCast(client_port),
                .virtual_address = .{ .hi = virtual_hi, .lo = virtual_lo },
                .virtual_port = @intCast(virtual_port),
                .mark = mark,
            };
            const position: ?u32 = policy.schedule(&flow, &table);
            pick = .{ .is_some = @intFromBool(position != null), .position = position orelse 0 };
            return &pick;
        }

        fn save() callconv(.c) *Bytes {
            const bytes: []const u8 = if (@hasDecl(policy, "save")) policy.save() else &.{};
            state = .{ .data = bytes.ptr, .len = bytes.len };
            return &state;
        }

        fn afterSave(bytes: *Bytes) callconv(.c) void {
            allocator.free(bytes.data[0..bytes.len]);
        }

        fn restore(bytes: [*]u8, len: usize) callconv(.c) u32 {
            defer release(bytes, len);
            return @intFromBool(@hasDecl(policy, "restore") and policy.restore(bytes[0..len]));
        }

        fn realloc(old: [*]u8, old_len: usize, alignment: usize, len: usize) callconv(.c) [*]u8 {
            // No type of the contract wants more than eight.
            if (len == 0) return @ptrFromInt(alignment);
            const memory = allocator.alignedAlloc(u8, .@"8", len) catch @panic("out of memory");
            const kept = @min(old_len, len);
            @memcpy(memory[0..kept], old[0..kept]);
            release(old, old_len);
            return memory.ptr;
        }

        /// Gives back what came from `realloc`.
        fn release(memory: [*]u8, len: usize) void {
            if (len == 0) return;
            const aligned: [*]align(8) u8 = @alignCast(memory);
            allocator.free(aligned[0..len]);
        }
    };
    @export(&exports.init, .{ .name = "init" });
    @export(&exports.update, .{ .name = "update" });
    @export(&exports.schedule, .{ .name = "schedule" });
    @export(&exports.save, .{ .name = "save" });
    @export(&exports.afterSave, .{ .name = "cabi_post_save" });
    @export(&exports.restore, .{ .name = "restore" });
    @export(&exports.realloc, .{ .name = "cabi_realloc" });
}
