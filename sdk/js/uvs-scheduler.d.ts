/**
 * What a policy imports, and what it exports.
 *
 * A policy is an ES module with these exports; only `schedule` is required:
 *
 * ```ts
 * export function init(service: string, options: string): void;      // throw a text to refuse the options
 * export function update(table: Table): void;                        // the set of destinations changed
 * export function schedule(flow: Flow, table: Table): number | undefined;
 * export function save(): Uint8Array;
 * export function restore(state: Uint8Array): boolean;
 * ```
 *
 * `schedule` is called once for each new connection, never per packet, and answers with a position in the table, or
 * undefined when nothing can take the connection. A position that is not eligible is refused by the director and counts as
 * a failure. `save` gives what a later instance needs to go on from here (at most 1 MiB), and `restore`, which comes after
 * `update`, takes it over; false: could not use it, and nothing has changed.
 */
declare module "uvs-scheduler" {
  /** An IPv6 address, or an IPv4 address mapped into one. */
  export interface Address {
    /** The two halves, as 64-bit numbers. */
    readonly hi: bigint;
    readonly lo: bigint;
    /** `192.0.2.7`, `2001:db8::7`. */
    toString(): string;
  }

  /** A new connection. */
  export interface Flow {
    protocol: "tcp" | "udp" | "sctp";
    /** CIP. */
    client: Address;
    clientPort: number;
    /** The address the client asked for: the VIP. */
    virtualAddress: Address;
    virtualPort: number;
    /** The firewall mark; 0 is none. */
    mark: number;
  }

  /** One destination. The object stays the same between updates, and its loads are those of the latest pick. */
  export interface Destination {
    /** Stable for as long as the destination belongs to the service. */
    id: number;
    /** 0 quiesces: nothing new may be scheduled to it. At most 2^31 - 1. */
    weight: number;
    /** RIP. */
    address: Address;
    port: number;
    /** Connections in an active state; below 2^23. */
    active: number;
    /** Connections in any other state, all of UDP; below 2^24. */
    inactive: number;
    /** False: over its upper threshold, nothing new may be scheduled to it. */
    available: boolean;
    /** Whether a new connection may go to it: available and not quiesced. */
    eligible: boolean;
  }

  /** The destinations in the kernel's list order: the one added last comes first. A position is an index into `list`; it is
   * good until the next `update`. */
  export interface Table {
    list: Destination[];
    /** The positions whose load came with this pick, in no special order. */
    changed: number[];
    /** Where the destination with this id is. */
    positionOf(id: number | undefined): number | undefined;
    /** The eligible destination with the least load for its weight, the first in list order among equals. `load` says what a
     * destination carries: a whole number below 2^32. */
    least(load: (destination: Destination) => number): number | undefined;
  }

  export const ERROR: 0;
  export const WARN: 1;
  export const INFO: 2;
  export const DEBUG: 3;
  /** A line in the director's log. */
  export function log(level: number, message: string): void;
  /** 64 random bits. */
  export function random(): bigint;
  /** A random whole number from 0 to `bound` - 1; `bound` is at most 2^32 - 1. */
  export function randomBelow(bound: number): number;
  /** Milliseconds since some moment in the past; never runs backwards. */
  export function nowMs(): number;
  /** Whether the first load is less for its weight than the second, exactly. */
  export function less(load: number, weight: number, otherLoad: number, otherWeight: number): boolean;

  /** Remembers where clients were sent lately: at most `capacity` of them, each for `ttlMs` after it came last. When it is
   * full, the client that stayed away longest makes room. */
  export class Affinity {
    /** Remembers nobody yet; `capacity` is 1 to 1000000. */
    constructor(capacity: number, ttlMs: number);
    /** Sets the clock and forgets up to two clients whose time is over; to be called at the beginning of each pick. */
    tick(): void;
    /** The destination id of a client, if its time is not over. Does not count as a use. */
    get(client: Address): number | undefined;
    /** Remembers that the client goes to destination `id`; its time starts anew. */
    put(client: Address, id: number): void;
    /** The state, for `save`. */
    save(): Uint8Array;
    /** Takes over a state. False: it was not such a state or has more clients than fit, and nothing has changed. */
    restore(state: Uint8Array): boolean;
  }
}
