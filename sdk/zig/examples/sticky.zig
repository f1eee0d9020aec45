//! The tutorial of the SDKs: fewest connections per weight, sticky for 30 s by client.
//!
//! A client that came within the last 30 s goes where it went then, if that destination is still there and eligible. Any other
//! goes where the fewest connections are for the weight.

const uvs = @import("uvs");

comptime {
    uvs.scheduler(@This());
}

var clients: uvs.Affinity = undefined;

pub fn init(_: []const u8, options: []const u8) ?[]const u8 {
    if (options.len > 0) return "sticky takes no options";
    clients = .init(10_000, 30_000);
    return null;
}

fn connections(destination: *const uvs.Destination) u32 {
    return destination.active + destination.inactive;
}

pub fn schedule(flow: *const uvs.Flow, table: *const uvs.Table) ?u32 {
    clients.tick();
    const known = if (clients.get(flow.client)) |id| table.positionOf(id) else null;
    const stays = if (known) |position| table.list[position].isEligible() else false;
    const position = (if (stays) known else table.least(connections)) orelse return null;
    clients.put(flow.client, table.list[position].id);
    return position;
}

pub fn save() []const u8 {
    return clients.save();
}

pub fn restore(state: []const u8) bool {
    return clients.restore(state);
}
