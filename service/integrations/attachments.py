"""Where the bytes of attachments lie: a folder, or storage that speaks S3 (or Azure's, or Google's), through obstore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

CHUNK_BYTES = 5 * 2**20
"""The least that S3 takes as a part."""
READ_BYTES = 256 * 1024
FAILURES = (BaseError, OSError)
"""What the store raises when it cannot be reached or refuses."""


class FileStore:
    """Files by key. A file is there whole or not at all, also when the one who writes it dies."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        """`url`: file:///folder, s3://bucket/prefix, or another of obstore's; `options` of S3: endpoint, region,
        access_key_id, secret_access_key (else its usual environment). Raises ValueError."""
        parts = urlsplit(url)
        self._folder: Path | None = None
        self._store: LocalStore | ObjectStore
        try:
            if parts.scheme == "file":
                self._folder = Path(unquote(parts.path))
                self._store = LocalStore(self._folder, mkdir=True)
            elif parts.scheme == "s3":
                plain = (options or {}).get("endpoint", "").startswith("http://")
                self._store = S3Store.from_url(
                    url,
                    config=dict(options or {}),  # type: ignore[arg-type]
                    client_options={"allow_http": plain, "timeout": "30s", "connect_timeout": "3s"},
                    retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
                )
            else:
                self._store = from_url(url)
        except (BaseError, ValueError) as error:
            raise ValueError(f"JIEBAN_ATTACHMENTS_URL cannot be used: {type(error).__name__}") from None

    @classmethod
    def in_folder(cls, folder: Path) -> FileStore:
        return cls(f"file://{quote(str(folder.resolve()))}")

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write what comes, a few parts at a time in memory. Whatever `chunks` raises comes through, and nothing stays."""
        await asyncio.ensure_future(
            obstore.put_async(self._store, key, chunks, use_multipart=True, chunk_size=CHUNK_BYTES, max_concurrency=2)
        )

    async def open(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of a file, in pieces. Raises FileNotFoundError, or what stands in FAILURES, before the first."""
        found = await obstore.get_async(self._store, key)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(piece)

        return pieces()

    async def delete(self, key: str) -> None:
        """Remove a file, and what a killed process left of it; one that is not there is gone already."""
        with suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)
        if self._folder is not None:
            # a folder keeps a file that is being written under its name, `#` and a number; S3 ends unfinished uploads by
            # a rule of the bucket
            target = self._folder / key
            for left in target.parent.glob(f"{target.name}#*"):
                left.unlink(missing_ok=True)
