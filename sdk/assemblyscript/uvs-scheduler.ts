// A scheduler for uvs in AssemblyScript: which destination takes each new connection of a virtual service.
//
// You write a class `Policy` that extends `Scheduler` and export it from policy.ts; component.ts makes it the component. The
// director calls one function at a time, and `schedule` once for each new connection, never per packet. A trap (an exception)
// ends the instance: the director picks by its own scheduler meanwhile and starts a fresh one.

/** No destination. */
export const NONE: u32 = u32.MAX_VALUE;

/** What you write. */
export abstract class Scheduler {
  /** Bound to a service, which `service` names (`tcp 192.0.2.10:443`); `options` is the text from the configuration, empty
   * where there is none. Null, or a sentence for the operator: what is wrong with the options. */
  init(service: string, options: string): string | null {
    return options.length > 0 ? "it takes no options" : null;
  }
  /** The set of destinations changed: one was added (at the front), removed or edited. Loads read zero until the next pick. */
  update(table: Table): void {}
  /** One pick: a position in the table, or NONE when nothing can take the connection. A position that is not eligible is
   * refused by the director and counts as a failure. */
  abstract schedule(flow: Flow, table: Table): u32;
  /** What a later instance needs to go on from here, at most 1 MiB. */
  save(): Uint8Array {
    return new Uint8Array(0);
  }
  /** Takes over what `save` of an earlier instance returned; comes after `update`. False: could not use it, and nothing has
   * changed. */
  restore(state: Uint8Array): bool {
    return false;
  }
}

/** An IPv6 address, or an IPv4 address mapped into one (::ffff:a.b.c.d), as two halves. */
export class Address {
  constructor(public hi: u64, public lo: u64) {}
}

export enum Protocol {
  Tcp = 0,
  Udp = 1,
  Sctp = 2,
}

/** A new connection. The same object serves every pick: keep what is in it, not the object. */
export class Flow {
  protocol: Protocol = Protocol.Tcp;
  /** CIP. */
  client: Address = new Address(0, 0);
  clientPort: u16 = 0;
  /** The address the client asked for: the VIP. */
  virtualAddress: Address = new Address(0, 0);
  virtualPort: u16 = 0;
  /** The firewall mark; 0 is none. */
  mark: u32 = 0;
}

/** One destination. */
export class Destination {
  /** Connections in an active state; below 2^23. */
  active: u32 = 0;
  /** Connections in any other state, all of UDP; below 2^24. */
  inactive: u32 = 0;
  /** False: over its upper threshold, nothing new may be scheduled to it. */
  available: bool = true;

  constructor(
    /** Stable for as long as the destination belongs to the service. */
    public id: u32,
    /** 0 quiesces: nothing new may be scheduled to it. At most 2^31 - 1. */
    public weight: u32,
    /** RIP. */
    public address: Address,
    public port: u16,
  ) {}

  /** Whether a new connection may go to it: available and not quiesced. */
  get eligible(): bool {
    return this.available && this.weight > 0;
  }
}

/** Whether `load` is less for its weight than the other's is, exactly. */
export function less(load: u32, weight: u32, otherLoad: u32, otherWeight: u32): bool {
  return <u64>load * otherWeight < <u64>otherLoad * weight;
}

/** The destinations in the kernel's list order: the one added last comes first. A position is an index into `list`; it is good
 * until the next `update`. */
export class Table {
  list: StaticArray<Destination> = new StaticArray<Destination>(0);
  /** The positions whose load came with this pick, in no special order: the first `changedCount` of these. */
  changed: StaticArray<u32> = new StaticArray<u32>(0);
  changedCount: i32 = 0;

  /** Whether there is a destination at this position that a new connection may go to. */
  eligible(position: u32): bool {
    return position < <u32>this.list.length && unchecked(this.list[position]).eligible;
  }

  /** Where the destination with this id is, or NONE; walks the list. */
  positionOf(id: u32): u32 {
    for (let position = 0; position < this.list.length; position++) {
      if (unchecked(this.list[position]).id == id) return position;
    }
    return NONE;
  }

  /** The eligible destination with the least load for its weight, the first in list order among equals; NONE where none is
   * eligible. `load` says what a destination carries. */
  least(load: (it: Destination) => u32): u32 {
    let best = NONE, bestLoad: u32 = 0, bestWeight: u32 = 0;
    for (let position = 0; position < this.list.length; position++) {
      const it = unchecked(this.list[position]);
      if (!it.eligible) continue;
      const itsLoad = load(it);
      if (best == NONE || less(itsLoad, it.weight, bestLoad, bestWeight)) {
        best = position;
        bestLoad = itsLoad;
        bestWeight = it.weight;
      }
    }
    return best;
  }
}

// ---- What the director lends ----

@external("$root", "log")
declare function hostLog(level: u32, text: usize, length: usize): void;
@external("$root", "random")
declare function hostRandom(): u64;
@external("$root", "now-ms")
declare function hostNowMs(): u64;

export enum Level {
  Error = 0,
  Warn = 1,
  Info = 2,
  Debug = 3,
}

/** A line in the director's log. */
export function log(level: Level, message: string): void {
  const bytes = Uint8Array.wrap(String.UTF8.encode(message));
  hostLog(level, bytes.dataStart, bytes.length);
}

/** 64 random bits. */
export function random(): u64 {
  return hostRandom();
}

/** Milliseconds since some moment in the past; never runs backwards. */
export function nowMs(): u64 {
  return hostNowMs();
}

/** What the compiler calls for an exception (option --use abort=uvs-scheduler/abort). */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  log(Level.Error, `${message ? message : "abort"} at ${file ? file : "?"}:${line}:${column}`);
  unreachable();
}

// ---- A memory of clients ----

const END: u32 = u32.MAX_VALUE;
/** "UVSAFF01", little-endian. */
const MAGIC: u64 = 0x3130464641535655;
const SAVED: i32 = 28;

@unmanaged
class Entry {
  hi: u64;
  lo: u64;
  usedMs: u64;
  id: u32;
  /** In its chain, or among the free ones. */
  next: u32;
  older: u32;
  newer: u32;
}

/** Remembers where clients were sent lately: at most `capacity` of them, each for `ttlMs` after it came last. When it is full,
 * the client that stayed away longest makes room. All SDKs have it, with one layout of the saved state (sdk/README.md). */
export class Affinity {
  private now: u64 = 0;
  /** Keys the hash, so that clients cannot choose addresses that collide. */
  private key0: u64 = random();
  private key1: u64 = random();
  private mask: u32;
  private heads: StaticArray<u32>;
  /** The entries, in memory that the collector need not look at. */
  private entries: usize;
  private count: u32 = 0;
  private oldest: u32 = END;
  private newest: u32 = END;
  private free: u32 = 0;

  /** Remembers nobody yet; `capacity` is 1 to 1000000. It is never given back. */
  constructor(private capacity: u32, private ttlMs: u64) {
    if (capacity < 1 || capacity > 1_000_000) throw new RangeError("the capacity of an Affinity is 1 to 1000000");
    let chains: u32 = 1;
    while (chains < capacity / 2) chains *= 2;
    this.mask = chains - 1;
    this.heads = new StaticArray<u32>(chains);
    this.entries = heap.alloc(<usize>capacity * offsetof<Entry>());
    this.clear();
  }

  /** Sets the clock and forgets up to two clients whose time is over; to be called at the beginning of each pick. */
  tick(): void {
    this.now = nowMs();
    // A pick remembers one client at most: to forget two keeps up, and no pick has to forget them all.
    for (let i = 0; i < 2 && this.oldest != END && !this.isFresh(this.entry(this.oldest)); i++) this.removeOldest();
  }

  /** The destination id of a client, or NONE when it is not known or its time is over. Does not count as a use. */
  get(client: Address): u32 {
    const at = this.find(client.hi, client.lo);
    return at != END && this.isFresh(this.entry(at)) ? this.entry(at).id : NONE;
  }

  /** Remembers that the client goes to destination `id`; its time starts anew. */
  put(client: Address, id: u32): void {
    this.insert(client.hi, client.lo, id, this.now);
  }

  /** The state, for `save`. */
  save(): Uint8Array {
    const state = new Uint8Array(8 + <i32>this.count * SAVED);
    let to = state.dataStart;
    store<u64>(to, MAGIC);
    to += 8;
    for (let at = this.oldest; at != END; ) {
      const entry = this.entry(at);
      store<u64>(to, entry.hi);
      store<u64>(to, entry.lo, 8);
      store<u64>(to, entry.usedMs, 16);
      store<u32>(to, entry.id, 24);
      to += SAVED;
      at = entry.newer;
    }
    return state;
  }

  /** Takes over a state. False: it was not such a state or has more clients than fit, and nothing has changed. */
  restore(state: Uint8Array): bool {
    const body = state.length - 8;
    let from = state.dataStart;
    if (body < 0 || load<u64>(from) != MAGIC || body % SAVED != 0 || body / SAVED > <i32>this.capacity) return false;
    this.clear();
    const end = from + state.length;
    for (from += 8; from < end; from += SAVED) {
      this.insert(load<u64>(from), load<u64>(from, 8), load<u32>(from, 24), load<u64>(from, 16));
    }
    return true;
  }

  private clear(): void {
    this.heads.fill(END);
    for (let at: u32 = 0; at < this.capacity; at++) this.entry(at).next = at + 1 < this.capacity ? at + 1 : END;
    this.count = 0;
    this.oldest = END;
    this.newest = END;
    this.free = 0;
  }

  @inline
  private entry(at: u32): Entry {
    return changetype<Entry>(this.entries + <usize>at * offsetof<Entry>());
  }

  /** A time that is still to come was another director's: it says nothing. */
  private isFresh(entry: Entry): bool {
    return entry.usedMs <= this.now && this.now - entry.usedMs < this.ttlMs;
  }

  /** A mix whose every bit depends on every bit of address and key. */
  private chain(hi: u64, lo: u64): u32 {
    let hash = (hi ^ this.key0) * 0xff51afd7ed558ccd;
    hash = (hash ^ (hash >> 32) ^ lo ^ this.key1) * 0xc4ceb9fe1a85ec53;
    hash = (hash ^ (hash >> 29) ^ this.key0) * 0x9e3779b97f4a7c15;
    return <u32>(hash >> 32) & this.mask;
  }

  private find(hi: u64, lo: u64): u32 {
    let at = unchecked(this.heads[this.chain(hi, lo)]);
    while (at != END) {
      const entry = this.entry(at);
      if (entry.lo == lo && entry.hi == hi) break;
      at = entry.next;
    }
    return at;
  }

  private insert(hi: u64, lo: u64, id: u32, usedMs: u64): void {
    let at = this.find(hi, lo);
    if (at != END) {
      this.unlink(at);
    } else {
      if (this.count == this.capacity) this.removeOldest();
      at = this.free;
      const fresh = this.entry(at);
      this.free = fresh.next;
      const chain = this.chain(hi, lo);
      fresh.hi = hi;
      fresh.lo = lo;
      fresh.next = unchecked(this.heads[chain]);
      unchecked((this.heads[chain] = at));
      this.count++;
    }
    const entry = this.entry(at);
    entry.id = id;
    entry.usedMs = usedMs;
    entry.older = this.newest;
    entry.newer = END;
    if (this.newest == END) this.oldest = at;
    else this.entry(this.newest).newer = at;
    this.newest = at;
  }

  private removeOldest(): void {
    const victim = this.oldest;
    this.unlink(victim);
    const gone = this.entry(victim);
    const chain = this.chain(gone.hi, gone.lo);
    let at = unchecked(this.heads[chain]);
    if (at == victim) {
      unchecked((this.heads[chain] = gone.next));
    } else {
      while (this.entry(at).next != victim) at = this.entry(at).next;
      this.entry(at).next = gone.next;
    }
    gone.next = this.free;
    this.free = victim;
    this.count--;
  }

  /** Takes an entry out of the list by use. */
  private unlink(at: u32): void {
    const entry = this.entry(at);
    if (entry.older == END) this.oldest = entry.newer;
    else this.entry(entry.older).newer = entry.newer;
    if (entry.newer == END) this.newest = entry.older;
    else this.entry(entry.newer).older = entry.older;
  }
}
