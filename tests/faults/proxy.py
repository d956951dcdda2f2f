"""A proxy before PostgreSQL's socket that cuts a share of the replies to COMMIT.

The server has committed, the client never learns of it: the one fault after which nobody knows whether a request was
carried out. A careful client repeats it with the same key and is given the first answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path
from random import Random

QUERY, COMMIT = b"Q", b"COMMIT"


class CommitCutter:
    """Listens on `folder`/.s.PGSQL.5432 and forwards to `upstream`. `share`: of commits whose reply is cut."""

    def __init__(self, folder: Path, upstream: Path, seed: int, share: float = 0.05) -> None:
        self.path, self.upstream, self.share = folder / ".s.PGSQL.5432", upstream, share
        self.commits = self.cut = 0
        self._random = Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, str(self.path))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self.upstream))
        except OSError:
            writer.close()  # PostgreSQL is away just now
            return
        muted = asyncio.Event()
        down = asyncio.create_task(self._relay(up_reader, writer, muted))
        try:
            await self._watch(reader, up_writer, muted)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            up_writer.close()
            down.cancel()
            writer.close()

    async def _watch(self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, muted: asyncio.Event) -> None:
        """Forward message by message; after a COMMIT that is chosen, nothing of the server's answer gets through."""
        (length,) = struct.unpack("!I", head := await reader.readexactly(4))
        up.write(head + await reader.readexactly(length - 4))  # the startup message has no type
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
            if head[:1] == QUERY and body.rstrip(b"\0") == COMMIT:
                self.commits += 1
                if self._random.random() < self.share:
                    self.cut += 1
                    muted.set()
            up.write(head + body)
            await up.drain()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if muted.is_set():
                    break  # the answer has come: it is committed, and the connection ends here
                writer.write(data)
                await writer.drain()
        writer.close()
