"""The city as the script knows it: its tickets, its agenda, its chance, and the clock everybody lives by."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from service import clock
from service.demo.errors import DemoFailed
from service.demo.http import Api

LOCAL = timezone(timedelta(hours=8))
SLOTS = (time(9, 30), time(9, 55), time(11), time(14), time(14, 25), time(15, 30), time(17))
DAY = len(SLOTS)
"""Steps of a working day. Two of them take in requests; the one after each leaves time to accept within the hour."""
POST_SLOTS = (0, 3)


@dataclass(eq=False)
class Case:
    """What the script remembers of one ticket between two looks at it."""

    key: str
    id: str
    number: str
    text: str
    mood: str
    domain: str = ""
    urgency: str = ""
    stage: str = ""
    lead: str | None = None
    co_handlers: tuple[str, ...] = ()
    round: int = 1
    due_day: int = 0
    """Index of the working day on which the resolve clock is due."""
    plan: int = 0
    """Number of the plan in force; what an older one wanted is dropped."""
    busy_until: int = -1
    """The step up to which the handler means to ask for something or to reply."""
    waits_for: str = ""
    """What the handler waits for before anything else: a decision on a request, or the docket."""
    suggested: str | None = None
    returned: bool = False
    rejected_in: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    def first_seen(self, where: str, step: int) -> int:
        """The step at which somebody had this ticket in that list first, counted anew in each round."""
        return self.seen.setdefault(f"{where}/{self.round}", step)


Act = tuple[Case, int, str, Any]
"""Of the agenda: the ticket, the number of the plan it belongs to (-1: of any), what to do, and with what."""


class City:
    """The tickets and the agenda of this run, and the clock that everybody lives by."""

    def __init__(self, api: Api, seed: int, clients: int) -> None:
        self.api, self.seed, self.clients = api, seed, clients
        self.prefix = ""
        self.run_id = clock.new_id()[-12:]
        self._now, self._asked = datetime.min.replace(tzinfo=LOCAL), 0.0
        self.days: list[date] = []
        self.total_days = 0
        self.step = 0
        self.arrivals: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.requests = self.posted = self.refused = 0
        self.cases: dict[str, Case] = {}
        self.agenda: dict[int, list[Act]] = defaultdict(list)
        self.reviews: dict[str, str] = {}  # state of the docket's matters, as last seen

        self.leads: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.units: dict[str, dict[str, Any]] = {}
        self._pools: dict[str, list[str]] = {}

    # --- chance and time

    def chance(self, *what: object) -> float:
        """A number from 0 up to 1 that belongs to this seed and this question, whenever it is asked."""
        told = hashlib.sha256("/".join(map(str, (self.seed, *what))).encode()).digest()
        return int.from_bytes(told[:8]) / 2**64

    def pick(self, options: Sequence[str], *what: object) -> str:
        return options[int(self.chance(*what) * len(options))]

    def between(self, low: int, high: int, *what: object) -> int:
        return low + int(self.chance(*what) * (high - low + 1))

    def at(self, step: int) -> datetime:
        return datetime.combine(self.days[step // DAY], SLOTS[step % DAY], LOCAL)

    @property
    def steps(self) -> int:
        return self.total_days * DAY

    async def prepare(self, bodies: Sequence[dict[str, Any]], weeks: int) -> None:
        """Ask for the time and the working days, and spread the arrivals over the first half of the weeks."""
        now = (await self._must("/v1/sandbox/clock"))["now"]
        self._now, self._asked = datetime.fromisoformat(now), clock.monotonic()
        told = await self._must("/v1/clocks/what-if", anchor=now, measure="working_days", budget=weeks * 5 + 40)
        self.days = [date.fromisoformat(d["date"]) for d in told["explanation"]["days"] if d["counted"]]
        end = self.days[0] + timedelta(days=7 * weeks)
        self.total_days = max(1, sum(d < end for d in self.days))
        if (await self._must("/v1/tickets", limit=1))["items"]:
            self.prefix = f"{self.run_id[-6:]}-"
        self.units = {u["code"]: u for u in (await self._must("/v1/departments"))["items"]}
        pools: dict[str, list[str]] = defaultdict(list)
        for matter in (await self._must("/v1/matters"))["items"]:
            if matter["lead"] in self.units:
                pools[matter.get("domain") or ""].append(matter["lead"])
        self._pools = pools
        self.requests = len(bodies)
        arriving = math.ceil(self.total_days / 2)
        for n, body in enumerate(bodies):
            day = min(n * arriving // len(bodies), arriving - 1)
            slot = POST_SLOTS[0] if self.chance(body["source"]["reference"], "arrival") < 0.55 else POST_SLOTS[1]
            self.arrivals[day * DAY + slot].append(body)

    async def advance(self) -> None:
        """To this step's hour, unless it took so long to get here that it has come by itself."""
        target = self.at(self.step)
        if self._now + timedelta(seconds=clock.monotonic() - self._asked) >= target:
            return
        form = {"advance_to": target.isoformat()}
        done, told = await self.api.act("supervisor", "/v1/sandbox/clock", form, f"{self.run_id}-{self.step}")
        if not done:
            raise DemoFailed(f"the sandbox's clock cannot be moved: {told.get('detail') or told}")
        self._now, self._asked = datetime.fromisoformat(told["now"]), clock.monotonic()

    async def _must(self, path: str, **params: Any) -> Any:
        found = await self.api.get("dispatcher", path, **params)
        if found is None:
            raise DemoFailed(f"GET {path}: {next(iter(self.api.unexpected))}")
        return found

    # --- tickets

    def learn(self, case: Case, ticket: Mapping[str, Any]) -> None:
        """What an answer of the service tells about the ticket."""
        case.stage, case.round = ticket["stage"], ticket["round"]
        case.domain, case.urgency = ticket["domain"], ticket["urgency"]
        case.lead = ticket["lead"]["department"] if ticket["lead"] else None
        case.co_handlers = tuple(ticket["co_handlers"])
        resolve = max((c for c in ticket["clocks"] if c["name"] == "resolve"), key=lambda c: c["cycle"], default=None)
        if resolve is not None:
            due = datetime.fromisoformat(resolve["due_at"]).astimezone(LOCAL) - timedelta(seconds=1)
            case.due_day = bisect_left(self.days, due.date())

    def later(self, case: Case, step: int, act: str, data: Any = None, *, plan: int | None = None) -> int:
        """Put it on the agenda. `plan` -1: it holds whatever becomes of the plan."""
        step = max(step, self.step + 1)
        self.agenda[step].append((case, case.plan if plan is None else plan, act, data))
        if act in {"reply", "return", "extension", "pause", "resume"}:
            case.busy_until = step
        return step

    async def act(self, case: Case, who: str, action: str, form: Mapping[str, Any]) -> bool:
        """One action of the ticket's workflow. When it is too late for it, the answer says where the ticket is."""
        key = f"{self.run_id}-{self.step}-{action}-{who}"
        done, told = await self.api.act(who, f"/v1/tickets/{case.id}/actions/{action}", form, key)
        if done:
            self.learn(case, told)
        elif told.get("type", "").endswith("action-not-possible"):
            case.stage = told["stage"]
        return done

    async def queue(self, who: str, phase: str | None = None) -> list[Case]:
        """This run's tickets in somebody's queue, brought up to date from it."""
        found = []
        for item in await self.api.items(who, "/v1/queue", phase=phase):
            case = self.cases.get(item["id"])
            if case is not None:
                case.stage, case.round = item["stage"], item["round"]
                case.lead = item["lead"]["department"] if item["lead"] else None
                found.append(case)
        return found

    def plausible(self, case: Case, besides: str | None = None) -> str:
        """A unit that the text names, or one that leads matters of this domain."""
        avoid = {case.lead, besides}
        for code, unit in self.units.items():
            names = [unit["title"]["zh"].removeprefix("市"), *(unit.get("aliases") or ())]
            if code not in avoid and any(name in case.text for name in names):
                return code
        pool = self._pools.get(case.domain) or list(self.units)
        return self.pick([u for u in pool if u not in avoid] or list(self.units), case.key, besides, "unit")

    def count(self) -> tuple[int, int, int]:
        """Tickets open, tickets closed, matters on the docket."""
        closed = sum(c.stage == "closed" for c in self.cases.values())
        docket = sum(state in {"proposed", "preparing", "decided"} for state in self.reviews.values())
        return len(self.cases) - closed, closed, docket
