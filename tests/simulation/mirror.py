"""Both cities at once: each thing that happens is done to the real one and to the model, and must be allowed by both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

from service.core.errors import JiebanError
from service.core.model import Ticket as Stored
from tests.conftest import UNROUTED, request_body
from tests.simulation import acts, docket, joins
from tests.simulation.acts import ACTS
from tests.simulation.compare import JINAN, differences, unexplained
from tests.simulation.days import Days
from tests.simulation.model import Rules, Ticket
from tests.simulation.real import Real

WORDS: Mapping[str, Mapping[str, Any]] = {
    "submit_plan": {"plan": "p"},
    "request_return": {"ground": "not_our_duty", "reason": "r"},
    "request_extension": {"ground": "funds_or_season", "reason": "r"},
    "request_pause": {"reason": "r", "evidence": "e"},
    "submit_reply": {"public_reply": "p"},
    "reject_reply": {"reason": "r"},
    "escalate": {"reason": "r"},
    "comment": {"text": "t"},
    "reclassify": {"reason": "r"},
    "reopen": {"reason": "r"},
    "withdraw": {"reason": "r"},
}
"""What the forms ask for besides what the model looks at."""


class Different(AssertionError):
    """The two cities are not the same any more; says since when, and all that happened to the ticket."""


class Mirror:
    """Tickets are called T1, T2… in the order in which they came."""

    def __init__(self, real: Real, rules: Rules, now: datetime) -> None:
        self.real, self.rules, self.now = real, rules, now
        self.models: dict[str, Ticket] = {}
        self.ids: dict[str, str] = {}
        self.stored: dict[str, Stored] = {}
        self.told: dict[str, list[str]] = {}
        self.touched: set[str] = set()
        """What changed and was not compared yet."""
        self.steps = self.refused = self.compared = 0
        self._names = (f"T{n}" for n in count(1))

    # --- time

    async def begin(self) -> None:
        await self.real.forget()
        await self.real.set_time(self.now)

    async def wait(self, gap: timedelta) -> None:
        """Time goes on and no pump runs."""
        self.now += gap
        await self.real.set_time(self.now)

    async def wait_until(self, then: datetime) -> None:
        await self.wait(max(then - self.now, timedelta()))

    async def pump(self, hands: int = 1) -> None:
        """The timers are looked at, maybe by several pumps at once."""
        await self.real.pump(hands)
        self._timers(f"{hands} pump(s)")

    async def advance(self, gap: timedelta) -> None:
        """The sandbox's own clock is moved: what is due on the way fires at its own instant."""
        self.now += gap
        await self.real.advance(self.now)
        self._timers("the sandbox's clock moves on")

    def _timers(self, how: str) -> None:
        for name, ticket in self.models.items():
            first = ticket.next_step_at()
            if first is not None and first <= self.now:
                known = len(ticket.fired)
                ticket.catch_up(self.now, timers=True)
                self._tell(name, f"{how}: {', '.join(f'{f.clock[0]} {f.rung}' for f in ticket.fired[known:])}")

    async def publish(self, calendar: Mapping[str, Any]) -> None:
        """The notice of a year comes out: a new version of the calendar reaches every open clock."""
        await self.real.publish(calendar)
        self.rules.days = Days(calendar)
        for name, ticket in self.models.items():
            if ticket.count_anew(self.now):
                self._tell(name, "counted anew by a new calendar")

    # --- tickets

    async def post(self, domain: str, urgency: str, age: timedelta, *, routed: bool) -> str:
        """One request comes in, `age` after the hotline took it."""
        received = self.now - age
        more: dict[str, Any] = {"matter": "foreign_trade"} if routed else dict(UNROUTED)
        more |= {"domain": domain, "urgency": urgency}
        shown = await self.real.post(request_body(**more, source={"received_at": received.isoformat()}))
        lead = shown["lead"]["department"] if shown["lead"] else ""
        model = acts.opened(self.rules, domain, urgency, received, lead, shown["co_handlers"], self.now)
        name = self._known(shown["id"], model)
        self._tell(name, f"posted: {domain}, {urgency}, received {_local(received)}, lead {lead or 'nobody'}")
        return name

    def _known(self, ticket_id: str, model: Ticket) -> str:
        name = next(self._names)
        self.ids[name], self.models[name], self.told[name] = ticket_id, model, []
        return name

    async def act(self, name: str, action: str, unit: str | None = None, **form: Any) -> bool:
        """An action of the workflow; whether it was possible, which both must say."""
        by = f"handler:{unit}" if ACTS[action].by == "handler" else ACTS[action].by
        if action == "approve_reply":
            by = "supervisor"
        ahead = self.models[name].ahead(self.now)
        possible = ACTS[action].possible(ahead, unit, form)
        filled = {**WORDS.get(action, {}), **form}
        work = self.real.act(self.ids[name], action, by, filled)
        if await self._agree((name,), f"{by} {action} {form or ''}", work, possible):
            self.models[name] = ahead
            acts.perform(ahead, action, unit, form, self.now)
        return possible

    async def decide(self, name: str, kind: str, *, approve: bool) -> bool:
        """A pending request is decided; what is not pending cannot be."""
        ahead = self.models[name].ahead(self.now)
        approval = next(a.id for a in reversed(self.stored[name].approvals) if a.kind == kind)
        what = f"dispatcher {'grants' if approve else 'denies'} the {kind}"
        work = self.real.decide(approval, approve)
        if possible := await self._agree((name,), what, work, kind in ahead.requests):
            self.models[name] = ahead
            acts.decide(ahead, kind, approve, self.now)
        return possible

    async def review(self, name: str, step: str, **form: Any) -> bool:
        """A step of the docket on the ticket's newest review."""
        ahead = self.models[name].ahead(self.now)
        newest = ahead.reviews[-1]
        told = {k: v for k, v in form.items() if k != "unit"} | {"text": "t", "reason": "r", "position": "agree"}
        who = f"handler:{form['unit']}" if "unit" in form else "reviewer"
        work = self.real.review(self.stored[name].reviews[-1].id, step, who, told)
        if possible := await self._agree(
            (name,), f"{who} {step} {form}", work, docket.possible(ahead, newest, step, form, self.now)
        ):
            self.models[name] = ahead
            docket.perform(ahead, newest, step, form, self.now)
        return possible

    async def measure(self, name: str, number: int, step: str, **form: Any) -> bool:
        ahead = self.models[name].ahead(self.now)
        task = ahead.tasks[number]
        who = f"handler:{task.department}" if step in {"submit_evidence", "report"} else "reviewer"
        told = form | {"evidence": "e", "text": "t", "reason": "r", "waive": step == "waive"}
        told |= {"enterprise_opinion": "satisfied"}
        real_step = "strike_off" if step == "waive" else step
        work = self.real.measure(self.stored[name].measures[number].id, real_step, who, told)
        if possible := await self._agree(
            (name,), f"{who} {step} measure {number} {form}", work, docket.possible_for(task, step)
        ):
            self.models[name] = ahead
            docket.perform_for(ahead, task, step, form, self.now)
        return possible

    async def merge(self, name: str, into: str) -> bool:
        merged, survivor = self.models[name].ahead(self.now), self.models[into].ahead(self.now)
        possible = name != into and joins.may_merge(merged, survivor)
        work = self.real.join(self.ids[name], "merge", {"into": self.ids[into], "reason": "the same matter"})
        if await self._agree((name, into), f"dispatcher merges {name} into {into}", work, possible):
            self.models[name], self.models[into] = merged, survivor
            joins.merge(merged, survivor, self.now)
        return possible

    async def split(self, name: str, domain: str, unit: str) -> bool:
        whole = self.models[name].ahead(self.now)
        part = {"title": "a part", "description": "of it", "domain": domain, "department": unit}
        answers: list[dict[str, Any]] = []

        async def work() -> None:
            answers.append(await self.real.join(self.ids[name], "split", {"parts": [part], "reason": "two matters"}))

        if possible := await self._agree(
            (name,), f"dispatcher splits off {domain} for {unit}", work(), joins.may_split(whole)
        ):
            self.models[name] = whole
            made = joins.split_off(whole, domain, unit, [], self.now)
            part_name = self._known(answers[0]["parts"][-1]["id"], made)
            self._tell(part_name, f"split off {name}: {domain} for {unit}")
        return possible

    async def _agree(self, names: tuple[str, ...], what: str, work: Awaitable[Any], possible: bool) -> bool:
        self.steps += 1
        for name in names:
            self._tell(name, what + ("" if possible else " (refused)"))
        try:
            await work
        except JiebanError as error:
            self.refused += 1
            if possible:
                self._fail(names[0], [f"refused by the real city, possible by the model: {error!r} {error}"])
            return False
        if not possible:
            self._fail(names[0], ["done by the real city, impossible by the model"])
        return True

    # --- comparing

    async def compare(self, names: Iterable[str], explained: Callable[[int], int] = lambda n: 0) -> None:
        """These tickets are the same in both cities. `explained` picks which of n open clocks is asked why."""
        names = list(names)
        self.compared += len(names)
        self.touched.difference_update(names)
        stored, firings, numbered = await self.real.look([self.ids[name] for name in names])
        for name in names:
            ticket_id = self.ids[name]
            self.stored[name] = ticket = stored[ticket_id]
            found = differences(self.models[name], ticket, firings[ticket_id], numbered[ticket_id])
            if not found and (alive := [c for c in ticket.clocks if c.open]):
                clock = alive[explained(len(alive))]
                found = unexplained(await self.real.explain(ticket_id, clock.id), clock)
            if found:
                self._fail(name, found)

    async def check(self) -> None:
        """The service's own check of what is stored finds nothing wrong."""
        if found := await self.real.unsound():
            raise Different("\n".join(found))

    def _tell(self, name: str, what: str) -> None:
        self.touched.add(name)
        self.told[name].append(f"{_local(self.now)}  {what.strip()}")

    def _fail(self, name: str, found: list[str]) -> None:
        history = "\n  ".join(self.told[name])
        different = "\n  ".join(found)
        raise Different(f"{name} ({self.models[name].flow}) lived:\n  {history}\nand is different:\n  {different}")

    # --- looking

    def today(self) -> date:
        return self.now.astimezone(JINAN).date()


def _local(at: datetime) -> str:
    told = at.astimezone(JINAN)
    return told.strftime("%a %Y-%m-%d %H:%M") + (f":{told:%S.%f}" if told.second or told.microsecond else "")
