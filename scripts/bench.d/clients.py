"""Clients of a database that ask it all the time, and what the longest time was that they had to do without.

    python3 clients.py PORT DATABASE COUNT {held|anew}

They speak to the server themselves: a `psql` takes longer to start than what is to be seen. `held` clients stay
connected, ask once a second, each at its own moment, and come back when they find that they were thrown out; `anew`
connects for each question. All try again after 5 ms. Prints a line once each has had an answer. When its input ends it
waits for one more answer of each, and prints the longest time, in seconds, that one client was without.
"""

import asyncio
import struct
import sys
import time

AGAIN = 0.005
PAUSE = 1
QUESTION = b"select count(*) from documents where id = 7\0"


async def connect(port, database):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    words = b"\0".join([b"user", b"bench", b"database", database.encode(), b"", b""])
    writer.write(struct.pack("!ii", len(words) + 8, 196608) + words)
    await messages(reader)
    return reader, writer


async def messages(reader):
    """What the server says until it is ready again. An error is one of ours."""
    said = {}
    while b"Z" not in said:
        kind, length = struct.unpack("!ci", await reader.readexactly(5))
        said[kind] = await reader.readexactly(length - 4)
        if kind == b"E":
            raise ConnectionError(said[kind])
    return said


async def ask(connection):
    reader, writer = connection
    writer.write(b"Q" + struct.pack("!i", len(QUESTION) + 4) + QUESTION)
    if not (await messages(reader))[b"D"].endswith(b"1"):
        raise ConnectionError("the wrong answer")


class Client:
    def __init__(self, port, database, anew):
        self.port, self.database, self.anew = port, database, anew
        self.longest, self.answers = 0, 0

    async def run(self, later):
        await asyncio.sleep(later)
        connection, since = None, None
        while True:
            try:
                connection = connection or await connect(self.port, self.database)
                await ask(connection)
                now = time.monotonic()
                self.longest = max(self.longest, now - (since or now))
                self.answers += 1
                if self.anew:
                    connection = close(connection)
                else:
                    await asyncio.sleep(PAUSE)
                    # What it did not ask it did not miss.
                    now = time.monotonic()
                since = now
            except (OSError, asyncio.IncompleteReadError):
                connection = close(connection)
            if connection is None:
                await asyncio.sleep(AGAIN)

    async def one_more(self):
        answers = self.answers
        while self.answers == answers:
            await asyncio.sleep(AGAIN)


def close(connection):
    if connection:
        connection[1].close()


async def main(port, database, count, way):
    clients = [Client(int(port), database, way == "anew") for _ in range(int(count))]
    tasks = [asyncio.create_task(client.run(PAUSE * at / len(clients))) for at, client in enumerate(clients)]
    await asyncio.gather(*(client.one_more() for client in clients))
    print("asking", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.gather(*(client.one_more() for client in clients))
    for task in tasks:
        task.cancel()
    print(max((client.longest for client in clients), default=0))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
