"""Who may call: tokens of the built-in issuer, and machines."""

from __future__ import annotations

from typing import Annotated

import typer

from service import bootstrap, clock
from service.cli.house import in_house
from service.cli.surroundings import fail, needs_database, read_settings
from service.core.errors import JiebanError
from service.core.model import Role
from service.settings import Settings
from service.usecases import identity

app = typer.Typer(rich_markup_mode="markdown")


@app.command()
def token(
    as_: Annotated[str, typer.Option("--as", help="hotline, dispatcher, handler:<department>[,…], supervisor, reviewer, "
                                     "auditor or admin")],
    user: Annotated[str, typer.Option(help="the person's name; default: the role")] = "",
    hours: Annotated[int, typer.Option(min=1, max=24 * 30, help="how long it is valid")] = 12,
) -> None:  # fmt: skip
    """Print a bearer token of the built-in issuer, and nothing else."""
    try:
        print(issued(read_settings(), as_, user, hours * 3600))
    except (ValueError, JiebanError) as error:
        fail(str(error))


@app.command("add")
def client_add(
    client_id: Annotated[str, typer.Argument(help="name of the machine, such as jn12345")],
    role: Annotated[str, typer.Option(help="what it may do")] = "hotline",
) -> None:
    """Register a machine; prints its secret once."""
    settings = needs_database()
    try:
        if role not in set(Role):
            raise ValueError(
                f"{role!r} is not a role; roles of machines: {', '.join(r for r in Role if r != 'handler')}"
            )
        print(in_house(lambda house: identity.create_client(house, client_id, Role(role)), settings))
    except (ValueError, JiebanError) as error:
        fail(str(error))


def issued(settings: Settings, who: str, user: str = "", seconds: int = 12 * 3600) -> str:
    role, departments = identity.parse_as(who)
    issuer = bootstrap.issuer_of(settings)
    if issuer is None:
        raise ValueError("JIEBAN_BUILTIN_ISSUER=0: tokens come from your identity provider")
    return issuer.issue(identity.subject_of(role, departments, user), role, departments, seconds, clock.wall_now())
