"""Runs a command and says what it took: time, processor, and the memory of all its processes together."""

import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from statistics import median


class Failed(Exception):
    """A command that was to be measured did not do its work."""


@dataclass
class Run:
    seconds: float
    processor: float
    """User and system time of the command and all that it started and waited for; not of a server it talks to."""
    memory: int
    """The most bytes that its processes had resident at one moment, added up."""
    output: str = ""


@dataclass
class Series:
    """The same measurement, repeated."""

    runs: list = field(default_factory=list)

    @property
    def seconds(self):
        return median(run.seconds for run in self.runs)

    def over(self, other):
        """How many times as long it takes: the middle of the ratios of each round, where both were measured in the same
        ones, so that a machine that is slower for some minutes is so for both; else the ratio of the middles."""
        if len(self.runs) == len(other.runs):
            return median(own.seconds / its.seconds for own, its in zip(self.runs, other.runs))
        return self.seconds / other.seconds

    @property
    def processor(self):
        return median(run.processor for run in self.runs)

    @property
    def memory(self):
        return max(run.memory for run in self.runs)


def _resident(pid):
    """Bytes of a process and of all below it."""
    total = 0
    try:
        with open(f"/proc/{pid}/statm") as statm:
            total = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                total += sum(_resident(child) for child in children.read().split())
    except (OSError, IndexError):
        pass  # it ended while we looked
    return total


def run(command, *, cwd=None, environment=None, user=None, accept=(0,), stdin=None):
    """Runs a command (a list, or one line for sh) to its end and measures it."""
    command = ["bash", "-o", "pipefail", "-c", command] if isinstance(command, str) else [str(word) for word in command]
    if user and os.geteuid() == 0:
        command = ["runuser", "-u", user, "--", *command]
    most = 0
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()), daemon=True)
    reader.start()
    ended = threading.Event()

    def watch():
        nonlocal most
        while not ended.wait(0.02):
            most = max(most, _resident(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    # Not process.wait(): only wait4 says what this one command used.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    ended.set()
    watcher.join()
    reader.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    text = b"".join(output).decode(errors="replace")
    if process.returncode not in accept:
        raise Failed(f"{' '.join(command)}\nended with {process.returncode}:\n{text[-3000:]}")
    # A process shorter than one look is still counted, by the kernel's own figure.
    return Run(seconds, usage.ru_utime + usage.ru_stime, max(most, usage.ru_maxrss * 1024), text)


def bytes_in(folder):
    """The bytes of all files below a folder; of a file, its own."""
    if os.path.isfile(folder):
        return os.path.getsize(folder)
    return sum(
        os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(folder) for name in names
    )
