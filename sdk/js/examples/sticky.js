// The tutorial of the SDKs: fewest connections per weight, sticky for 30 s by client.
//
// A client that came within the last 30 s goes where it went then, if that destination is still there and eligible. Any other
// goes where the fewest connections are for the weight.

import { Affinity } from "uvs-scheduler";

const clients = new Affinity(10_000, 30_000);

export function init(service, options) {
  if (options) throw "sticky takes no options";
}

export function schedule(flow, table) {
  clients.tick();
  let position = table.positionOf(clients.get(flow.client));
  if (!table.list[position]?.eligible) position = table.least((it) => it.active + it.inactive);
  if (position !== undefined) clients.put(flow.client, table.list[position].id);
  return position;
}

export const save = () => clients.save();
export const restore = (state) => clients.restore(state);
