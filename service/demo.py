"""The demonstration: a city at work for some weeks, over HTTP alone.

Requests are posted day by day by several clients while the sandbox's clock moves from one working hour to the next.
Scripted people act on them through the same API as everybody: a dispatcher, a hotline caller, a reviewer, and one
handler for each department that has tickets. What each of them does is a hash of the seed, the request's own key and
the question ("is this one late?"), so it does not depend on which answer came first: the same seed, the same city.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from service import clock

ROLES = ("hotline", "dispatcher", "reviewer", "supervisor")
SHIPPED = Path(__file__).resolve().parent.parent / "workflows" / "demo" / "requests.jsonl"
LOCAL = timezone(timedelta(hours=8))
SLOTS = (time(9, 30), time(9, 55), time(11), time(14), time(14, 25), time(15, 30), time(17))
DAY = len(SLOTS)
"""Steps of a working day. Two of them take in requests; the one after each leaves time to accept within the hour."""
POST_SLOTS, DISPATCH_SLOTS, AUDIT_SLOTS, APPROVAL_SLOT, CALLBACK_SLOT, REVIEW_SLOT = (0, 3), (1, 4), (2, 6), 3, 5, 3
REVIEW_WEEKDAYS = (1, 4)  # Tuesday and Friday: the screening of a proposal has three working days
AT_ONCE = 16
ATTEMPTS = 8
PAGE = 200
UNNAMED = "未具名企业"
WIDTH = 132


class DemoFailed(Exception):
    """The demonstration cannot go on, or the service answered what it should not; the message is for the terminal."""


def run(
    url: str,
    tokens: Mapping[str, str],
    mint: Callable[[str], str],
    bodies: Sequence[dict[str, Any]],
    weeks: int,
    clients: int,
    seed: int,
) -> None:
    """Drive the running sandbox at `url`. `tokens`: one for each of ROLES; `mint` makes those of the handlers.

    `bodies`: what `read_requests` gave. Raises DemoFailed when the service gives an answer that nothing explains.
    """
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False)
    asyncio.run(_show(console, url, tokens, mint, bodies, weeks, clients, seed))


async def _show(
    console: Console,
    url: str,
    tokens: Mapping[str, str],
    mint: Callable[[str], str],
    bodies: Sequence[dict[str, Any]],
    weeks: int,
    clients: int,
    seed: int,
) -> None:
    async with Api.open(url, max(AT_ONCE, clients), tokens, mint) as api:
        city = City(api, seed, clients)
        await city.prepare(bodies, weeks)
        if city.prefix:
            console.print(f"[yellow]This data folder holds tickets already:[/] references of this run begin with "
                          f"{city.prefix}; the tables below include the earlier ones.")  # fmt: skip
        with _progress(console, city, weeks) as tell:
            await city.live(tell)
        await _tables(console, api, city, weeks)
        await _links(console, api, city, url)
    _verdict(console, api, city)


# --- requests ----------------------------------------------------------------------------------------------------


def read_requests(path: Path) -> Iterator[dict[str, Any]]:
    """Bodies of POST /v1/tickets, one a line; a file of another form is mapped. Raises DemoFailed naming the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DemoFailed(f"{path} cannot be read: {error}") from None
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            # NaN, Infinity and 1e999 are nothing that JSON can carry on; as words they still reach the ticket
            row = _clean(json.loads(line, parse_constant=str, parse_float=_finite))
        except (ValueError, RecursionError) as error:
            raise DemoFailed(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DemoFailed(f"{path}, line {number}: expected a JSON object, not a {type(row).__name__}")
        body = as_body(row, number)
        source = body["source"]
        if (source["system"], source["reference"]) in seen:
            source["reference"] = f"{source['reference'][:110]}-line{number}"
        seen.add((source["system"], source["reference"]))
        yield body
    if not seen:
        raise DemoFailed(f"{path} holds no requests")


def _finite(text: str) -> float | str:
    return float(text) if math.isfinite(float(text)) else text


def _clean(value: Any) -> Any:
    """Without what no text in UTF-8 or in the database can hold: NUL and halves of surrogate pairs."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, dict):
        return {_clean(k): _clean(v) for k, v in value.items()}
    return value


CONTRACT = frozenset(
    {"source", "domain", "request_type", "matter", "title", "description", "urgency", "confidential",
     "reply_required", "enterprise", "contact", "location", "project", "extra"}
)  # fmt: skip
TITLE_KEYS = ("title", "subject", "标题", "question", "问题")
TEXT_KEYS = ("description", "text", "body", "content", "内容", "question", "问题", "title")
NAME_KEYS = ("enterprise", "enterprise_name", "company", "企业名称", "企业")
REFERENCE_KEYS = ("id", "reference", "number", "编号")


def as_body(row: Mapping[str, Any], line: int) -> dict[str, Any]:
    """A row in the contract's form is taken as it is; of any other, the fields that mean the same are found."""
    if isinstance(row.get("source"), dict) and isinstance(row.get("enterprise"), dict):
        source = {"system": "file", **row["source"]}
        source["reference"] = str(source.get("reference") or f"line-{line:05d}")
        body = {**{k: v for k, v in row.items() if k in CONTRACT}, "source": source}
        unknown = {k: v for k, v in row.items() if k not in CONTRACT}
        return {**body, "extra": {**unknown, **(row.get("extra") or {})}} if unknown else body
    text = _first(row, TEXT_KEYS) or json.dumps(row, ensure_ascii=False)
    title = _first(row, TITLE_KEYS) or text.strip()[:60]
    reference = _first(row, REFERENCE_KEYS) or f"line-{line:05d}"
    system = re.sub(r"[^\x21-\x7e]+", "-", _first(row, ("source", "system", "来源"))).strip("-")
    # each row an enterprise of its own: two callers nobody knows are not the same caller
    name = _first(row, NAME_KEYS) or f"{UNNAMED}（{reference}）"
    used = {"title", "description", "text", "id", "source"}
    kept = {k: v for k, v in row.items() if k not in used or not isinstance(v, str)}
    # received_at stays among these: the original came years ago, and as the ticket's own it would be overdue at once
    extra = {k[:200]: v if _small(v) else json.dumps(v, ensure_ascii=False)[:2000] for k, v in list(kept.items())[:200]}
    return {
        "source": {"system": system[:64] or "file", "reference": reference[:110], "channel": "file"},
        "title": title[:500],
        "description": text[:20_000],
        "enterprise": {"name": name[:200]},
        "extra": extra,
    }


def _small(value: Any) -> bool:
    return not isinstance(value, list | dict) and (not isinstance(value, int) or abs(value) < 2**53)


def _first(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    for key in keys:
        value = row.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


# --- the API -----------------------------------------------------------------------------------------------------


class Api:
    """Calls with retries; keeps count of answers that were not hoped for."""

    def __init__(self, tokens: Mapping[str, str], mint: Callable[[str], str]) -> None:
        self._tokens, self._mint = dict(tokens), mint
        self._free: asyncio.Queue[httpx.AsyncClient] = asyncio.Queue()
        self.calls = 0
        self.overtaken: Counter[str] = Counter()
        """409 and 403: a timer or another person was there first."""
        self.unexpected: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, connections: int, tokens: Mapping[str, str], mint: Callable[[str], str]
    ) -> AsyncIterator[Api]:
        """One client for each connection: a pool that several requests share is looked through for each of them."""
        api, tls = cls(tokens, mint), httpx.create_ssl_context()
        async with AsyncExitStack() as stack:
            for _ in range(connections):
                client = httpx.AsyncClient(base_url=url, timeout=300.0, trust_env=False, verify=tls)
                api._free.put_nowait(await stack.enter_async_context(client))
            yield api

    async def get(self, who: str, path: str, **params: Any) -> Any:
        answer = await self._send(who, "GET", path, params={k: v for k, v in params.items() if v is not None})
        if answer.status_code != 200:
            self.note("GET", path, answer)
            return None
        return answer.json()

    async def items(self, who: str, path: str, **params: Any) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.get(who, path, limit=PAGE, cursor=cursor, **params)
            found += page["items"] if page else []
            cursor = page["next_cursor"] if page else None
            if cursor is None:
                return found

    async def act(self, who: str, path: str, form: Mapping[str, Any], key: str) -> tuple[bool, Any]:
        """A write: (done, the answer). A 409 or 403 is what happens among many people; all else is noted."""
        answer = await self._send(who, "POST", path, body=form, key=key)
        if answer.is_success:
            return True, answer.json()
        if answer.status_code in {403, 409}:
            self.overtaken[f"{answer.status_code} {path.rsplit('/', 1)[-1]}: {_problem(answer)}"] += 1
        else:
            self.note("POST", path, answer)
        return False, _json(answer)

    async def post_ticket(self, body: Mapping[str, Any], key: str) -> httpx.Response:
        return await self._send("hotline", "POST", "/v1/tickets", body=body, key=key)

    def note(self, method: str, path: str, answer: httpx.Response) -> None:
        shape = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|QY\d+", "{id}", path)
        self.unexpected[f"{method} {shape} → {answer.status_code} {_problem(answer)}"] += 1

    async def _send(
        self, who: str, method: str, path: str, *, params: Any = None, body: Any = None, key: str | None = None
    ) -> httpx.Response:
        if who not in self._tokens:
            self._tokens[who] = self._mint(who)
        headers = {"Authorization": f"Bearer {self._tokens[who]}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        why = ""
        for attempt in range(ATTEMPTS):
            self.calls += 1
            pause = min(0.1 * 2**attempt, 5.0)
            http = await self._free.get()
            try:
                answer = await http.request(method, path, params=params, json=body, headers=headers)
            except httpx.TransportError as error:
                why = repr(error)
            else:
                busy = answer.status_code == 409 and "retry-after" in answer.headers
                if answer.status_code not in {429, 503} and not busy:
                    return answer
                why = f"{answer.status_code} {_problem(answer)}"
                given = answer.headers.get("retry-after", "")
                pause = min(float(given), 5.0) if given.isdigit() else pause
            finally:
                self._free.put_nowait(http)
            await asyncio.sleep(pause)
        raise DemoFailed(f"{method} {path} was tried {ATTEMPTS} times in vain; the last time: {why}")


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return {}


def _problem(answer: httpx.Response) -> str:
    told = _json(answer)
    if not isinstance(told, dict):
        return answer.text[:200]
    fields = "; ".join(f"{e.get('pointer')}: {e.get('detail')}" for e in told.get("errors") or ())
    return f"{told.get('detail') or answer.text[:200]}{' (' + fields + ')' if fields else ''}"


# --- the city ----------------------------------------------------------------------------------------------------

MOODS = (
    ("untouched", 0.04),
    ("return", 0.06),
    ("extension", 0.07),
    ("pause", 0.05),
    ("late", 0.12),
    ("escalate", 0.02),
)
WORKABLE = frozenset({"accepting", "handling"})
PLANS = (
    "已与企业核对情况，拟先查阅登记材料，再与相关处室会商，按期书面答复。",
    "安排专人上门走访，三日内提出处理意见并告知企业。",
    "涉及两个处室，由综合处牵头研究，形成一致意见后答复。",
)
REPLIES = (
    "经核实，您反映的问题已处理完毕，相关手续已办结，感谢对我们工作的监督。",
    "已按规定为企业办理，并指定专人跟踪服务，如有新的困难请直接联系经办人。",
    "经现场核查，情况属实，已责成相关单位整改，整改结果附后。",
    "依据现行规定，该事项暂不具备办理条件，所需补充的材料已一次性告知企业。",
)
OUTCOMES = ("solved",) * 6 + ("service_confirmed", "explained_no_basis", "planned", "not_true")
REASONS = {
    "return": "该事项不属于本单位职责范围，建议转请职能单位办理。",
    "extension": "需会同多个单位现场勘验并研究，预计不能在原时限内办结。",
    "pause": "等待企业补充材料，已书面一次性告知。",
    "escalate": "涉及多个单位和历史遗留问题，单一部门无法解决，提请一事一议。",
}
MEASURES = ("制定专项解决方案并报批", "协调落实相关指标与资金", "完成现场整改并经企业确认")
DOMAINS = {
    "project_landing": "landing 项目落地",
    "business_development": "development 经营发展",
    "government_service": "services 政府服务",
    "complaint_report": "complaints 投诉举报",
    "consultation": "consultation 咨询求助",
}


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
Tell = Callable[[], None]


class City:
    """The people, their agenda, and the clock they live by."""

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

    async def _must(self, path: str, **params: Any) -> Any:
        found = await self.api.get("dispatcher", path, **params)
        if found is None:
            raise DemoFailed(f"GET {path}: {next(iter(self.api.unexpected))}")
        return found

    async def live(self, tell: Tell) -> None:
        """All steps, one after the other; the clock moves first, then everybody whose hour it is acts."""
        for step in range(self.steps):
            self.step = step
            duties = list(self._duties(step % DAY))
            if duties or step % DAY == DAY - 1:
                await self._advance()
            for duty in duties:
                await duty()
            tell()

    def _duties(self, slot: int) -> Iterator[Callable[[], Awaitable[None]]]:
        """What is to be done at this step, in order. An hour at which nobody has anything to do is passed over."""
        stages = {c.stage for c in self.cases.values()}
        if self.step in self.arrivals:
            yield self._post
        if slot == 0 and stages & {"accepting", "handling", "waiting"}:
            yield self._look_round
        if slot in DISPATCH_SLOTS and "dispatching" in stages:
            yield self._dispatch
        if slot == APPROVAL_SLOT and any(c.waits_for in {"return", "extension", "pause"} for c in self.cases.values()):
            yield self._decide_requests
        if slot == REVIEW_SLOT and self.days[self.step // DAY].weekday() in REVIEW_WEEKDAYS:
            yield self._docket
        if self.step in self.agenda:
            yield self._handle
        if slot in AUDIT_SLOTS and "auditing" in stages:
            yield self._audit
        if slot == CALLBACK_SLOT and stages & {"callback", "reviewing"}:
            yield self._call_back

    async def _advance(self) -> None:
        """To this step's hour, unless it took so long to get here that it has come by itself."""
        target = self.at(self.step)
        if self._now + timedelta(seconds=clock.monotonic() - self._asked) >= target:
            return
        form = {"advance_to": target.isoformat()}
        done, told = await self.api.act("supervisor", "/v1/sandbox/clock", form, f"{self.run_id}-{self.step}")
        if not done:
            raise DemoFailed(f"the sandbox's clock cannot be moved: {told.get('detail') or told}")
        self._now, self._asked = datetime.fromisoformat(told["now"]), clock.monotonic()

    # --- requests come in

    async def _post(self) -> None:
        bodies = self.arrivals.pop(self.step)
        waiting = iter(bodies)

        async def client() -> None:
            for body in waiting:
                await self._post_one(body)

        await asyncio.gather(*(client() for _ in range(min(self.clients, len(bodies)))))

    async def _post_one(self, body: dict[str, Any]) -> None:
        key = body["source"]["reference"]
        body = {**body, "source": {**body["source"], "reference": f"{self.prefix}{key}"[:128]}}
        answer = await self.api.post_ticket(body, f"{self.run_id}-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
        self.posted += 1
        if not answer.is_success:
            self.refused += 1
            self.api.note("POST", "/v1/tickets", answer)
            return
        ticket = answer.json()
        mood = self._mood(key, ticket["urgency"])
        case = Case(key, ticket["id"], ticket["number"], f"{ticket['title']} {ticket['description']}", mood)
        self.cases[case.id] = case
        self._learn(case, ticket)
        self.warnings.update(w["code"] for w in ticket["warnings"])
        self.leads[case.lead or ""] += 1
        if case.stage == "accepting":
            self._assigned(case)
        if self.chance(key, "withdrawn") < 0.02:
            self._later(case, self.step + self.between(2, 3 * DAY, key, "withdrawn when"), "withdraw", plan=-1)

    def _mood(self, key: str, urgency: str) -> str:
        dice = self.chance(key, "mood")
        for mood, share in MOODS:
            dice -= share
            if dice < 0:
                return "" if mood == "extension" and urgency == "emergency" else mood
        return ""

    def _learn(self, case: Case, ticket: Mapping[str, Any]) -> None:
        """What an answer of the service tells about the ticket."""
        case.stage, case.round = ticket["stage"], ticket["round"]
        case.domain, case.urgency = ticket["domain"], ticket["urgency"]
        case.lead = ticket["lead"]["department"] if ticket["lead"] else None
        case.co_handlers = tuple(ticket["co_handlers"])
        resolve = max((c for c in ticket["clocks"] if c["name"] == "resolve"), key=lambda c: c["cycle"], default=None)
        if resolve is not None:
            due = datetime.fromisoformat(resolve["due_at"]).astimezone(LOCAL) - timedelta(seconds=1)
            case.due_day = bisect_left(self.days, due.date())

    # --- what a handler means to do

    def _later(self, case: Case, step: int, act: str, data: Any = None, *, plan: int | None = None) -> int:
        """Put it on the agenda. `plan` -1: it holds whatever becomes of the plan."""
        step = max(step, self.step + 1)
        self.agenda[step].append((case, case.plan if plan is None else plan, act, data))
        if act in {"reply", "return", "extension", "pause", "resume"}:
            case.busy_until = step
        return step

    def _assigned(self, case: Case) -> None:
        """A department has a new ticket."""
        case.plan += 1
        key, mood = (case.key, case.plan), case.mood
        for unit in case.co_handlers:
            if self.chance(*key, unit, "answers") < 0.88:
                self._later(case, self.step + self.between(3, 2 * DAY, *key, unit), "co_reply", unit)
        if mood == "untouched":
            return
        if mood == "return" and not case.returned:
            self._later(case, self.step + 1, "return")
            return
        dice, begin = self.chance(*key, "accept"), self.step + DAY
        if dice < (0.5 if mood == "late" else 0.94):
            begin = self.step + (1 if dice < 0.8 else 2)
            self._later(case, begin, "accept")
        slow = self.chance(*key, "slow contact") < (0.3 if mood == "late" else 0.03)
        self._later(case, begin + (self.between(3, 9, *key, "contact") if slow else 0), "contact")
        ready = begin + (self.between(DAY, 2 * DAY, *key, "opinion") if slow else self.between(1, 5, *key, "opinion"))
        self._later(case, ready, "plan")
        self._continue(case, ready)

    def _continue(self, case: Case, ready: int) -> None:
        """After the plan: what this handler's temper leads to."""
        key, last = (case.key, case.plan), case.due_day * DAY + 5
        if case.mood == "extension" and last - ready >= 4:
            self._later(case, ready + self.between(1, last - ready - 2, *key, "asks"), "extension")
        elif case.mood in {"pause", "escalate"}:
            self._later(case, ready + self.between(1, 8, *key, "asks"), case.mood)
        else:
            self._will_reply(case, ready + 1, late=case.mood == "late")

    def _will_reply(self, case: Case, ready: int, *, late: bool = False) -> None:
        key, last = (case.key, case.plan, case.round), case.due_day * DAY + 5
        if late:
            days = 1 + int(9 * self.chance(*key, "late") ** 2)  # mostly a day or two
            ready = max(ready, (case.due_day + days) * DAY + self.between(0, 6, *key, "at"))
        elif last > ready:
            ready += int((last - ready) * self.chance(*key, "reply"))
        self._later(case, ready, "reply")

    def _wake(self, case: Case) -> None:
        """Somebody notices a ticket that nobody means to do anything about."""
        case.plan += 1
        case.waits_for = ""
        self._later(case, self.step + 1, "plan")
        self._later(case, self.step + self.between(3, 2 * DAY, case.key, case.plan, "wake"), "reply")

    # --- handlers

    async def _handle(self) -> None:
        """What is due by the agenda: each ticket's acts in their order, the tickets side by side."""
        due: dict[str, list[Act]] = defaultdict(list)
        for act in self.agenda.pop(self.step):
            due[act[0].id].append(act)
        await asyncio.gather(*(self._handle_one(acts) for acts in due.values()))

    async def _handle_one(self, acts: Sequence[Act]) -> None:
        for case, plan, act, data in acts:
            if plan in {-1, case.plan} and case.stage != "closed":
                await self._ACTS[act](self, case, data)

    async def _act(self, case: Case, who: str, action: str, form: Mapping[str, Any]) -> bool:
        """One action of the ticket's workflow. When it is too late for it, the answer says where the ticket is."""
        key = f"{self.run_id}-{self.step}-{action}-{who}"
        done, told = await self.api.act(who, f"/v1/tickets/{case.id}/actions/{action}", form, key)
        if done:
            self._learn(case, told)
        elif told.get("type", "").endswith("action-not-possible"):
            case.stage = told["stage"]
        return done

    async def _lead_acts(self, case: Case, action: str, form: Mapping[str, Any], stages: Iterable[str]) -> bool:
        if case.lead is None or case.stage not in stages:
            return False
        return await self._act(case, f"handler:{case.lead}", action, form)

    async def _accept(self, case: Case, _: Any) -> None:
        await self._lead_acts(case, "accept", {}, {"accepting"})

    async def _contact(self, case: Case, _: Any) -> None:
        form = {"channel": self.pick(("phone", "phone", "visit", "wechat"), case.key, "channel")}
        await self._lead_acts(case, "log_contact", form, {"accepting", "handling", "waiting", "reviewing"})

    async def _plan(self, case: Case, _: Any) -> None:
        await self._see_whether_accepted(case)
        await self._lead_acts(case, "submit_plan", {"plan": self.pick(PLANS, case.key, "plan")}, {"handling"})

    async def _reply(self, case: Case, _: Any) -> None:
        await self._see_whether_accepted(case)
        form = {
            "public_reply": self.pick(REPLIES, case.key, case.round, "reply"),
            "outcome": self.pick(OUTCOMES, case.key, case.round, "outcome"),
        }
        await self._lead_acts(case, "submit_reply", form, {"handling"})

    async def _see_whether_accepted(self, case: Case) -> None:
        """Silence may have accepted the ticket by now; what is possible is told by the service."""
        if case.stage == "accepting" and case.lead is not None:
            told = await self.api.get(f"handler:{case.lead}", f"/v1/tickets/{case.id}/actions")
            if told and told["stage"] == "accepting" and any(a["name"] == "accept" for a in told["items"]):
                await self._act(case, f"handler:{case.lead}", "accept", {})
            elif told:
                case.stage = told["stage"]

    async def _co_reply(self, case: Case, unit: str) -> None:
        if unit in case.co_handlers and case.stage == "handling":
            form = {"public_reply": "本单位协办意见：无不同意见，已将有关材料转主办单位。"}
            await self._act(case, f"handler:{unit}", "submit_reply", form)

    async def _ask(self, case: Case, kind: str, form: Mapping[str, Any], stages: Iterable[str]) -> None:
        if await self._lead_acts(case, f"request_{kind}", form, stages):
            case.waits_for = kind

    async def _ask_return(self, case: Case, _: Any) -> None:
        case.returned = True
        body = {"title": case.text[:500], "description": case.text[:2000], "domain": case.domain}
        _, told = await self.api.act(f"handler:{case.lead}", "/v1/routing/try", body, f"{self.run_id}-{case.id}-try")
        unit = told.get("lead")
        unit = unit if unit and unit != case.lead else self._plausible(case)
        ground = self.pick(("not_our_duty", "wrong_area", "level_wrong"), case.key, "ground")
        form = {"ground": ground, "reason": REASONS["return"], "suggested_department": unit}
        await self._ask(case, "return", form, WORKABLE)

    async def _ask_extension(self, case: Case, _: Any) -> None:
        days = self.between(1, 3, case.key, "days") if case.domain == "consultation" else 5
        form = {"ground": "complex_multi_department", "days": days, "reason": REASONS["extension"]}
        await self._ask(case, "extension", form, {"handling"})
        if case.waits_for != "extension":
            self._will_reply(case, self.step + 1)

    async def _ask_pause(self, case: Case, _: Any) -> None:
        form = {
            "kind": "waiting_enterprise",
            "reason": REASONS["pause"],
            "evidence": "一次性告知书",
            "days": self.between(4, 8, case.key, "pause"),
        }
        await self._ask(case, "pause", form, {"handling"})

    async def _resume(self, case: Case, _: Any) -> None:
        if await self._lead_acts(case, "resume", {"note": "企业已补充材料"}, {"waiting"}):
            self._will_reply(case, self.step + 2)

    async def _escalate(self, case: Case, _: Any) -> None:
        form = {"reason": REASONS["escalate"], "asked": "请明确牵头单位和完成时限", "tried": "已两次协调未果"}
        if await self._lead_acts(case, "escalate", form, WORKABLE):
            case.waits_for = "docket"

    async def _withdraw(self, case: Case, _: Any) -> None:
        await self._act(case, "hotline", "withdraw", {"reason": "企业来电表示问题已自行解决，申请撤单。"})

    async def _opine(self, case: Case, data: tuple[str, str]) -> None:
        review, unit = data
        position = self.pick(("agree", "agree", "condition", "disagree"), case.key, unit, "opinion")
        form = {"position": position, "text": "建议由主办单位牵头，我单位配合。", "legal_basis": "优化营商环境条例"}
        path = f"/v1/reviews/{review}/actions/give_opinion"
        await self.api.act(f"handler:{unit}", path, form, f"{self.run_id}-{review}-{unit}")

    async def _measure(self, case: Case, data: tuple[str, str, str]) -> None:
        measure, unit, action = data
        form = (
            {"text": "已召开专题会，正按计划推进。"} if action == "report" else {"evidence": "完成情况报告及企业确认单"}
        )
        path = f"/v1/measures/{measure}/actions/{action}"
        await self.api.act(f"handler:{unit}", path, form, f"{self.run_id}-{measure}-{action}")

    _ACTS: Mapping[str, Callable[[City, Case, Any], Awaitable[None]]] = {
        "accept": _accept,
        "contact": _contact,
        "plan": _plan,
        "reply": _reply,
        "co_reply": _co_reply,
        "return": _ask_return,
        "extension": _ask_extension,
        "pause": _ask_pause,
        "resume": _resume,
        "escalate": _escalate,
        "withdraw": _withdraw,
        "opinion": _opine,
        "measure": _measure,
    }

    async def _look_round(self) -> None:
        """The morning: every department looks through its queue and finds what changed without it."""
        stages = WORKABLE | {"waiting"}
        units = sorted({c.lead for c in self.cases.values() if c.lead and c.stage in stages and self._idle(c)})
        await asyncio.gather(*(self._look_through(unit) for unit in units))

    async def _look_through(self, unit: str) -> None:
        for case in await self._queue(f"handler:{unit}"):
            if case.lead == unit and case.stage == "handling" and self._idle(case):
                self._wake(case)

    def _idle(self, case: Case) -> bool:
        """Nobody means to do anything more, and not because that is the play."""
        return case.busy_until < self.step and not case.waits_for and case.mood not in {"untouched", "escalate"}

    async def _queue(self, who: str, phase: str | None = None) -> list[Case]:
        """This run's tickets in somebody's queue, brought up to date from it."""
        found = []
        for item in await self.api.items(who, "/v1/queue", phase=phase):
            case = self.cases.get(item["id"])
            if case is not None:
                case.stage, case.round = item["stage"], item["round"]
                case.lead = item["lead"]["department"] if item["lead"] else None
                found.append(case)
        return found

    # --- the dispatcher

    async def _dispatch(self) -> None:
        cases = await self._queue("dispatcher", "dispatch")
        await asyncio.gather(*(self._dispatch_one(case) for case in cases))

    async def _dispatch_one(self, case: Case) -> None:
        since = case.first_seen(f"dispatch{case.plan}", self.step)
        if self.chance(case.key, case.plan, "dispatcher busy") < 0.06 and self.step - since < 3:
            return
        unit = case.suggested or self._plausible(case)
        case.suggested = None
        form: dict[str, Any] = {"department": unit, "note": "请按时签收并先行联系企业。"}
        if self.chance(case.key, "co-handler") < 0.1:
            helper = self._plausible(case, besides=unit)
            form |= {"co_handlers": [helper]} if helper != unit else {}
        if await self._act(case, "dispatcher", "dispatch", form):
            self._assigned(case)

    def _plausible(self, case: Case, besides: str | None = None) -> str:
        """A unit that the text names, or one that leads matters of this domain."""
        avoid = {case.lead, besides}
        for code, unit in self.units.items():
            names = [unit["title"]["zh"].removeprefix("市"), *(unit.get("aliases") or ())]
            if code not in avoid and any(name in case.text for name in names):
                return code
        pool = self._pools.get(case.domain) or list(self.units)
        return self.pick([u for u in pool if u not in avoid] or list(self.units), case.key, besides, "unit")

    async def _decide_requests(self) -> None:
        pending = await self.api.items("dispatcher", "/v1/approvals", state="pending")
        own = [(self.cases[a["ticket"]["id"]], a) for a in pending if a["ticket"]["id"] in self.cases]
        await asyncio.gather(*(self._decide_request(case, a) for case, a in own))

    async def _decide_request(self, case: Case, approval: Mapping[str, Any]) -> None:
        kind = approval["kind"]
        since = case.first_seen(f"approval {approval['id']}", self.step)
        if self.chance(case.key, kind, "slow") < 0.1 and self.step == since:
            return
        share = {"return": 0.5, "extension": 0.75, "pause": 0.8}[kind]
        approve = self.chance(case.key, kind, case.plan, "approved") < share
        form = {
            "decision": "approve" if approve else "deny",
            "reason": "理由充分" if approve else "理由不充分，请按期办理",
        }
        done, _ = await self.api.act(
            "dispatcher", f"/v1/approvals/{approval['id']}/decision", form, f"{self.run_id}-{approval['id']}"
        )
        case.waits_for = ""
        if done:
            self._decided(case, kind, approve, approval["form"])

    def _decided(self, case: Case, kind: str, approve: bool, form: Mapping[str, Any]) -> None:
        if kind == "return" and approve:
            case.plan += 1
            case.stage, case.lead, case.suggested = "dispatching", None, form.get("suggested_department")
        elif kind == "return":
            self._assigned(case)
        elif kind == "extension":
            case.due_day += form["days"] if approve else 0
            self._will_reply(case, self.step + 2, late=not approve and self.chance(case.key, "late anyway") < 0.3)
        elif approve:
            case.stage = "waiting"
            if self.chance(case.key, "resumes") < 0.65:
                self._later(case, self.step + DAY * self.between(2, 3, case.key, "resumes when"), "resume")
        else:
            self._will_reply(case, self.step + 2)

    async def _audit(self) -> None:
        cases = await self._queue("dispatcher", "audit")
        await asyncio.gather(*(self._audit_one(case) for case in cases))

    async def _audit_one(self, case: Case) -> None:
        since = case.first_seen("audit", self.step)
        if self.chance(case.key, case.round, "auditor busy") < 0.1 and self.step - since < DAY:
            return
        if self.chance(case.key, case.round, "audit") < 0.08 and case.rejected_in < case.round:
            case.rejected_in = case.round
            if await self._act(case, "dispatcher", "reject_reply", {"reason": "答复未回应企业的主要诉求，请补充。"}):
                case.plan += 1
                step = self.step + self.between(2, 6, case.key, case.round, "again")
                self._later(case, step, "reply")
        else:
            await self._act(case, "dispatcher", "approve_reply", {})

    # --- the hotline

    async def _call_back(self) -> None:
        cases = await self._queue("hotline", "callback")
        await asyncio.gather(*(self._call_back_one(case) for case in cases))

    async def _call_back_one(self, case: Case) -> None:
        since = case.first_seen("callback", self.step)
        if (self.step - since) // DAY < self.between(0, 2, case.key, case.round, "callback"):
            return
        if self.chance(case.key, case.round, "unreachable") < 0.06:
            form: dict[str, Any] = {"reached": False, "comment": "无人接听"}
        else:
            form = self._opinion_of_enterprise(case)
        if await self._act(case, "hotline", "record_callback", form) and case.stage == "handling":
            case.plan += 1
            self._later(case, self.step + 2, "contact")
            self._will_reply(case, self.step + 4, late=self.chance(case.key, case.round, "late again") < 0.15)

    def _opinion_of_enterprise(self, case: Case) -> dict[str, Any]:
        stubborn = self.chance(case.key, "stubborn") < 0.02
        dice = self.chance(case.key, case.round, "satisfied")
        if stubborn or dice < 0.08:
            grade = "very_dissatisfied" if stubborn else "dissatisfied"
            return {"solved": "no", "satisfaction": grade, "reason": "result", "comment": "问题没有解决"}
        if dice < 0.2:
            return {"solved": "partly", "satisfaction": "basically_satisfied"}
        return {"solved": "yes", "satisfaction": "very_satisfied" if dice > 0.55 else "satisfied"}

    # --- one matter, one discussion

    async def _docket(self) -> None:
        reviews: list[dict[str, Any]] = []
        for state in ("decided", "preparing", "proposed"):
            reviews += await self.api.items("reviewer", "/v1/reviews", state=state)
        self.reviews = {r["id"]: r["state"] for r in reviews if r["ticket"]["id"] in self.cases}
        for review in reviews:
            case = self.cases.get(review["ticket"]["id"])
            if case is not None:
                await self._STEPS[review["state"]](self, case, review)

    async def _on_docket(self, review: Mapping[str, Any], action: str, form: Mapping[str, Any]) -> Any:
        path = f"/v1/reviews/{review['id']}/actions/{action}"
        done, told = await self.api.act("reviewer", path, form, f"{self.run_id}-{self.step}-{review['id']}-{action}")
        if done:
            self.reviews[review["id"]] = told["state"]
        return told if done else None

    async def _screen(self, case: Case, review: Mapping[str, Any]) -> None:
        ticket = await self.api.get("reviewer", f"/v1/tickets/{case.id}")
        if ticket is None:
            return
        self._learn(case, ticket)
        replied = case.stage in {"auditing", "callback", "closed"}
        if replied or self.chance(case.key, "refused") < 0.2:
            reason = "主办单位已答复，按普通程序办理。" if replied else "不属于一事一议范围，请主办单位继续办理。"
            if await self._on_docket(review, "screen", {"decision": "refuse", "reason": reason}) and not replied:
                self._wake(case)
            return
        form = {"decision": "accept", "tier": self.between(1, 3, case.key, "tier"), "reason": "列入议题"}
        if await self._on_docket(review, "screen", form) is None:
            return
        case.plan += 1
        case.stage, case.waits_for = "reviewing", ""
        first = case.lead or self._plausible(case)
        units = [first, self._plausible(case, besides=first)]
        if await self._on_docket(review, "request_opinions", {"departments": units}) is None:
            return
        for unit in units:
            if self.chance(case.key, unit, "silent") >= 0.1:
                step = self.step + self.between(4, 13, case.key, unit, "opinion when")
                self._later(case, step, "opinion", (review["id"], unit), plan=-1)

    async def _decide(self, case: Case, review: Mapping[str, Any]) -> None:
        waited = self.at(self.step) - datetime.fromisoformat(review["screened_at"])
        if waited < timedelta(days=3):
            return
        today, units = self.days[self.step // DAY], [o["department"] for o in review["opinions"]]
        measures = [
            {
                "title": title,
                "department": units[n % len(units)],
                "due_on": str(today + timedelta(days=self.between(10, 25, case.key, n, "due"))),
                "mandatory": n < 2,
            }
            for n, title in enumerate(MEASURES[: self.between(1, 3, case.key, "measures")])
        ]
        form = {"decision": "approve", "text": "同意按以下事项办理，由主办单位牵头落实。", "measures": measures}
        told = await self._on_docket(review, "decide", form)
        for n, measure in enumerate(told["measures"] if told else ()):
            report = self.step + DAY * self.between(1, 3, case.key, n, "report")
            evidence = report + DAY * self.between(1, 5, case.key, n, "evidence")
            self._later(case, report, "measure", (measure["id"], measure["department"], "report"), plan=-1)
            if self.chance(case.key, n, "no evidence") >= 0.08:
                data = (measure["id"], measure["department"], "submit_evidence")
                self._later(case, evidence, "measure", data, plan=-1)

    async def _strike_off(self, case: Case, review: Mapping[str, Any]) -> None:
        for measure in review["measures"]:
            if measure["state"] == "evidence":
                path = f"/v1/measures/{measure['id']}/actions/strike_off"
                await self.api.act("reviewer", path, {"reason": "已核实"}, f"{self.run_id}-{measure['id']}-off")

    _STEPS: Mapping[str, Callable[[City, Case, Mapping[str, Any]], Awaitable[None]]] = {
        "proposed": _screen,
        "preparing": _decide,
        "decided": _strike_off,
    }

    # --- where things stand

    def count(self) -> tuple[int, int, int]:
        """Tickets open, tickets closed, matters on the docket."""
        closed = sum(c.stage == "closed" for c in self.cases.values())
        docket = sum(state in {"proposed", "preparing", "decided"} for state in self.reviews.values())
        return len(self.cases) - closed, closed, docket


# --- progress ----------------------------------------------------------------------------------------------------


@contextmanager
def _progress(console: Console, city: City, weeks: int) -> Iterator[Tell]:
    """Two bars on a terminal, else a line for each simulated week."""
    console.print(
        f"{city.requests} requests 诉求, {weeks} simulated weeks 周 from {city.days[0]} to "
        f"{city.days[city.total_days - 1]}, {city.clients} clients"
    )
    if not console.is_terminal:
        yield lambda: _line(console, city)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[told]}"), console=console) as progress:
        posting = progress.add_task("posted 受理", total=city.requests, told="")
        living = progress.add_task("days 工作日", total=city.total_days, told="")
        yield lambda: _bars(progress, posting, living, city)


def _bars(progress: Progress, posting: TaskID, living: TaskID, city: City) -> None:
    opened, closed, docket = city.count()
    told = f"{city.days[city.step // DAY]}  open 在办 {opened}  closed 办结 {closed}  docket 议题 {docket}"
    progress.update(posting, completed=city.posted)
    progress.update(living, completed=(city.step + 1) // DAY, told=told)


def _line(console: Console, city: City) -> None:
    day, slot = divmod(city.step, DAY)
    start = city.days[0]
    week = (city.days[day] - start).days // 7
    last = day + 1 == city.total_days or (city.days[day + 1] - start).days // 7 > week
    if slot == DAY - 1 and last:
        opened, closed, docket = city.count()
        console.print(f"week {week + 1:2d}  {city.days[day]}  posted 受理 {city.posted:5d}  open 在办 {opened:5d}  "
                      f"closed 办结 {closed:5d}  docket 议题 {docket:3d}")  # fmt: skip


# --- the end -----------------------------------------------------------------------------------------------------

COLUMNS = (
    ("on_time_sign_rate", "按时签收", "signed"),
    ("response_rate", "响应", "contacted"),
    ("on_time_completion_rate", "按时办结", "on time"),
    ("late_completion_rate", "逾期办结", "late"),
    ("overdue_rate", "超期未结", "overdue"),
    ("satisfaction_rate", "满意", "satisfied"),
    ("resolution_rate", "解决", "solved"),
    ("return_rate", "退单", "returned"),
    ("extension_rate", "延期", "extended"),
)
TOP = 15


async def _tables(console: Console, api: Api, city: City, weeks: int) -> None:
    begin = str(city.days[0]) if weeks > 12 else None
    params = {"from": begin} if begin else {}
    by_unit = await api.get("supervisor", "/v1/reports/sla", group_by="department", **params)
    by_domain = await api.get("supervisor", "/v1/reports/sla", group_by="domain", **params)
    if by_unit is not None:
        told = {code: unit["title"]["zh"] for code, unit in city.units.items()}
        console.print(_sla("SLA by department 各单位办理情况", "department", by_unit, told, console.width))
    if by_domain is not None:
        console.print(_sla("SLA by domain 各类诉求办理情况", "domain", by_domain, DOMAINS, console.width))
    reviews = await api.items("reviewer", "/v1/reviews")
    console.print(_docket_table(reviews))
    console.print(_routing(city))


def _sla(title: str, key: str, report: Mapping[str, Any], names: Mapping[str, str], width: int) -> Table:
    """The first columns are the most telling ones; a narrow terminal shows fewer."""
    columns = COLUMNS[: max(3, (width - 38) // 11)]
    table = Table(title=title, title_justify="left")
    table.add_column(f"{key}\n{'单位' if key == 'department' else '类别'}", overflow="fold")
    table.add_column("due\n应办结", justify="right")
    for _, zh, en in columns:
        table.add_column(f"{en}\n{zh}", justify="right")

    def row(name: str, figures: Mapping[str, Any], style: str | None = None) -> None:
        table.add_row(name, str(_due(figures)), *(_percent(figures[c[0]]["value"]) for c in columns), style=style)

    groups = sorted(report["groups"], key=lambda g: (-_due(g["figures"]), str(g["key"][key])))
    for group in groups[:TOP]:
        code = group["key"][key]
        row(names.get(code, code or "未派单 none"), group["figures"])
    if len(groups) > TOP:
        table.add_row(f"… {len(groups) - TOP} more 其他")
    table.add_section()
    row("total 合计", report["total"]["figures"], "bold")
    return table


def _due(figures: Mapping[str, Any]) -> int:
    return int(figures["on_time_completion_rate"]["denominator"])


def _percent(value: float | None) -> str:
    """Floored, as the report itself: 99.99 % is not all."""
    return "–" if value is None else f"{math.floor(value * 1000 + 1e-6) / 10:.1f}%"


def _docket_table(reviews: Sequence[Mapping[str, Any]]) -> Table:
    states = Counter(r["state"] for r in reviews)
    told = ", ".join(f"{state} {n}" for state, n in states.most_common()) or "empty 无议题"
    title = f"Docket: one matter, one discussion 一事一议\n{told}"
    table = Table(title=title, title_justify="left")
    for name in ("number\n议题", "ticket\n工单", "state\n状态", "grounds\n事由", "measures\n议定事项"):
        table.add_column(name)
    busy = sorted(reviews, key=lambda r: (r["state"] not in {"decided", "completed"}, not r["measures"]))
    for r in busy[:TOP]:
        done = sum(m["state"] in {"struck_off", "waived"} for m in r["measures"])
        measures = f"{done}/{len(r['measures'])}" if r["measures"] else "–"
        table.add_row(r["number"], r["ticket"]["number"], r["state"], ", ".join(r["grounds"]), measures)
    if len(reviews) > TOP:
        table.add_row(f"… {len(reviews) - TOP} more", "", "", "", "")
    return table


def _routing(city: City) -> Table:
    by_rule = len(city.cases) - city.leads[""]
    table = Table(title="Routing of this run 派单", title_justify="left")
    table.add_column("what 项目")
    table.add_column("tickets 工单", justify="right")
    table.add_column("share 占比", justify="right")

    def row(name: str, n: int) -> None:
        table.add_row(name, str(n), _percent(n / len(city.cases) if city.cases else None))

    row("requests that became tickets 受理", len(city.cases))
    row("lead found by a rule 规则派单", by_rule)
    row("lead chosen by the dispatcher 人工派单", city.leads[""])
    table.add_section()
    for code, n in city.leads.most_common(9):
        if code:
            row(f"lead 主办: {city.units[code]['title']['zh']}", n)
    table.add_section()
    for code, n in city.warnings.most_common():
        row(f"warning 提示: {code}", n)
    return table


async def _links(console: Console, api: Api, city: City, url: str) -> None:
    opened, closed, docket = city.count()
    console.print(f"[bold]{city.requests} requests 诉求 → {len(city.cases)} tickets 工单[/]: {closed} closed 办结, "
                  f"{opened} open 在办, {docket} on the docket 议题; {api.calls} calls of the API")  # fmt: skip
    case = min(
        city.cases.values(),
        key=lambda c: (c.mood not in {"pause", "extension"}, c.stage != "closed", c.number),
        default=None,
    )
    lines = [("API 接口文档", f"{url}/docs")]
    if case is not None:
        ticket = await api.get("supervisor", f"/v1/tickets/{case.id}")
        lines.append(("a ticket 工单", f"{url}/v1/tickets/{case.number}"))
        resolve = next((c for c in (ticket or {}).get("clocks", ()) if c["name"] == "resolve"), None)
        if resolve is not None:
            path = f"/v1/tickets/{case.number}/clocks/{resolve['id']}/explanation"
            lines.append(("why it was due then 时限说明", f"{url}{path}"))
    lines.append(("report as CSV 报表", f"{url}/v1/reports/sla?group_by=department&format=csv"))
    lines.append(("a token 令牌", "python3 -m service token --as supervisor"))
    lines.append(("for example 例", f'curl -H "Authorization: Bearer $(python3 -m service token --as supervisor)" '
                                   f"{url}/v1/reviews"))  # fmt: skip
    for name, link in lines:
        console.print(f"  {name}:  {escape(link)}", soft_wrap=True)


def _verdict(console: Console, api: Api, city: City) -> None:
    """What was not as it should be. Being overtaken is part of the play; anything else is a fault."""
    if api.overtaken:
        console.print(f"[dim]{api.overtaken.total()} acts came too late (409 or 403), as among people:[/]")
        for text, n in api.overtaken.most_common(5):
            console.print(f"  [dim]{n} × {escape(text)}[/]", soft_wrap=True)
    if api.unexpected:
        for text, n in api.unexpected.most_common(20):
            console.print(f"  [red]{n} ×[/] {escape(text)}", soft_wrap=True)
        raise DemoFailed(
            f"{api.unexpected.total()} unexpected answers, listed above ({city.refused} requests were refused)"
        )
