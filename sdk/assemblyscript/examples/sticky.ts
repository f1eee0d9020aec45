// The tutorial of the SDKs: fewest connections per weight, sticky for 30 s by client.
//
// A client that came within the last 30 s goes where it went then, if that destination is still there and eligible. Any other
// goes where the fewest connections are for the weight.

import { Affinity, Flow, NONE, Scheduler, Table } from "./uvs-scheduler";

export class Policy extends Scheduler {
  private clients: Affinity = new Affinity(10_000, 30_000);

  init(service: string, options: string): string | null {
    return options.length > 0 ? "sticky takes no options" : null;
  }

  schedule(flow: Flow, table: Table): u32 {
    this.clients.tick();
    const known = this.clients.get(flow.client);
    let position = known == NONE ? NONE : table.positionOf(known);
    if (!table.eligible(position)) position = table.least((it) => it.active + it.inactive);
    if (position != NONE) this.clients.put(flow.client, table.list[position].id);
    return position;
  }

  save(): Uint8Array {
    return this.clients.save();
  }

  restore(state: Uint8Array): bool {
    return this.clients.restore(state);
  }
}
