"""What is measured besides one database: many tables, a store far away, many snapshots, the start."""

import contextlib
import os
import subprocess
import threading

import measure
from measure import Series
from rounds import load_back
from tools import Backstay, Custom


def many_tables(bench, tables):
    """Many small tables: what each table costs, whatever is in it."""
    bench.cluster.load_many("many", tables)
    tools = [bench.tool(Custom, "many-custom", "many"), bench.tool(Backstay, "many-backstay", "many")]

    def afresh(tool):
        tool.forget()
        return tool.copy()

    results = {"first copy": bench.in_turn(tools, afresh), "tables": tables}
    bench.say("loading back")
    results["load back"] = bench.in_turn(tools, lambda tool: load_back(bench, tool))
    bench.cluster.sql("drop database many with (force)")
    return results


@contextlib.contextmanager
def s3_server(bench, root, milliseconds_away):
    """A server over the buckets in `root`. One that is away is so by its own clock: a proxy between would take from the
    processors, for every byte, what is measured here."""
    server = subprocess.Popen(
        [f"{bench.programs}/s3_server", "--root", root, "--milliseconds-away", str(milliseconds_away)],
        env={**os.environ, "S3_ACCESS_KEY": "bench", "S3_SECRET_KEY": "bench-secret"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        port = int(server.stdout.readline())
        threading.Thread(target=server.stdout.read, daemon=True).start()
        yield port
    finally:
        server.terminate()
        server.wait()


def object_store(bench):
    """Into a folder, into a local S3 server, and into one that is 30 ms away."""
    bucket = f"{bench.work}/s3/bench"
    os.makedirs(bucket)
    root = os.path.dirname(bucket)
    with s3_server(bench, root, 0) as here, s3_server(bench, root, 30) as away:
        keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_EC2_METADATA_DISABLED": "true"}
        folder = bench.tool(Backstay, "store-folder")
        tools = [folder]
        for name, port in (("S3", here), ("S3, 30 ms away", away)):
            place = {"repository": f"s3://bench/{port}", "environment": {**keys, "BENCH_S3": f"http://127.0.0.1:{port}"}}
            tool = bench.tool(Backstay, f"store-{port}", **place)
            tool.name = name
            tools.append(tool)
        folder.name = "folder"

        def afresh(tool):
            os.rename(bucket, f"{bench.work}/{tool.name} {tool.times}")
            os.makedirs(bucket)
            tool.forget()
            return tool.copy()

        return {"first copy": bench.in_turn(tools, afresh)}


def many_snapshots(bench, snapshots):
    """A repository of ten thousand snapshots: listing it and planning what to prune."""
    backstay = bench.tool(Backstay, "snapshots")
    backstay.forget()
    repository = f"{backstay.folder}/repository"
    measure.run([f"{bench.programs}/examples/many_snapshots", repository, f"{backstay.project}/key", snapshots])
    os.sync()
    results = {"snapshots": snapshots}
    for name, words in (
        ("list, first time", ["list", "--json"]),
        ("list", ["list", "--json"]),
        ("prune --dry-run", ["prune", "--dry-run", "--json"]),
        ("prune", ["prune", "--json"]),
    ):
        results[name] = {"Backstay": Series([backstay(*words)])}
        bench.say(f"  {name}: {results[name]['Backstay'].seconds:.2f} s")
    return results


def start_up(bench):
    """How long a command takes that does nothing."""
    commands = {"Backstay": [f"{bench.programs}/backstay", "--version"], "restic": ["restic", "version"]}
    return {"start-up": {name: Series([measure.run(words) for _ in range(20)]) for name, words in commands.items()}}
