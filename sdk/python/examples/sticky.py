"""The tutorial of the SDKs: fewest connections per weight, sticky for 30 s by client.

A client that came within the last 30 s goes where it went then, if that destination is still there and eligible. Any other goes
where the fewest connections are for the weight.
"""

from uvs_scheduler import Affinity, Scheduler


class Policy(Scheduler):
    def __init__(self, service, options):
        if options:
            raise ValueError("sticky takes no options")
        self.clients = Affinity(10_000, 30_000)

    def schedule(self, flow, table):
        self.clients.tick()
        position = table.positions.get(self.clients.get(flow.client))
        if position is None or not table.list[position].eligible:
            position = table.least(lambda it: it.active + it.inactive)
        if position is not None:
            self.clients.put(flow.client, table.list[position].id)
        return position

    def save(self):
        return self.clients.save()

    def restore(self, state):
        return self.clients.restore(state)
