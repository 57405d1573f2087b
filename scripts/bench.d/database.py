"""One database: a first copy, copies after changes, loading back, and taking it back under a reading client."""

import functools
import os
import shutil
import subprocess
import sys
import time

import clients
import measure
from cluster import free_port
from measure import Series
from rounds import DATABASE, MIB, load_back
from tools import Backstay, Custom, Directory, Gzip, PgBackRest, Restic, newest_phases

CROWD = 100
"""Clients that are connected while a database is taken back."""

OFTEN = 4
"""So many times as often as the rest are those measured that come near a bound: a noisy machine is a third slower in one
minute than in the one before."""


def first_copy(bench, database_bytes):
    """A first copy of everything, and loading it back."""
    gzip, custom = bench.tool(Gzip, "gzip"), bench.tool(Custom, "custom")
    memory = f"/dev/shm/backstay-bench-{os.getpid()}"
    directory = Directory(memory, bench.cluster, DATABASE)
    restic, pgbackrest = bench.tool(Restic, "restic"), bench.tool(PgBackRest, "pgbackrest")
    backstay = bench.tool(Backstay, "backstay")

    def afresh(tool):
        tool.forget()
        return tool.copy()

    try:
        slow, near = [gzip, custom, restic], [directory, pgbackrest, backstay]
        taken = bench.in_turn(slow, afresh) | bench.in_turn(near, afresh, bench.rounds * OFTEN)
        stored = {tool.name: tool.stored() for tool in slow + near}
    finally:
        shutil.rmtree(memory, ignore_errors=True)

    bench.say("loading back")
    load = functools.partial(load_back, bench)
    loaded = bench.in_turn([gzip, restic], load) | bench.in_turn([custom, backstay], load, bench.rounds * OFTEN)
    results = {"first copy": taken, "stored": stored, "load back": loaded}
    results.update(repeated_copies(bench, [restic, pgbackrest, backstay]))
    results["cluster put back over a changed one"] = pgbackrest_delta(bench, pgbackrest)
    results["outage"], results["phases"] = outage(bench, backstay)
    results["database bytes"] = database_bytes
    return results


def repeated_copies(bench, tools):
    """Another copy after nothing, a hundredth in one place, and a hundredth here and there changed."""
    results = {}
    changes = [
        ("repeat, nothing changed", lambda: None),
        ("repeat, 1 % in one place", lambda: bench.cluster.change_one_place(DATABASE)),
        ("repeat, 1 % scattered", lambda: bench.cluster.change_scattered(DATABASE)),
    ]
    for case, change in changes:
        bench.say(case)
        change()
        took, added = {}, {}
        for tool in tools:
            bench.at_rest()
            before = tool.stored()
            took[tool.name] = Series([tool.copy()])
            added[tool.name] = tool.stored() - before
            bench.say(f"  {tool.name}: {took[tool.name].seconds:.2f} s, {added[tool.name] / MIB:.1f} MiB more")
        results[case] = took
        results[f"{case}: stored"] = added
    return results


def pgbackrest_delta(bench, tool):
    """A copy of the cluster as it is now, changed, stopped, put back, and started until it answers."""
    cluster = bench.cluster
    data = f"{cluster.folder}/other"
    cluster.as_server(f"{cluster.bin}/pg_basebackup -h 127.0.0.1 -p {cluster.port} -U bench -c fast -D {data}")
    run = tool.load_over(data)
    began = time.monotonic()
    cluster.start(data, free_port())
    seconds = time.monotonic() - began
    cluster.stop(data)
    shutil.rmtree(data)
    bench.say(f"  {tool.name}: {run.seconds:.2f} s, and {seconds:.2f} s until it answers")
    return {tool.name: Series([measure.Run(run.seconds + seconds, run.processor, run.memory)])}


def outage(bench, backstay):
    """The longest time that clients have to do without while the database is taken back: one that connects anew for each
    question, alone and beside a hundred that stay connected, and the one of the hundred that fared worst. And what the
    restores took."""
    bench.say("outage")
    alone, beside, worst, phases = [], [], [], {}
    for crowd in [0, CROWD] * bench.rounds:
        bench.cluster.sql("update documents set note = 'bad release' where id % 50 = 0", DATABASE)
        # A hundred that connect are no outage: the reader begins when they have.
        others = Clients(bench.cluster, crowd, "held")
        reader = Clients(bench.cluster, 1, "anew")
        backstay("restore", "latest", "--yes", "-q")
        longest, of_others = reader.stop(), others.stop()
        if crowd:
            beside.append(longest)
            worst.append(of_others)
        else:
            alone.append(longest)
            phases["A restore beside one client"] = newest_phases(backstay("history", "--json"), "restore")
        bench.say(f"  without an answer for {longest * 1000:.0f} ms, beside {crowd} others")
        backstay("settle", "--discard", "--yes", "-q")
    return {"alone": alone, f"beside {CROWD} others": beside, f"the worst of the {CROWD}": worst}, phases


class Clients:
    """Programs of `clients.py` that ask until they are stopped."""

    def __init__(self, cluster, count, way):
        words = [sys.executable, clients.__file__, cluster.port, DATABASE, count, way]
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def stop(self):
        """The longest time between two good answers of one of them, in seconds."""
        return float(self.process.communicate()[0])


def large(bench, database_bytes):
    """A database that is far larger than what a process may hold: once, for the memory and the pace."""
    gzip, backstay = bench.tool(Gzip, "large-gzip"), bench.tool(Backstay, "large-backstay")
    taken = {}
    for tool in (backstay, gzip):
        taken[tool.name] = Series([tool.copy()])
        bench.say(f"  {tool.name}: {taken[tool.name].seconds:.1f} s, {taken[tool.name].memory / MIB:.0f} MiB")
    proof = Series([backstay.prove()])
    bench.say(f"  proof: {proof.seconds:.1f} s, {proof.memory / MIB:.0f} MiB")
    return {"first copy": taken, "load back": {backstay.name: proof}, "database bytes": database_bytes}
