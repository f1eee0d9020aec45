// The component's side of wit/scheduler.wit, by the canonical ABI: makes `Policy` of policy.ts the scheduler that this module is.

import { Policy } from "./policy";
import { Address, Destination, Flow, NONE, Scheduler, Table } from "./uvs-scheduler";

const policy: Scheduler = new Policy();
const table = new Table();
const flow = new Flow();

/** What a function answers with, for the director to read. */
const answer = memory.data(12, 4);
/** What the director has not read yet. */
let lent: ArrayBuffer | null = null;

/** `record destination`, as the canonical ABI lays it out: its bytes, and where the fields are. */
const DESTINATION: usize = 32;

export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  // The heap gives memory that fits every type of the contract.
  if (size == 0) return align;
  return oldSize > 0 ? heap.realloc(old, size) : heap.alloc(size);
}

/** Gives back what came from cabi_realloc. */
function release(data: usize, size: usize): void {
  if (size > 0) heap.free(data);
}

function text(data: usize, length: usize): string {
  const decoded = String.UTF8.decodeUnsafe(data, length);
  release(data, length);
  return decoded;
}

export function init(service: usize, serviceLength: usize, options: usize, optionsLength: usize): usize {
  const refusal = policy.init(text(service, serviceLength), text(options, optionsLength));
  store<u8>(answer, refusal === null ? 0 : 1);
  if (refusal !== null) {
    const bytes = String.UTF8.encode(refusal);
    lent = bytes;
    store<usize>(answer, changetype<usize>(bytes), 4);
    store<usize>(answer, bytes.byteLength, 8);
  }
  return answer;
}

export function update(list: usize, length: usize): void {
  table.list = new StaticArray<Destination>(<i32>length);
  table.changed = new StaticArray<u32>(<i32>length);
  table.changedCount = 0;
  for (let position: usize = 0; position < length; position++) {
    const from = list + position * DESTINATION;
    const address = new Address(load<u64>(from, 8), load<u64>(from, 16));
    table.list[<i32>position] = new Destination(load<u32>(from), load<u32>(from, 4), address, load<u16>(from, 24));
  }
  release(list, length);
  policy.update(table);
}

export function schedule(
  protocol: u32,
  clientHi: u64,
  clientLo: u64,
  clientPort: u32,
  virtualHi: u64,
  virtualLo: u64,
  virtualPort: u32,
  mark: u32,
  words: usize,
  count: usize,
): usize {
  let changed = 0;
  for (let at: usize = 0; at < count; at++) {
    const word = load<u64>(words + at * 8);
    const position = <i32>(word >> 48);
    if (position >= table.list.length) continue;
    const destination = unchecked(table.list[position]);
    destination.available = ((word >> 47) & 1) == 0;
    destination.active = <u32>(word >> 24) & 0x7fffff;
    destination.inactive = <u32>word & 0xffffff;
    // The contract has one word for a position; more would not fit.
    if (changed < table.changed.length) unchecked((table.changed[changed++] = position));
  }
  release(words, count);
  table.changedCount = changed;
  flow.protocol = protocol;
  flow.client.hi = clientHi;
  flow.client.lo = clientLo;
  flow.clientPort = <u16>clientPort;
  flow.virtualAddress.hi = virtualHi;
  flow.virtualAddress.lo = virtualLo;
  flow.virtualPort = <u16>virtualPort;
  flow.mark = mark;
  const position = policy.schedule(flow, table);
  store<u8>(answer, position == NONE ? 0 : 1);
  store<u32>(answer, position, 4);
  return answer;
}

export function save(): usize {
  const state = policy.save();
  lent = state.buffer;
  store<usize>(answer, state.dataStart);
  store<usize>(answer, state.length, 4);
  return answer;
}

export function cabi_post_save(_: usize): void {
  lent = null;
}

export function restore(state: usize, length: usize): bool {
  const bytes = new Uint8Array(<i32>length);
  memory.copy(bytes.dataStart, state, length);
  release(state, length);
  return policy.restore(bytes);
}
