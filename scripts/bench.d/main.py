"""What scripts/bench runs once everything is built and installed."""

import argparse
import os
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import cases  # noqa: E402
import clock  # noqa: E402
import database  # noqa: E402
import earlier  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import rounds  # noqa: E402
from cluster import Cluster  # noqa: E402

CASES = ["database", "tables", "store", "snapshots", "clock", "start-up"]
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def options():
    words = argparse.ArgumentParser(prog="scripts/bench")
    words.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    words.add_argument("--quick", action="store_true")
    words.add_argument("--full", action="store_true")
    words.add_argument("--rounds", type=int)
    words.add_argument("--only", type=lambda text: text.split(","), default=CASES)
    words.add_argument("--output", default=f"{REPOSITORY}/docs/reference")
    given = words.parse_args()
    unknown = set(given.only) - set(CASES)
    if unknown:
        words.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    given.programs = os.path.abspath(given.programs)
    given.rounds = given.rounds or (1 if given.quick else 2)
    return given


def measure_all(given, work):
    cluster = Cluster(f"{work}/server")
    results = {}
    try:
        bench = rounds.Bench(work, cluster, given.programs, given.rounds, say)
        scale = 6 if given.quick else 60
        if "database" in given.only or "store" in given.only:
            say("making the data")
            size = cluster.load(rounds.DATABASE, scale)
            say(f"a database of {size / rounds.MIB:.0f} MiB")
        if "store" in given.only:
            say("== into a folder and into S3")
            results["store"] = cases.object_store(bench)
        if "database" in given.only:
            say("== a database")
            results["database"] = database.first_copy(bench, size)
        cluster.sql(f"drop database if exists {rounds.DATABASE} with (force)")
        if "tables" in given.only:
            say("== many small tables")
            results["tables"] = cases.many_tables(bench, 500 if given.quick else 5000)
        if "snapshots" in given.only:
            say("== many snapshots")
            results["snapshots"] = cases.many_snapshots(bench, 1000 if given.quick else 10_000)
        if "start-up" in given.only:
            results["start-up"] = cases.start_up(bench)
        if "clock" in given.only:
            say("== the rollback clock")
            if "BACKSTAY_REGISTRY" in os.environ:
                results["clock"] = clock.rollback(bench)
            else:
                say("left out: no Docker engine here")
        if given.full:
            say("== a database of 10 GB")
            results["large"] = database.large(bench, cluster.load(rounds.DATABASE, 430))
    finally:
        cluster.stop()
    return results


def main():
    given = options()
    began = time.monotonic()
    work = tempfile.mkdtemp(prefix="backstay-bench-")
    os.chmod(work, 0o755)
    try:
        measured = measure_all(given, work)
        about = report.about(given, measure)
        commit = measure.run(["git", "rev-parse", "--short", "HEAD"]).output.strip()
        results, commits = earlier.load(given.output, about)
        report.write(given.output, about, results | measured, commits | dict.fromkeys(measured, commit))
        say(f"written: {given.output}/performance.md, after {(time.monotonic() - began) / 60:.1f} minutes")
    except measure.Failed as failed:
        say(f"nothing written: {failed}")
        sys.exit(1)
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
