"""arq: the hands, and the only room that knows of it. An empty or absent Redis loses nothing and ends no process.

Jobs carry no deadlines and no data: each is a hint to look at PostgreSQL. arq's own loop exits when Redis goes, so it
runs supervised beside the pump, never around it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.worker import Worker, func
from redis.exceptions import RedisError

from service import clock
from service.worker import jobs

log = structlog.get_logger()
QUEUE = "jieban:hands"
RETRY_SECONDS = 2.0
GATHER_SECONDS = 0.05


def redis_settings(url: str) -> RedisSettings:
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout, settings.conn_retries, settings.conn_retry_delay = 2, 0, 0
    return settings


def _dump(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()


class ArqBell:
    """Rings by enqueuing one job; several rings within 50 ms are one. Never waits, never fails."""

    def __init__(self, url: str) -> None:
        self._settings, self._wanted, self.reachable = redis_settings(url), asyncio.Event(), True

    def ring(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        """Carry rings to Redis until cancelled; while Redis is away they are dropped (the pump looks for itself)."""
        redis: ArqRedis | None = None
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                redis = await self._carry(redis)
                await asyncio.sleep(GATHER_SECONDS if self.reachable else RETRY_SECONDS)
        finally:
            if redis is not None:
                await redis.aclose()

    async def _carry(self, redis: ArqRedis | None) -> ArqRedis | None:
        try:
            if redis is None:
                redis = await create_pool(self._settings, job_serializer=_dump, job_deserializer=json.loads)
            async with asyncio.timeout(2):
                await redis.enqueue_job("wake", _queue_name=QUEUE)
            self.reachable = True
        except (RedisError, OSError, TimeoutError) as error:
            if self.reachable:
                log.warning("redis is away; work goes on without wake-ups", error=repr(error))
            self.reachable = False
            if redis is not None:
                await redis.aclose()
            redis = None
        return redis


async def run_hands(url: str, wake: Callable[[], None], deliver: Callable[[], Awaitable[int]]) -> None:
    """Keep an arq worker running until cancelled, whatever Redis does."""
    settings = redis_settings(url)
    while True:
        worker = Worker(
            functions=[func(jobs.wake, name="wake", keep_result=0, timeout=60, max_tries=1)],
            queue_name=QUEUE,
            redis_settings=settings,
            ctx={"wake": wake, "deliver": deliver},
            handle_signals=False,
            max_jobs=10,
            poll_delay=0.1,
            job_completion_wait=30,
            health_check_interval=10,
            keep_result=0,
            job_serializer=_dump,
            job_deserializer=json.loads,
        )
        try:
            await worker.async_run()
        except asyncio.CancelledError:
            await _close(worker)
            raise
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("redis is away; the pump goes on alone", error=repr(error))
        await _close(worker)
        await asyncio.sleep(RETRY_SECONDS + clock.jitter(0.5))


async def _close(worker: Worker) -> None:
    try:
        async with asyncio.timeout(2):
            await worker.close()
    except (RedisError, OSError, TimeoutError, AttributeError):
        # it never got a connection: nothing to close
        return
