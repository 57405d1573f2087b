"""The rollback clock: a bad release was deployed on a Compose stack; how long until the old release and its data serve?"""

import http.client
import os
import shutil
import subprocess
import time
import urllib.request
from concurrent import futures

import measure
from cluster import free_port, programs
from measure import Run, Series
from rounds import MIB
from tools import newest_phases

ROWS = 400_000
DUMPED, COLD, WARM, OWN = "compose down, restore over it, compose up", "Backstay", "Backstay, kept warm", "compose up alone"


def rollback(bench):
    """By what deploy scripts do today, by Backstay with and without a warm copy, and the containers' own start alone."""
    stack = Stack(bench)
    try:
        stack.begin()
        ways = {DUMPED: stack.taken_back_by_script, COLD: stack.taken_back_by_backstay, WARM: stack.taken_back_warm,
                OWN: stack.started_again}
        clocks = {name: Series() for name in ways}
        phases = {}
        for _ in range(bench.rounds):
            for name, take_back in ways.items():
                seconds = take_back()
                clocks[name].runs.append(Run(seconds, 0, 0))
                bench.say(f"  {name}: {seconds:.2f} s")
                if name in (COLD, WARM):
                    phases[name] = newest_phases(stack.backstay("history --json"), "restore")
        return {"until it serves": clocks, "phases": phases, "stack bytes": stack.bytes}
    finally:
        stack.end()


class Stack:
    """The sample application with PostgreSQL and Redis in containers, and `ROWS` documents more."""

    def __init__(self, bench):
        self.bench, self.folder, self.bin = bench, f"{bench.work}/stack", programs()
        self.name = f"backstay-bench-{os.getpid()}"
        shutil.copytree("fixtures/shop", self.folder, ignore=shutil.ignore_patterns("app", "postgres", "build"))
        self.port, database_port = free_port(), free_port()
        with open(f"{self.folder}/.env") as settings:
            text = settings.read().replace("18000", str(self.port)).replace("15432", str(database_port))
        text = text.replace("127.0.0.1:5000", os.environ["BACKSTAY_REGISTRY"]) + f"SHOP_PROJECT={self.name}\n"
        self.url = next(line for line in text.splitlines() if line.startswith("DATABASE_URL=")).partition("=")[2]
        self.write(".env", text)
        self.write("backstay.toml", f"""project = "{self.name}"
production = false
[repository]
url = "{self.folder}/repository"
key = "file:key"
[database.shop]
url = "file:.env#DATABASE_URL"
[files]
include = [".env", "config/*"]
[compose]
files = ["compose.yml"]
project = "{self.name}"
[health.api]
http = "http://127.0.0.1:{self.port}/health"
""")

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)

    def run(self, line):
        return measure.run(line, cwd=self.folder)

    def backstay(self, words):
        environment = {"BACKSTAY_STATE": f"{self.folder}.state", "PATH": f"{self.bin}:{os.environ['PATH']}"}
        return measure.run(f"{self.bench.programs}/backstay {words} 2>&1", cwd=self.folder, environment=environment)

    def sql(self, statement):
        return self.run([f"{self.bin}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", self.url, "-c", statement]).output.strip()

    def begin(self):
        self.run("docker compose up --detach --quiet-pull --wait app worker")
        self.sql(f"create table documents as select i as id, repeat(md5(i::text), 6) as body from generate_series(1, {ROWS}) i; "
                 "alter table documents add primary key (id); analyze")
        self.bytes = int(self.sql("select pg_database_size(current_database())"))
        self.bench.say(f"a database of {self.bytes / MIB:.0f} MiB in a container")
        self.backstay(f"init --recovery-file {self.folder}.phrase")

    def end(self):
        subprocess.run(["docker", "compose", "-p", self.name, "down", "--volumes", "--timeout", "5"], cwd=self.folder,
                       capture_output=True, check=False)
        anchors = subprocess.run(["docker", "ps", "-aq", "--filter", f"name=^backstay-keep-{self.name}-"], capture_output=True,
                                 text=True, check=False).stdout.split()
        if anchors:
            subprocess.run(["docker", "rm", "--force", *anchors], capture_output=True, check=False)

    def bad_deploy(self):
        """Migrates, edits, starts; it answers, and its health check does not pass. From here the clock runs."""
        with open(f"{self.folder}/migrations-next/20250301090000_discounts.up.sql") as migration:
            self.sql(migration.read())
        self.sql("update documents set body = 'bad release' where id % 50 = 0")
        with open(f"{self.folder}/.env") as settings:
            text = settings.read()
        self.write(".env", text.replace("SHOP_RELEASE=1.0", "SHOP_RELEASE=1.1-unhealthy"))
        self.run("docker compose up --detach --quiet-pull app worker")

    def serves(self):
        """Whether the old release answers that it and its database are well."""
        try:
            version = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/version", timeout=5).read().decode()
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/db", timeout=5)
            return "1.1" not in version
        except (OSError, http.client.HTTPException):
            return False

    def seconds_until_it_serves(self, take_back):
        """`take_back` may have more to do once users are served; what it did must then be whole."""
        began = time.monotonic()
        with futures.ThreadPoolExecutor() as pool:
            running = pool.submit(take_back)
            while not self.serves():
                if time.monotonic() - began > 120:
                    raise measure.Failed("the old release does not serve again")
                time.sleep(0.02)
            seconds = time.monotonic() - began
            running.result()
        if not self.serves() or self.sql("select count(*) from documents where body = 'bad release'") != "0":
            raise measure.Failed("the old release serves, and not its data")
        return seconds

    def taken_back_by_script(self):
        self.run(f"cp .env {self.folder}.env && {self.bin}/pg_dump '{self.url}' | gzip > {self.folder}.gz")
        self.bad_deploy()
        maintenance = self.url.rpartition("/")[0] + "/postgres"
        return self.seconds_until_it_serves(lambda: self.run(f"""set -e
            docker compose down
            cp {self.folder}.env .env
            docker compose up --detach --wait db
            {self.bin}/psql -Xq -v ON_ERROR_STOP=1 '{maintenance}' -c 'drop database shop with (force)' -c 'create database shop'
            gunzip -c {self.folder}.gz | {self.bin}/psql -Xq -v ON_ERROR_STOP=1 '{self.url}' >/dev/null
            docker compose up --detach --wait app worker"""))

    def taken_back_by_backstay(self, more=""):
        self.backstay(f"snapshot --prove {more} -q")
        self.bad_deploy()
        seconds = self.seconds_until_it_serves(lambda: self.backstay("restore latest --yes -q"))
        self.backstay("settle --discard --yes -q")
        return seconds

    def taken_back_warm(self):
        return self.taken_back_by_backstay("--keep-warm")

    def started_again(self):
        """What any way back has to wait for: the application's containers start, and answer."""
        self.run("docker compose stop app worker")
        return self.seconds_until_it_serves(lambda: self.run("docker compose up --detach app worker"))
