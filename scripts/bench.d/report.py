"""Writes what was measured: a page for people with its plots, and the raw numbers."""

import json
import os
import platform
from statistics import median

from clock import OWN, WARM
from measure import Series
from plot import bars

MIB = 1 << 20
GZIP, CUSTOM, DIRECTORY = "pg_dump | gzip", "pg_dump -Fc", "pg_dump -Fd -j2 -Z0, in memory"
RESTIC, PGBACKREST, BACKSTAY = "pg_dump into restic", "pgBackRest", "Backstay"


def about(given, measure):
    """What must be the same for figures to stand beside each other."""

    def version(*words):
        return measure.run(list(words)).output.strip().splitlines()[0]

    from cluster import programs

    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    with open("/proc/meminfo") as lines:
        memory = int(next(lines).split()[1]) / MIB
    return {
        "size": "quick" if given.quick else "normal",
        "machine": f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} {platform.release()}",
        "versions": [
            version(f"{given.programs}/backstay", "--version"),
            version(f"{programs()}/pg_dump", "--version"),
            version("restic", "version"),
            version("pgbackrest", "version"),
        ],
    }


def reach(results):
    """(what, measured, bound, written as) for each bound that this run has a figure for."""
    rows = []

    def ratio(what, bound, case, other, own=BACKSTAY):
        if case and own in case and other in case:
            own, other = case[own], case[other]
            rows.append((what, own.over(other) if isinstance(own, Series) else own / other, bound, "{:.2f}"))

    database = results.get("database", {})
    first, stored = database.get("first copy"), database.get("stored")
    ratio("first sealed snapshot / `pg_dump \\| gzip`", 0.30, first, GZIP)
    ratio("first snapshot / pgBackRest full", 0.80, first, PGBACKREST)
    ratio("first snapshot / `pg_dump -Fd -j2 -Z0` to a memory file system", 1.3, first, DIRECTORY)
    ratio("stored bytes, first / `pg_dump -Fc`", 0.95, stored, CUSTOM)
    place = database.get("repeat, 1 % in one place: stored")
    if place and stored:
        rows.append(("repeat, 1 % in one place: stored bytes / first", place[BACKSTAY] / stored[BACKSTAY], 0.05, "{:.3f}"))
    ratio("repeat, 1 % scattered: stored bytes / restic's", 1.0, database.get("repeat, 1 % scattered: stored"), RESTIC)
    ratio("cold stage and proof / `pg_restore -j2`", 1.2, database.get("load back"), CUSTOM)
    for who, seconds in list(database.get("outage", {}).items())[:2]:
        rows.append((f"outage of the database in a restore, {who}, seconds", median(seconds), 0.2, "{:.3f}"))
    clock = results.get("clock", {}).get("until it serves")
    if clock:
        rows.append(("deploy failed → serving, warm, beyond the containers' own start, seconds",
                     clock[WARM].seconds - clock[OWN].seconds, 3.0, "{:.1f}"))
    for name in ("database", "large"):
        case = results.get(name)
        if case:
            memory = max(case[kind][BACKSTAY].memory for kind in ("first copy", "load back"))
            size = case["database bytes"] / 1e9
            rows.append((f"peak memory at {size:.1f} GB, MiB", memory / MIB, 150, "{:.0f}"))
    store = results.get("store", {}).get("first copy")
    ratio("S3 with 30 ms on the way / folder", 1.3, store, "folder", own="S3, 30 ms away")
    snapshots = results.get("snapshots")
    if snapshots:
        what = f"`list` of {snapshots['snapshots']:,} snapshots, seconds"
        rows.append((what, snapshots["list"][BACKSTAY].seconds, 1.0, "{:.2f}"))
    return rows


def write(folder, about, results, commits):
    """`commits` says of each case at which one it was measured."""
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/performance.json", "w") as raw:
        json.dump({"about": about, "commits": commits, "results": plain(results)}, raw, indent=1, ensure_ascii=False)
        raw.write("\n")
    with open(f"{folder}/performance.md", "w") as page:
        page.write("\n".join(page_lines(folder, about, results, commits)) + "\n")


def plain(value):
    if isinstance(value, Series):
        return [{"seconds": round(run.seconds, 3), "processor": round(run.processor, 3), "memory": run.memory} for run in value.runs]
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return value


def page_lines(folder, about, results, commits):
    yield from (
        "# Performance",
        "",
        "Written by `scripts/bench`; the raw numbers are in [performance.json](performance.json). In each case all tools worked",
        "on the same data in the same run, in turn, each once the disk had nothing left to write of what was before.",
        "Absolute times say something about one machine; the ratios are what counts.",
        "",
        f"- Machine: {about['machine']}",
        f"- Versions: {', '.join(about['versions'])}",
        f"- Size: {about['size']}. Medians of the rounds; ratios are the median of each round's, where both tools were in the same",
        "  rounds. Memory is the most that all processes of the tool had at one moment. The server's own work is in the wall time",
        "  only. Loading back is with Backstay also the proof: all of it is compared. It is loaded as pg_restore does it, without",
        "  statistics; a restore gathers them as well.",
        "",
        "## What it must reach",
        "",
        "| | measured | at most | |",
        "| --- | ---: | ---: | --- |",
    )
    for what, measured, bound, form in reach(results):
        verdict = "reached" if measured <= bound else "**missed**"
        yield f"| {what} | {form.format(measured)} | {bound} | {verdict} |"
    for name, title in (("database", "A database"), ("large", "A large database"), ("tables", "Many small tables"),
                        ("store", "Into an object store"), ("snapshots", "Many snapshots"), ("clock", "The rollback clock"),
                        ("start-up", "Starting")):
        if name in results:
            yield from section(folder, name, title, results[name], commits[name])


def section(folder, name, title, case, commit):
    yield from ("", f"## {title}", "", f"At commit {commit}.")
    if "database bytes" in case:
        yield f"{case['database bytes'] / 1e9:.2f} GB on the server."
    if "tables" in case:
        yield f"{case['tables']:,} tables of 20 rows."
    if "snapshots" in case:
        yield f"{case['snapshots']:,} small snapshots, an hour apart, in a folder."
    if "stack bytes" in case:
        yield from (
            "",
            f"A Compose stack with a database of {case['stack bytes'] / MIB:.0f} MiB. A release was deployed that migrates, changes rows and is",
            "unhealthy; the clock runs from the end of that deploy until the old release answers that it and its database are well.",
        )
    for who, phases in case.get("phases", {}).items():
        steps = ", ".join(f"{phase} {milliseconds / 1000:.2f} s" for phase, milliseconds in phases)
        yield from ("", f"{who}, by phases: {steps}.")
    for kind, found in case.items():
        if not isinstance(found, dict) or kind == "phases":
            continue
        rows = [(tool, figures) for tool, figures in found.items()]
        if isinstance(rows[0][1], Series):
            stored = case.get("stored" if kind == "first copy" else f"{kind}: stored", {})
            yield from time_table(kind, rows, stored)
            if name == "database" and kind in ("first copy", "load back"):
                yield from bars(folder, f"performance-{kind.replace(' ', '-')}", f"{kind}, seconds",
                                [(tool, figures.seconds) for tool, figures in rows], BACKSTAY)
    if "stored" in case:
        yield from bars(folder, "performance-stored", "stored after the first copy, MiB",
                        [(tool, size / MIB) for tool, size in case["stored"].items()], BACKSTAY)
    if "outage" in case:
        yield from ("", "The longest time that a client was without an answer while the database was taken back. It connects for each",
                    "question and tries again after 5 ms; the others stay connected, ask once a second, and come back in the same way:", "")
        for who, times in case["outage"].items():
            yield f"- {who}: {', '.join(f'{seconds * 1000:.0f} ms' for seconds in times)}"


def time_table(kind, rows, stored):
    first = BACKSTAY if BACKSTAY in dict(rows) else rows[0][0]
    own = dict(rows)[first]
    yield from ("", f"### {kind[0].upper()}{kind[1:]}", "")
    columns = ["rounds", "seconds", "from, to", f"{first} / it", "processor, s", "peak memory, MiB", *["stored, MiB"] * bool(stored)]
    yield f"| | {' | '.join(columns)} |"
    yield "| --- |" + " ---: |" * len(columns)
    for tool, figures in rows:
        each = [run.seconds for run in figures.runs]
        spread = f"{min(each):.2f}, {max(each):.2f}" if len(each) > 1 else ""
        size = f" {stored[tool] / MIB:.1f} |" if stored else ""
        name = tool.replace("|", "\\|")
        yield (
            f"| {name} | {len(each)} | {figures.seconds:.2f} | {spread} | {own.over(figures):.2f} | {figures.processor:.2f} | "
            f"{figures.memory / MIB:.0f} |{size}"
        )
