"""A private PostgreSQL on 127.0.0.1, its data, and the changes that are made to it."""

import glob
import os
import shutil
import socket
import subprocess

import measure


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def programs():
    """The newest PostgreSQL that all tools of the comparison know."""
    found = [path for path in glob.glob("/usr/lib/postgresql/*/bin") if int(path.split("/")[4]) <= 15]
    if not found:
        raise measure.Failed("no PostgreSQL up to 15 here: pgBackRest of this Debian knows no later one")
    return max(found, key=lambda path: int(path.split("/")[4]))


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.data = os.path.join(folder, "cluster")
        self.bin = programs()
        self.port = free_port()
        os.makedirs(folder)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        self.as_server(f"{self.bin}/initdb -A trust -U bench -E UTF8 --locale C.UTF-8 -D {self.data}")
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n"
                "shared_buffers = '512MB'\nmax_wal_size = '4GB'\nmaintenance_work_mem = '256MB'\n"
                "autovacuum = off\nmax_connections = 200\narchive_mode = on\narchive_command = '/bin/true'\n"
            )
        self.start(self.data)

    def as_server(self, line, **more):
        return measure.run(line, user="postgres", cwd="/", **more)

    def start(self, data, port=None):
        port = f"-o '-p {port}'" if port else ""
        # What the server writes goes to its log: a pipe that it inherited would never end.
        self.as_server(f"{self.bin}/pg_ctl -D {data} -l {self.folder}/log -w -t 300 {port} start >/dev/null 2>&1")

    def stop(self, data=None):
        if os.path.exists(f"{data or self.data}/postmaster.pid"):
            self.as_server(f"{self.bin}/pg_ctl -D {data or self.data} -m immediate -w stop >/dev/null 2>&1")

    def url(self, database):
        return f"postgres://bench@127.0.0.1:{self.port}/{database}"

    def sql(self, statement, database="postgres"):
        asked = subprocess.run(
            [f"{self.bin}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", self.url(database), "-c", statement],
            capture_output=True, text=True,
        )
        if asked.returncode:
            raise measure.Failed(f"{statement}\n{asked.stderr}")
        return asked.stdout.strip()

    def renew(self, database):
        """An empty database of that name."""
        self.sql(f"drop database if exists {database} with (force)")
        self.sql(f"create database {database} template template0")

    def load(self, database, scale):
        """`pgbench` accounts and a table of documents with indexes: about 23 MB for each step of the scale."""
        self.renew(database)
        measure.run([f"{self.bin}/pgbench", "-q", "-i", "-s", scale, self.url(database)])
        rows = scale * 33_333
        self.sql(
            f"""create table documents (id bigint primary key, customer int not null, state text, body jsonb, note text);
            insert into documents
            select i, i % 5000, (array['new', 'paid', 'sent', 'closed'])[1 + i % 4],
                   jsonb_build_object('total', i * 7 % 100003, 'lines', jsonb_build_array(i % 91, i % 89, i % 83),
                                      'reference', md5(i::text)),
                   repeat(md5((i * 31)::text), 1 + i % 4)
            from generate_series(1, {rows}) i;
            create index on documents (customer);
            create index on documents (state, id)""",
            database,
        )
        self.sql("vacuum analyze", database)
        return int(self.sql("select pg_database_size(current_database())", database))

    def load_many(self, database, tables):
        self.renew(database)
        for first in range(0, tables, 500):
            self.sql(
                f"""do $$ begin for i in {first + 1}..{min(first + 500, tables)} loop
                execute format('create table t%s (id int primary key, name text, at timestamptz default now())', i);
                execute format('insert into t%s select g, md5(g::text) from generate_series(1, 20) g', i);
                end loop; end $$""",
                database,
            )
        self.sql("analyze", database)

    def change_one_place(self, database):
        """A hundredth of each large table, one after another."""
        for table, key in (("pgbench_accounts", "aid"), ("documents", "id")):
            column = "abalance = abalance + 1" if table == "pgbench_accounts" else "state = 'changed'"
            self.sql(
                f"update {table} set {column} where {key} between "
                f"(select max({key}) / 3 from {table}) and (select max({key}) / 3 + max({key}) / 100 from {table})",
                database,
            )

    def change_scattered(self, database):
        """A hundredth of each large table, here and there."""
        self.sql("update pgbench_accounts set abalance = abalance + 3 where aid % 100 = 7", database)
        self.sql("update documents set state = 'scattered' where id % 100 = 7", database)
