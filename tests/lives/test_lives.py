"""Random lives of tickets over HTTP, everybody acting: hotline, units, dispatchers, supervisors, reviewers.

Nobody here knows the workflows: who acts asks the API what is possible now and fills in the form that it offers. After each
step the promises P1 to P6 are held against the tickets that it touched. More of them, and longer ones:

    LIVES_EXAMPLES=300 LIVES_STEPS=50 python -m pytest -n 0 tests/lives
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Set
from datetime import datetime
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from service.integrations.identity_provider import BuiltinIssuer
from service.usecases import integrity
from tests.conftest import UNROUTED, City, cloned_database, opened_city, request_body
from tests.lives.forms import Known, filled
from tests.lives.promises import CONTACT, PHONE, STRANGER, Ledger, kept

EXAMPLES, STEPS = int(os.environ.get("LIVES_EXAMPLES", "60")), int(os.environ.get("LIVES_STEPS", "40"))
MOST_TICKETS = 3
UNITS = ("tax", "finance", "human_resources", "housing_construction")
CENTRE = ("dispatcher", "second@dispatcher", "hotline", "supervisor", "reviewer")
REFUSED = {403, 404, 409, 412, 422}
MAIN_ACTIONS = {"dispatch", "accept", "log_contact", "submit_plan", "request_return", "request_extension", "request_pause",
                "resume", "submit_reply", "approve_reply", "reject_reply", "record_callback", "escalate", "comment"}  # fmt: skip
"""What lives that go anywhere have seen; a run in which one of these never succeeds has tested little."""
FORWARD = {"dispatch", "accept", "submit_plan", "submit_reply", "approve_reply", "record_callback", "resume"}
HOW_OFTEN = {"withdraw": 0.05, "merge": 0.2, "split": 0.2, "comment": 0.1, "amend": 0.2, "assign": 0.3, "urge": 0.3,
             "request_pause": 3, "resume": 10, "request_extension": 6, "reject_reply": 6}  # fmt: skip
"""Acts that say little or end everything are chosen seldom beside others, those that few lives come to often."""

STEPS_OF_A_LIFE = {
    "it_goes_on": 9, "the_unit_at_work_does_what_is_possible": 9, "somebody_does_what_is_possible": 6,
    "a_request_is_decided": 8, "two_do_it_at_once": 3, "time_passes": 4, "somebody_tries_anything": 3,
    "the_hotline_posts_it_again": 1, "another_firm_asks": 2,
}  # fmt: skip
"""Kind of a step -> how often it comes beside the others."""
which, chances = st.integers(0, 999), st.integers(0, 2**32 - 1)
GAPS = ("PT10M", "PT1H", "PT5H", "P1D", "P2D", "P5D", "P12D", "P30D")
Running = Callable[[Awaitable[Any]], Any]


class Lives(RuleBasedStateMachine):
    """Some tickets of one example; `done` counts what succeeded in all examples."""

    def __init__(self, running: Running, city: City, known: Known, done: Counter[str]) -> None:
        super().__init__()
        self.run, self.city, self.everywhere, self.done = running, city, known, done
        self.steps = 0
        self.ledgers: list[Ledger] = []
        self.touched: set[int] = set()

    @rule(number=which, chance=chances)
    def something_happens(self, number: int, chance: int) -> None:
        """What exactly comes out of `chance`: drawn one by one, a few kinds of steps would come far too often."""
        self.steps += 1  # the same chance is drawn again and again: at another step it means something else
        rng, ledger = Random(f"{chance} {self.steps}"), self._touch(number)
        [step] = rng.choices(list(STEPS_OF_A_LIFE), list(STEPS_OF_A_LIFE.values()))
        note(f"{step} on {ledger.number}")
        getattr(self, f"_{step}")(ledger, rng)

    # -- what people do

    @initialize(chance=chances)
    def a_first_firm_asks(self, chance: int) -> None:
        self.now = datetime.fromisoformat(self.run(self.city.get("/v1/sandbox/clock", "admin")).json()["now"])
        self._post(Random(chance))

    def _another_firm_asks(self, ledger: Ledger, rng: Random) -> None:
        if len(self.ledgers) < MOST_TICKETS:
            self._post(rng)

    def _the_hotline_posts_it_again(self, ledger: Ledger, rng: Random) -> None:
        same_key = rng.random() < 0.5
        headers = {"Idempotency-Key": ledger.body["source"]["reference"]} if same_key else {}
        answer = self.run(self.city.post("/v1/tickets", ledger.body, "hotline", headers=headers))
        assert answer.status_code == (201 if same_key else 200), f"P2: {answer.text}"
        assert answer.json()["id"] == ledger.id, "P2: a second ticket"
        assert same_key == ("idempotent-replayed" in answer.headers)

    def _somebody_does_what_is_possible(self, ledger: Ledger, rng: Random) -> None:
        who = rng.choice(self._people(self._shown(ledger)))
        self.run(self._act(ledger, who, rng))

    def _the_unit_at_work_does_what_is_possible(self, ledger: Ledger, rng: Random) -> None:
        lead = (self._shown(ledger)["lead"] or {}).get("department")
        self.run(self._act(ledger, f"handler:{lead}" if lead else "dispatcher", rng))

    def _it_goes_on(self, ledger: Ledger, rng: Random) -> None:
        people = sorted(set(self._people(self._shown(ledger))))
        rng.shuffle(people)

        async def on() -> None:
            for who in people:
                if await self._act(ledger, who, rng, only=FORWARD) == 200:
                    break

        self.run(on())

    def _two_do_it_at_once(self, ledger: Ledger, rng: Random) -> None:
        shown = self._shown(ledger)
        people, match = self._people(shown), {"If-Match": f'"{shown["version"]}"'}

        async def both() -> list[int]:
            each = [(rng.choice(people), Random(rng.random())) for _ in range(2)]
            return list(await asyncio.gather(*(self._act(ledger, who, own, match) for who, own in each)))

        assert self.run(both()).count(200) <= 1, "two changed the same version"

    def _a_request_is_decided(self, ledger: Ledger, rng: Random) -> None:
        """Whichever of the tickets has one: it need not be the one that was drawn."""
        numbers = {known.id: n for n, known in enumerate(self.ledgers)}

        async def decide() -> None:
            pending = (await self.city.get("/v1/approvals?state=pending&limit=200")).json()["items"]
            ours = [a for a in pending if a["ticket"]["id"] in numbers]
            if ours:
                asked = rng.choice(ours)
                self._touch(numbers[asked["ticket"]["id"]])
                body = {"decision": rng.choice(("approve", "approve", "deny")), "reason": "按规定"}
                who = rng.choice(("dispatcher", "second@dispatcher", "supervisor"))
                answer = await self.city.post(f"/v1/approvals/{asked['id']}/decision", body, who)
                self._answered(answer, "decide")

        self.run(decide())

    def _somebody_tries_anything(self, ledger: Ledger, rng: Random) -> None:
        action = rng.choice([*sorted(MAIN_ACTIONS), "withdraw", "reopen", "merge", "no_such_action"])
        form = rng.choice([{}, {"reason": "x"}, {"days": -1}, {"department": "nowhere"}, {"unknown": [1]}])
        who = rng.choice([*self._people(self._shown(ledger)), STRANGER, "auditor"])
        answer = self.run(self.city.post(f"/v1/tickets/{ledger.id}/actions/{action}", form, who))
        self._answered(answer, action)
        assert who != STRANGER or answer.status_code in {403, 404}, "P6: a stranger acted"

    def _time_passes(self, ledger: Ledger, rng: Random) -> None:
        self.now = datetime.fromisoformat(self.run(self.city.advance(advance_by=rng.choice(GAPS)))["now"])
        self.touched = set(range(len(self.ledgers)))

    # -- what must hold

    @invariant()
    def the_promises_are_kept(self) -> None:
        for n in sorted(self.touched):
            self.run(kept(self.city, self.ledgers[n]))
        self.touched = set()

    def teardown(self) -> None:
        """The next example's city is not to wait for the timers of this one."""

        async def rest() -> None:
            for ledger in self.ledgers:
                form = {"reason": "企业撤回"}
                await self.city.post(f"/v1/tickets/{ledger.id}/actions/withdraw", form, "dispatcher")

        self.run(rest())

    # -- by the way

    def _post(self, rng: Random) -> None:
        changes: dict[str, Any] = dict(UNROUTED) if rng.random() < 0.2 else {}
        changes["urgency"] = rng.choice(["normal", "normal", "urgent", "emergency"])
        body = request_body(**changes, contact={"name": CONTACT, "phone": PHONE})
        headers = {"Idempotency-Key": body["source"]["reference"]}
        answer = self.run(self.city.post("/v1/tickets", body, "hotline", headers=headers))
        assert answer.status_code == 201 and "idempotent-replayed" not in answer.headers, answer.text
        made = answer.json()
        self.ledgers.append(Ledger(made["id"], made["number"], body))
        self.touched.add(len(self.ledgers) - 1)

    def _touch(self, number: int) -> Ledger:
        n = number % len(self.ledgers)
        self.touched.add(n)
        return self.ledgers[n]

    def _shown(self, ledger: Ledger) -> dict[str, Any]:
        shown: dict[str, Any] = self.run(self.city.show(ledger.id))
        return shown

    def _people(self, shown: dict[str, Any]) -> list[str]:
        units = [shown["lead"]["department"]] * 3 if shown["lead"] else []
        return [*CENTRE, *(f"handler:{code}" for code in (*units, *shown["co_handlers"], UNITS[0]))]

    def _known(self) -> Known:
        numbers = [ledger.number for ledger in self.ledgers]
        return {**self.everywhere, "into": numbers, "ticket": numbers}

    async def _act(
        self, ledger: Ledger, who: str, rng: Random, headers: dict[str, str] | None = None, only: Set[str] = frozenset()
    ) -> int:
        offered = await self.city.get(f"/v1/tickets/{ledger.id}/actions", who)
        if offered.status_code in {403, 404}:
            return offered.status_code
        actions = [a for a in offered.json()["items"] if not only or a["name"] in only]
        if not actions:
            return 409
        action = rng.choices(actions, [HOW_OFTEN.get(a["name"], 1) for a in actions])[0]
        form = filled(action["form"], rng, self._known(), self.now)
        path = f"/v1/tickets/{ledger.id}/actions/{action['name']}"
        answer = await self.city.post(path, form, who, headers=headers or {})
        self._answered(answer, action["name"])
        if action["name"] == "merge" and answer.status_code == 200:
            self.touched = set(range(len(self.ledgers)))
        return answer.status_code

    def _answered(self, answer: httpx.Response, what: str) -> None:
        assert answer.status_code in {200, 201, *REFUSED}, f"{what}: {answer.status_code} {answer.text}"
        if answer.status_code < 300:
            self.done[what] += 1
            return
        problem = answer.json()
        assert problem["type"].startswith("/problems/") and problem["detail"], problem


@pytest.mark.slow
def test_whoever_acts_however_the_promises_are_kept(server_dsn: str, template: str, issuer: BuiltinIssuer) -> None:
    shape = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck), derandomize=True
    )
    done: Counter[str] = Counter()
    with asyncio.Runner() as runner:
        database = cloned_database(server_dsn, template)
        opening = opened_city(runner.run(database.__aenter__()), issuer)
        city = runner.run(opening.__aenter__())
        try:
            matters = runner.run(city.get("/v1/matters")).json()["items"]
            known = {"department": UNITS, "matter": [m["code"] for m in matters[:20]], "assignee": ["anna", "bo"]}
            run_state_machine_as_test(lambda: Lives(runner.run, city, known, done), settings=shape)  # type: ignore[no-untyped-call]
            report = runner.run(integrity.check(city.house))
            assert not report.offending, [f for f in report.findings if f.offending]
        finally:
            runner.run(opening.__aexit__(None, None, None))
            runner.run(database.__aexit__(None, None, None))
    missing = MAIN_ACTIONS - done.keys()
    assert not missing or EXAMPLES < 60, f"never done: {sorted(missing)}; done: {done}"
