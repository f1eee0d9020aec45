"""A scheduler for uvs in Python: which destination takes each new connection of a virtual service.

You write a class `Policy` that extends `Scheduler`, in policy.py; component.py makes it the component. The director calls one
method at a time, and `schedule` once for each new connection, never per packet. An exception ends the instance: the director
picks by its own scheduler meanwhile and starts a fresh one.
"""

import ipaddress
import struct
from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum
from typing import Callable, Optional

import wit_world


class Scheduler:
    """What you write."""

    def __init__(self, service: str, options: str) -> None:
        """Bound to a service, which `service` names (`tcp 192.0.2.10:443`); `options` is the text from the configuration,
        empty where there is none. A ValueError refuses the options: its text is a sentence for the operator."""
        if options:
            raise ValueError("it takes no options")

    def update(self, table: "Table") -> None:
        """The set of destinations changed: one was added (at the front), removed or edited. Loads read zero until the next
        pick."""

    def schedule(self, flow: "Flow", table: "Table") -> Optional[int]:
        """One pick: a position in the table, or None when nothing can take the connection. A position that is not eligible is
        refused by the director and counts as a failure."""
        raise NotImplementedError

    def save(self) -> bytes:
        """What a later instance needs to go on from here, at most 1 MiB."""
        return b""

    def restore(self, state: bytes) -> bool:
        """Takes over what `save` of an earlier instance returned; comes after `update`. False: could not use it, and nothing
        has changed."""
        return False


@dataclass(slots=True)
class Flow:
    """A new connection. An address is the number that IPv6 makes of it; `ip_address` tells what it stands for."""

    protocol: str
    """tcp, udp or sctp."""
    client: int
    """CIP."""
    client_port: int
    virtual_address: int
    """The address the client asked for: the VIP."""
    virtual_port: int
    mark: int
    """The firewall mark; 0 is none."""


@dataclass(slots=True)
class Destination:
    """One destination."""

    id: int
    """Stable for as long as the destination belongs to the service."""
    weight: int
    """0 quiesces: nothing new may be scheduled to it. At most 2^31 - 1."""
    address: int
    """RIP."""
    port: int
    active: int = 0
    """Connections in an active state; below 2^23."""
    inactive: int = 0
    """Connections in any other state, all of UDP; below 2^24."""
    available: bool = True
    """False: over its upper threshold, nothing new may be scheduled to it."""

    @property
    def eligible(self) -> bool:
        """Whether a new connection may go to it: available and not quiesced."""
        return self.available and self.weight > 0


class Table:
    """The destinations in the kernel's list order: the one added last comes first. A position is an index into `list`; it is
    good until the next `update`."""

    __slots__ = ("list", "changed", "positions")

    def __init__(self, destinations: "list[Destination]") -> None:
        self.list = destinations
        self.changed: "list[int]" = []
        """The positions whose load came with this pick, in no special order."""
        self.positions = {it.id: position for position, it in enumerate(destinations)}
        """Where the destination with an id is."""

    def least(self, load: Callable[[Destination], int]) -> Optional[int]:
        """The eligible destination with the least load for its weight, the first in list order among equals. `load` says what
        a destination carries."""
        best, best_load, best_weight = None, 0, 0
        for position, it in enumerate(self.list):
            weight = it.weight
            if it.available and weight:
                its_load = load(it)
                if best is None or its_load * best_weight < best_load * weight:
                    best, best_load, best_weight = position, its_load, weight
        return best


def ip_address(address: int) -> "ipaddress.IPv4Address | ipaddress.IPv6Address":
    """What the number of an address stands for; one mapped into IPv6 is IPv4."""
    v6 = ipaddress.IPv6Address(address)
    return v6.ipv4_mapped or v6


class Level(IntEnum):
    """How much a log line matters."""

    ERROR = 0
    WARN = 1
    INFO = 2
    DEBUG = 3


def log(level: Level, message: str) -> None:
    """A line in the director's log."""
    wit_world.log(level, message)


def random() -> int:
    """64 random bits."""
    return wit_world.random()


def now_ms() -> int:
    """Milliseconds since some moment in the past; never runs backwards."""
    return wit_world.now_ms()


class Affinity:
    """Remembers where clients were sent lately: at most `capacity` of them, each for `ttl_ms` after it came last.

    When it is full, the client that stayed away longest makes room. All SDKs have it, with one layout of the saved state
    (sdk/README.md). To be made in `Policy.__init__` or later.
    """

    MAGIC = b"UVSAFF01"
    _SAVED = struct.Struct("<QQQI")
    _LOW = (1 << 64) - 1

    def __init__(self, capacity: int, ttl_ms: int) -> None:
        self._capacity = capacity
        self._ttl_ms = ttl_ms
        self._now_ms = 0
        # Numbers hash to themselves: keyed, so that clients cannot choose addresses that collide.
        self._key = random() << 64 | random()
        self._clients: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def tick(self) -> None:
        """Sets the clock and forgets up to two clients whose time is over; to be called at the beginning of each pick."""
        self._now_ms = now_ms()
        # A pick remembers one client at most: to forget two keeps up, and no pick has to forget them all.
        for _ in range(2):
            if not self._clients or self._is_fresh(self._clients[next(iter(self._clients))][1]):
                break
            self._clients.popitem(last=False)

    def get(self, client: int) -> Optional[int]:
        """The destination id of a client, if its time is not over. Does not count as a use."""
        known = self._clients.get(client ^ self._key)
        return known[0] if known and self._is_fresh(known[1]) else None

    def put(self, client: int, id: int) -> None:
        """Remembers that the client goes to destination `id`; its time starts anew."""
        key = client ^ self._key
        self._clients[key] = (id, self._now_ms)
        self._clients.move_to_end(key)
        if len(self._clients) > self._capacity:
            self._clients.popitem(last=False)

    def save(self) -> bytes:
        """The state, for `Scheduler.save`."""
        pack, key, low = self._SAVED.pack, self._key, self._LOW
        clients = self._clients.items()
        return self.MAGIC + b"".join(
            [pack((it ^ key) >> 64, (it ^ key) & low, used_ms, id) for it, (id, used_ms) in clients]
        )

    def restore(self, state: bytes) -> bool:
        """Takes over a state. False: it was not such a state or has more clients than fit, and nothing has changed."""
        clients = len(state) - len(self.MAGIC)
        if not state.startswith(self.MAGIC) or clients % self._SAVED.size or clients > self._capacity * self._SAVED.size:
            return False
        restored: OrderedDict[int, tuple[int, int]] = OrderedDict()
        for high, low, used_ms, id in self._SAVED.iter_unpack(memoryview(state)[len(self.MAGIC) :]):
            key = (high << 64 | low) ^ self._key
            restored.pop(key, None)
            restored[key] = (id, used_ms)
        self._clients = restored
        return True

    def _is_fresh(self, used_ms: int) -> bool:
        # A time that is still to come was another director's: it says nothing.
        return 0 <= self._now_ms - used_ms < self._ttl_ms
