"""A way to a local server on which every byte takes its time, though any number of them travel at once."""

import asyncio
import multiprocessing


class SlowLink:
    """Forwards 127.0.0.1:`port` to `target`; the way there and back takes `seconds` together. A process of its own, so
    that it competes with nothing for the interpreter, and ends with all its connections."""

    def __init__(self, target, seconds):
        self.target, self.one_way = target, seconds / 2

    def __enter__(self):
        here, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=lambda: asyncio.run(self._serve(there)), daemon=True)
        self.process.start()
        self.port = here.recv()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()

    async def _serve(self, starter):
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        starter.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def _accept(self, reader, writer):
        # A connection costs one way there and back before its first byte.
        await asyncio.sleep(2 * self.one_way)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(self._carry(reader, there_writer), self._carry(there_reader, writer))

    async def _carry(self, reader, writer):
        """What arrives is sent on a moment later, while more arrives."""
        under_way = asyncio.Queue(maxsize=1024)

        async def deliver():
            while True:
                due, piece = await under_way.get()
                await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
            writer.close()

        delivery = asyncio.ensure_future(deliver())
        try:
            while True:
                piece = await reader.read(1 << 18)
                await under_way.put((asyncio.get_running_loop().time() + self.one_way, piece))
                if not piece:
                    break
            await delivery
        except OSError:
            delivery.cancel()
            writer.close()
