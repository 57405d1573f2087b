"""How measurements are repeated: every tool once a round."""

import os

from measure import Series
from tools import Backstay

DATABASE = "bench"
MIB = 1 << 20


class Bench:
    def __init__(self, work, cluster, programs, rounds, say):
        self.work, self.cluster, self.programs = work, cluster, programs
        self.rounds, self.say = rounds, say

    def tool(self, kind, name, database=DATABASE, **more):
        if kind is Backstay:
            more["program"] = f"{self.programs}/backstay"
        return kind(f"{self.work}/{name}", self.cluster, database, **more)

    def at_rest(self):
        """Nothing is left to be written of what was done before, by the server or to the disk: in a row of tools each
        would pay for the one before it."""
        self.cluster.sql("checkpoint")
        os.sync()

    def in_turn(self, tools, act, rounds=None):
        """Every tool once a round, each round beginning with another one, so that a drift of the machine hits all; and in
        every other round backwards, for what came before a tool is felt as well."""
        series = {tool.name: Series() for tool in tools}
        for round in range(rounds or self.rounds):
            shift = round // 2 % len(tools)
            order = tools[shift:] + tools[:shift]
            for tool in order if round % 2 == 0 else order[::-1]:
                self.at_rest()
                run = act(tool)
                series[tool.name].runs.append(run)
                self.say(f"  {tool.name}: {run.seconds:.2f} s, {run.memory / MIB:.0f} MiB")
        return series


def load_back(bench, tool):
    """Into an empty database; Backstay's also compares everything."""
    if isinstance(tool, Backstay):
        return tool.prove()
    bench.cluster.renew("loaded")
    run = tool.load("loaded")
    bench.cluster.sql("drop database loaded with (force)")
    return run
