"""The tools that are compared. Each can take a first copy, take another one, and load a copy back."""

import json
import os
import shutil

import measure


class Tool:
    name = ""

    def __init__(self, folder, cluster, database):
        self.place, self.cluster, self.database = folder, cluster, database
        self.url = cluster.url(database)
        self.bin = cluster.bin
        self.times = 0
        self.forget()

    def forget(self):
        """Nothing stored, ready for a first copy. What was stays elsewhere: a file system that has just deleted a
        thousand files is slow at making new ones, and no tool's work."""
        self.times += 1
        self.folder = f"{self.place}-{self.times}"
        os.makedirs(self.folder)

    def copy(self):
        raise NotImplementedError

    def load(self, target):
        """Loads the newest copy into the empty database `target`."""
        raise NotImplementedError

    def stored(self):
        return measure.bytes_in(self.folder)


class Gzip(Tool):
    name = "pg_dump | gzip"

    def copy(self):
        return measure.run(f"{self.bin}/pg_dump '{self.url}' | gzip > {self.folder}/dump.gz")

    def load(self, target):
        psql = f"{self.bin}/psql -Xq -v ON_ERROR_STOP=1 '{self.cluster.url(target)}'"
        return measure.run(f"gunzip -c {self.folder}/dump.gz | {psql} >/dev/null")


class Custom(Tool):
    name = "pg_dump -Fc"

    def copy(self):
        return measure.run([f"{self.bin}/pg_dump", "-Fc", "-f", f"{self.folder}/dump", self.url])

    def load(self, target):
        return measure.run([f"{self.bin}/pg_restore", "-j2", "-d", self.cluster.url(target), f"{self.folder}/dump"])


class Directory(Tool):
    """Neither compressed nor sealed nor on a disk: as fast as the rows come out of the server."""

    name = "pg_dump -Fd -j2 -Z0, in memory"

    def forget(self):
        shutil.rmtree(self.place, ignore_errors=True)
        self.folder = self.place
        os.makedirs(self.folder)

    def copy(self):
        return measure.run([f"{self.bin}/pg_dump", "-Fd", "-j2", "-Z0", "-f", f"{self.folder}/dump", self.url])


class Restic(Tool):
    name = "pg_dump into restic"
    environment = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": ""}

    def forget(self):
        super().forget()
        self.environment = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": f"{self.folder}.cache"}
        measure.run(["restic", "-q", "-r", self.folder, "init"], environment=self.environment)

    def copy(self):
        backup = f"restic -q -r {self.folder} backup --stdin --stdin-filename dump.sql"
        return measure.run(f"{self.bin}/pg_dump '{self.url}' | {backup}", environment=self.environment)

    def load(self, target):
        psql = f"{self.bin}/psql -Xq -v ON_ERROR_STOP=1 '{self.cluster.url(target)}'"
        dump = f"restic -q -r {self.folder} dump latest dump.sql"
        return measure.run(f"{dump} | {psql} >/dev/null", environment=self.environment)


class PgBackRest(Tool):
    """Copies the whole cluster, all its databases; so nothing else may be in it while it is measured."""

    name = "pgBackRest"

    def forget(self):
        super().forget()
        self.full = True
        self.settings = f"{self.folder}/../pgbackrest.conf"
        with open(self.settings, "w") as settings:
            settings.write(
                f"[global]\nrepo1-path={self.folder}\nlog-path={self.folder}/log\nlock-path={self.folder}/lock\n"
                f"spool-path={self.folder}/spool\nprocess-max=2\ncompress-type=zst\ncompress-level=1\n"
                "start-fast=y\nlog-level-console=warn\nlog-level-file=off\nrepo1-cipher-type=aes-256-cbc\n"
                "repo1-cipher-pass=bench\nrepo1-retention-full=9\n"
                f"[bench]\npg1-path={self.cluster.data}\npg1-port={self.cluster.port}\npg1-user=bench\n"
                f"pg1-socket-path={self.cluster.folder}\n"
            )
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.cluster.as_server(self._line("stanza-create"))

    def _line(self, command):
        return f"pgbackrest --config={self.settings} --stanza=bench {command}"

    def copy(self):
        kind, self.full = ("full" if self.full else "incr"), False
        self._archive_by(f"{self._line('archive-push')} %p")
        try:
            return self.cluster.as_server(self._line(f"--type={kind} backup"))
        finally:
            # It would go on with every change that is made, beside the work of others.
            self._archive_by("/bin/true")

    def _archive_by(self, command):
        self.cluster.sql(f"alter system set archive_command = '{command}'")
        self.cluster.sql("select pg_reload_conf()")

    def load_over(self, data):
        """Puts a stopped copy of the cluster back to the newest backup: only what differs is written."""
        return self.cluster.as_server(self._line(f"--delta --pg1-path={data} --archive-mode=off restore"))


class Backstay(Tool):
    name = "Backstay"

    def __init__(self, folder, cluster, database, program, repository=None, environment=None):
        self.program, self.repository, self.more = program, repository, environment or {}
        super().__init__(folder, cluster, database)

    def forget(self):
        super().forget()
        self.project = f"{self.folder}/project"
        os.makedirs(self.project)
        store = f'url = "{self.repository or self.folder + "/repository"}"\nkey = "file:key"\n'
        for name, value in (("endpoint", self.more.get("BENCH_S3")), ("region", "us-east-1")):
            if self.more.get("BENCH_S3"):
                store += f'{name} = "{value}"\n'
        if self.more.get("BENCH_S3"):
            store += "path_style = true\n"
        with open(f"{self.project}/backstay.toml", "w") as settings:
            settings.write(
                f'project = "bench"\nproduction = false\n[repository]\n{store}'
                f'[database.bench]\nurl = "{self.url}"\n'
            )
        self("init", "--recovery-file", f"{self.folder}/phrase")

    def __call__(self, *words, **more):
        environment = {
            **self.more,
            "BACKSTAY_STATE": f"{self.folder}/state",
            "XDG_CACHE_HOME": f"{self.folder}/cache",
            "PATH": f"{self.bin}:{os.environ['PATH']}",
        }
        return measure.run([self.program, *words], cwd=self.project, environment=environment, **more)

    def copy(self):
        return self("snapshot", "-q")

    def prove(self):
        """Loads the newest snapshot beside the live database and compares all of it. Then it drops the copy, for which
        nobody has to wait: that is not counted."""
        run = self("prove", "latest", "-q")
        run.seconds -= dict(newest_phases(self("history", "--json"), "prove"))["clear away"] / 1000
        return run

    def stored(self):
        return measure.bytes_in(f"{self.folder}/repository")


def newest_phases(history, command):
    """Of the newest run of a command, by what `history --json` said: (name, milliseconds)."""
    runs = [run for run in json.loads(history.output)["runs"] if run["command"] == command]
    newest = max(runs, key=lambda run: run["began_at"])
    return [(phase["name"], phase["milliseconds"]) for phase in newest["phases"]]
