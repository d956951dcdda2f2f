"""Settings -> running parts: reads the settings, opens pools, makes keys. The only place that puts the house together."""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from service import clock
from service.core.receivers import Allowed
from service.db.session import Database
from service.db.vault import Vault
from service.integrations.attachments import FileStore
from service.integrations.identity_provider import BuiltinIssuer, Verifier
from service.integrations.webhooks import ReceiverCourier, WebhookSender
from service.settings import Settings
from service.usecases import delivery, identity
from service.usecases.house import House

if TYPE_CHECKING:
    from fastapi import FastAPI

NICENESS = 5


def vault_of(settings: Settings) -> Vault:
    """The key from the settings, or one made once in the data folder."""
    given = settings.secret_key.get_secret_value()
    return Vault.from_text(given or _key_file(settings.data_dir / "keys" / "data.key"))


def _key_file(path: Path) -> str:
    """A new random key, created whole or not at all: of two processes that start together one wins, both use it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(base64.b64encode(secrets.token_bytes(32)).decode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    return path.read_text().strip()


def files_of(settings: Settings) -> FileStore:
    """Where attachments lie: the place of the settings, or a folder beside the data."""
    if not settings.attachments_url:
        return FileStore.in_folder(settings.data_dir / "attachments")
    given = {
        "endpoint": settings.attachments_endpoint,
        "region": settings.attachments_region,
        "access_key_id": settings.attachments_access_key,
        "secret_access_key": settings.attachments_secret_key.get_secret_value(),
    }
    return FileStore(settings.attachments_url, {name: value for name, value in given.items() if value})


@asynccontextmanager
async def open_unpublished(settings: Settings) -> AsyncIterator[House]:
    """A house with its pool open, before anything is published."""
    db = await Database.connect(settings.database_url, settings.pool_size, settings.sandbox)
    try:
        zone = ZoneInfo(settings.zone)
        allowed = Allowed.parse(settings.webhook_receivers, loopback=settings.sandbox)
        yield House(
            db,
            vault_of(settings),
            clock.new_id,
            zone,
            settings.sandbox,
            receivers=allowed,
            files=files_of(settings),
        )
    finally:
        await db.close()


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    """A house with its pool open and its definitions loaded."""
    async with open_unpublished(settings) as house:
        await house.refresh()
        yield house


def issuer_of(settings: Settings) -> BuiltinIssuer | None:
    return BuiltinIssuer.open(settings.data_dir) if settings.builtin_issuer else None


def application(settings: Settings) -> FastAPI:
    """The HTTP application of these settings."""
    # imported where it is used: the launcher and the small commands start in half the time without it
    from service.api.app import Parts, create_app
    from service.api.limits import Limiter
    from service.worker.main import ArqBell

    @asynccontextmanager
    async def parts() -> AsyncIterator[Parts]:
        issuer = issuer_of(settings)
        async with open_house(settings) as house:
            verifier = Verifier(
                builtin=issuer,
                oidc_issuer=settings.oidc_issuer,
                audience=settings.oidc_audience,
                jwks_url=settings.oidc_jwks_url,
                plain_jwt=settings.oidc_plain_jwt,
                roles_claim=settings.oidc_roles_claim,
                departments_claim=settings.oidc_departments_claim,
                known_departments=lambda: house.rules.departments,
                check=lambda actor: identity.refuse_deactivated(house, actor),
            )
            yield Parts(house, verifier, issuer, ArqBell(settings.redis_url), Limiter(settings.rate_limit))

    return create_app(parts, with_sandbox=settings.sandbox)


async def run_worker(settings: Settings) -> None:
    """Pump, sweeper and arq in one process, until SIGTERM: the batch at hand is finished."""
    from service.worker.background import migrate, recount, succeed, tell
    from service.worker.main import run_hands
    from service.worker.periodic import jobs, keep_time
    from service.worker.pump import CONNECTIONS, Pump, sweep

    async with open_house(settings.model_copy(update={"pool_size": CONNECTIONS})) as house:
        pump = Pump(house)
        secret = settings.webhook_secret.get_secret_value()
        sender = WebhookSender(settings.webhook_url, secret) if settings.webhook_url else None
        courier = ReceiverCourier(house.receivers)

        async def deliver() -> int:
            # nobody waits for what has no receiver: the rows are marked when no timer waits for the processor
            return 0 if sender is None and pump.draining else await delivery.deliver_due(house, sender)

        async def deliver_now() -> int:
            # without a receiver the sweeper marks the rows in large batches
            return await deliver() if sender is not None else 0

        # on a machine that both share, who waits at the door goes before a timer that is a second late
        os.nice(NICENESS)
        # what lives until the end need not be looked through by every collection, nor a batch while it is in hand: its
        # hundred thousand values hold each other in no circle and go when the batch does
        gc.collect()
        gc.freeze()
        gc.set_threshold(500_000, 10, 20)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, pump.stop)
        try:
            await pump.run(
                lambda: sweep(deliver),
                lambda: recount(house),
                lambda: migrate(house),
                lambda: succeed(house),
                lambda: tell(house, courier, lambda: pump.draining),
                *(partial(keep_time, house, pump.worker, job) for job in jobs(house, lambda: pump.draining)),
                lambda: run_hands(settings.redis_url, pump.wake, deliver_now),
            )
        finally:
            await courier.close()
            if sender is not None:
                await sender.close()
