"""The component's side of wit/scheduler.wit: makes `Policy` of policy.py the scheduler that this module is."""

import traceback
from typing import List, Optional

import wit_world
from componentize_py_types import Err
from wit_world.imports import types

from policy import Policy
from uvs_scheduler import Destination, Flow, Level, Scheduler, Table, log

_PROTOCOLS = ("tcp", "udp", "sctp")




def _told(method):
    """Writes what a method raises to the director's log: the standard streams lead nowhere."""

    def call(*arguments):
        try:
            return method(*arguments)
        except Exception:
            log(Level.ERROR, traceback.format_exc())
            raise

    return call


class WitWorld(wit_world.WitWorld):
    """The exports of the world."""

    _policy: Scheduler
    _table = Table([])

    def init(self, service: str, options: str) -> None:
        try:
            WitWorld._policy = Policy(service, options)
        except ValueError as error:
            raise Err(str(error)) from None

    @_told
    def update(self, destinations: List[types.Destination]) -> None:
        WitWorld._table = Table(
            [Destination(it.id, it.weight, it.address_hi << 64 | it.address_lo, it.port) for it in destinations]
        )
        WitWorld._policy.update(WitWorld._table)

    @_told
    def schedule(self, flow: types.Flow, changed: List[int]) -> Optional[int]:
        table = WitWorld._table
        destinations = table.list
        positions = []
        for word in changed:
            position = word >> 48
            if position < len(destinations):
                it = destinations[position]
                it.available = not word >> 47 & 1
                it.active = word >> 24 & 0x7FFFFF
                it.inactive = word & 0xFFFFFF
                positions.append(position)
        table.changed = positions
        return WitWorld._policy.schedule(
            Flow(
                _PROTOCOLS[flow.protocol.value],
                flow.client_hi << 64 | flow.client_lo,
                flow.client_port,
                flow.virtual_hi << 64 | flow.virtual_lo,
                flow.virtual_port,
                flow.mark,
            ),
            table,
        )

    @_told
    def save(self) -> bytes:
        return WitWorld._policy.save()

    @_told
    def restore(self, state: bytes) -> bool:
        return WitWorld._policy.restore(state)
