"""Workflows made by chance: some hold, some do not. What a checker says of them is tried on the real engine."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from random import Random
from typing import Any

TITLE = {"zh": "某", "en": "Some"}
REVIEW_CLOCKS = ("review_screen", "review_opinion", "review_decision", "review_measure")


def a_workflow(rng: Random) -> dict[str, Any]:
    """Plain data. A way from the first stage to the last is laid; what is beside it, and what is missing, is chance."""
    handling = [f"work_{n}" for n in range(rng.randint(1, 3))]
    stages = {"desk": "dispatch", **dict.fromkeys(handling, "handling")}
    if rng.random() < 0.6:
        stages["check"] = "audit"
    if rng.random() < 0.4:
        stages["rest"] = "waiting"
    stages |= {"council": "review", "done": "closed"}
    flow: dict[str, Any] = {
        "key": "made", "title": TITLE, "calendar": "cn-jinan", "domains": ["consultation"],
        "stages": {name: {"phase": phase, "title": TITLE} for name, phase in stages.items()},
        "clocks": _clocks(rng, stages), "actions": {}, "approvals": {},
        "open": {
            "routed": {"effects": [{"start": "promise"}, {"assign_lead": "routed"}, {"start": "own"}, {"start": "co_reply"}],
                       "to": handling[0]},
            "unrouted": {"effects": [{"start": "promise"}], "to": "desk"},
        },
        "review": _review(rng, handling[0]),
    }  # fmt: skip
    _main_way(rng, flow, handling, "check" in stages)
    if "rest" in stages:
        _pause(rng, flow, handling[-1])
    if rng.random() < 0.5:
        _extension(rng, flow, handling)
    for n in range(rng.randint(0, 3)):
        _chance(rng, flow, n, [s for s in stages if s not in {"council", "done"}])
    if rng.random() < 0.5:
        _reopening(rng, flow, handling[0])
    return flow


def _clock(family: str, measure: str, budget: Any, **more: Any) -> dict[str, Any]:
    return {"title": TITLE, "family": family, "measure": measure, "budget": budget,
            "breach": {"effects": [{"notify": ["supervisor"]}]}, **more}  # fmt: skip


def _clocks(rng: Random, stages: dict[str, str]) -> dict[str, Any]:
    ladder: list[dict[str, Any]] = [
        {"name": "warning", "share": rng.choice([30, 50, 80]), "effects": [{"notify": ["department"]}]},
        {"name": "red", "after": 1, "effects": [{"card": "red"}]},
        {"name": "review", "after": rng.randint(2, 6), "effects": [{"propose_review": "overdue"}]},
    ]
    clocks = {
        "promise": _clock("enterprise", "working_days", rng.randint(2, 15), anchor="received_at", rungs=ladder,
                          rounds=rng.choice(["new", "continue", "restart"]), reopened=rng.choice(["continue", "restart"])),
        "own": _clock("assignment", "working_hours", "PT4H", anchor="dispatched_at"),
        "co_reply": _clock("assignment", "working_days", rng.randint(1, 4), anchor="dispatched_at"),
        "ruling": _clock("centre", "working_days", 1),
        "checking": _clock("centre", "working_days", 2),
        **{name: _clock("centre", "working_days", rng.randint(2, 9)) for name in REVIEW_CLOCKS},
    }  # fmt: skip
    if rng.random() < 0.2:
        clocks["own"]["breach"] = {
            "effects": [{"meet": "own"}],
            "to": rng.choice([s for s in stages if s != "council"]),
        }
    return clocks


def _review(rng: Random, back_to: str) -> dict[str, Any]:
    accepted = [{"meet": "review_screen"}, {"start": "review_decision"}]
    if rng.random() < 0.8:
        accepted[:0] = ["withdraw_open", {"resume": {"clocks": ["promise"]}}, {"cancel": "checking"}]  # type: ignore[list-item]
    if rng.random() < 0.1:
        accepted = [{"meet": "review_screen"}]
    back = {"when": 'ticket.phase == "review"', "effects": [{"release": "promise"}, {"accept": "again"}], "to": back_to}
    desk = {"when": 'ticket.phase == "review" && ticket.lead == ""', "effects": [], "to": "desk"}
    return {
        "proposed": [{"effects": [{"start": "review_screen"}]}],
        "accepted": [{"effects": accepted, "to": "council"}],
        "refused": [{"effects": [{"meet": "review_screen"}]}],
        "decided": [{"effects": [{"meet": "review_decision"}]}],
        "completed": [{"effects": [{"meet": "promise"}, {"outcome": "solved"}, "close"], "to": "done"}],
        "withdrawn": [desk, back, {"effects": []}] if rng.random() < 0.8 else [back, {"effects": []}],
    }


def _act(stages: Any, roles: list[str], effects: list[Any], to: str | None = None, **more: Any) -> dict[str, Any]:
    return {"title": TITLE, "stages": stages, "roles": roles, "effects": effects, **({"to": to} if to else {}), **more}


def _main_way(rng: Random, flow: dict[str, Any], handling: list[str], audited: bool) -> None:
    actions = flow["actions"]
    department = {"required": ["department"], "properties": {"department": {"type": "string", "x-kind": "department"}}}
    actions["send"] = _act(
        ["desk"], ["dispatcher"], [{"assign_lead": "form"}, {"start": "own"}], handling[0], form=department
    )
    actions["withdraw"] = _act("open", ["hotline"], [{"outcome": "withdrawn"}, "close"], "done")
    for here, following in pairwise(handling):
        actions[f"from_{here}"] = _act([here], ["handler"], [{"meet": "own"}, {"accept": "by_hand"}], following,
                                       guard='leg.role == "lead"')  # fmt: skip
        if rng.random() < 0.3:
            limit = {"guard": "counters.sent_back < 2"} if rng.random() < 0.7 else {}
            actions[f"back_{here}"] = _act([following], ["dispatcher"], [{"count": "sent_back"}], here, **limit)
    last = handling[-1]
    guard = rng.choice(['leg.role == "lead"', 'leg.role == "lead" && leg.state != "submitted"',
                        'leg.role == "lead" && legs.waiting == 0', 'leg.role == "lead" && clocks.promise.open'])  # fmt: skip
    reply = {"required": ["text"], "properties": {"text": {"type": "string"}}}
    co_reply = {"when": 'leg.role == "co_handler"', "effects": ["submit_leg", {"meet": "co_reply"}]}
    if rng.random() < 0.7:
        actions["co_reply"] = {"title": TITLE, "stages": handling, "roles": ["handler"], "form": reply,
                               "guard": 'leg.role == "co_handler" && leg.state != "submitted"',
                               "branches": [{k: v for k, v in co_reply.items() if k != "when"}]}  # fmt: skip
    if not audited:
        actions["reply"] = _act([last], ["handler"], ["submit_leg", {"meet": "promise"}, {"outcome": "solved"}, "close"], "done",
                                guard=guard, form=reply)  # fmt: skip
        return
    hold = [{"hold": "promise"}] if rng.random() < 0.7 else []
    start = [{"start": "checking"}] if rng.random() < 0.85 else []
    actions["reply"] = _act(
        [last], ["handler"], ["withdraw_open", "submit_leg", *hold, *start], "check", guard=guard, form=reply
    )
    eyes = {"not_by": "reply"} if rng.random() < 0.9 else {}
    actions["approve"] = _act(
        ["check"], ["dispatcher"], [{"settle": "promise"}, {"meet": "checking"}, "close"], "done", **eyes
    )
    if rng.random() < 0.7:
        again = [{"accept": "again"}] if rng.random() < 0.8 else []
        actions["reject"] = _act(["check"], ["dispatcher"], [{"release": "promise"}, {"meet": "checking"}, *again], last,
                                 not_by="reply")  # fmt: skip


def _pause(rng: Random, flow: dict[str, Any], stage: str) -> None:
    clocks, actions = flow["clocks"], flow["actions"]
    back = {"to": stage} if rng.random() < 0.9 else {}
    resume = {"resume": {"clocks": ["promise"]}}
    clocks["pause_cap"] = _clock(
        "centre", "working_days", 5, breach={"effects": [resume, {"meet": "pause_cap"}], **back}
    )
    limit = " && counters.pause_requests < 2" if rng.random() < 0.85 else ""
    once = " && !pending.pause" if rng.random() < 0.95 else ""
    actions["ask_pause"] = _act([stage], ["handler"], [{"count": "pause_requests"}, {"request": "pause"}],
                                guard=f'leg.role == "lead"{limit}{once}')  # fmt: skip
    actions["go_on"] = _act(["rest"], rng.choice([["handler"], ["dispatcher"]]), [resume, {"meet": "pause_cap"}], stage)
    start = [{"start": "pause_cap"}] if rng.random() < 0.9 else []
    flow["approvals"]["pause"] = {
        "title": TITLE, "roles": ["dispatcher"], "clock": "ruling",
        "approve": {"effects": [*start, {"pause": {"clocks": ["promise"], "cap": "pause_cap"}}], "to": "rest"},
        "deny": {"effects": [{"notify": ["department"]}]},
    }  # fmt: skip


def _extension(rng: Random, flow: dict[str, Any], stages: list[str]) -> None:
    limit = " && counters.extension_requests < 2" if rng.random() < 0.85 else ""
    days = {
        "required": ["days"],
        "properties": {"days": {"type": "integer", "minimum": 1, "maximum": rng.randint(1, 9)}},
    }
    flow["actions"]["ask_time"] = _act(
        [rng.choice(stages)], ["handler"], [{"count": "extension_requests"}, {"request": "extension"}],
        guard=f'leg.role == "lead" && !pending.extension{limit}', form=days,
    )  # fmt: skip
    levels = [{"title": TITLE, "roles": ["handler"]}, {"title": TITLE, "roles": ["dispatcher"], "when": "form.days > 2"},
              {"title": TITLE, "roles": ["supervisor"]}][: rng.randint(1, 3)]  # fmt: skip
    flow["approvals"]["extension"] = {
        "title": TITLE, "levels": levels, "clock": "ruling", "delays": ["promise"],
        "approve": {"effects": [{"extend": "promise"}, {"excuse": ["promise"]}]}, "deny": {"effects": [{"excuse": ["promise"]}]},
    }  # fmt: skip


EFFECTS: list[Any] = [
    {"meet": "own"}, {"start": "own"}, {"start": "checking"}, {"meet": "checking"}, {"hold": "promise"}, {"release": "promise"},
    {"cancel": "promise"}, {"start": "promise"}, "new_round", "clear_lead", {"end_leg": "gone"},
    {"accept": "again"}, "withdraw_open",
    {"propose_review": "manual"}, {"count": "chances"}, {"pause": {"clocks": ["own"]}},
    {"resume": {"clocks": ["own", "promise"]}},
]  # fmt: skip


def _chance(rng: Random, flow: dict[str, Any], n: int, stages: list[str]) -> None:
    here = rng.choice(stages)
    effects = rng.sample(EFFECTS, rng.randint(0, 3))
    guards = ["counters.chances < 2", "!pending.pause" if "pause" in flow["approvals"] else "!review.open",
              'ticket.urgency == "normal"', "ticket.round < 3", 'ticket.lead != ""']  # fmt: skip
    guard = {"guard": rng.choice(guards)} if rng.random() < 0.7 else {}
    to = rng.choice([None, *(s for s in stages if s != "check"), "done"])
    if to == "done":
        effects = [e for e in effects if not (isinstance(e, dict) and "start" in e)]
    eyes = {"not_by": "reply"} if here == "check" and rng.random() < 0.9 else {}
    role = rng.choice(["dispatcher", "hotline"])
    flow["actions"][f"chance_{n}"] = _act([here], [role], [*effects, {"count": "chances"}], to, **guard, **eyes)


def _reopening(rng: Random, flow: dict[str, Any], stage: str) -> None:
    limit = {"guard": f"counters.reopenings < {rng.randint(1, 3)}"} if rng.random() < 0.85 else {}
    start = [{"start": "promise"}] if rng.random() < 0.9 else []
    count = [{"count": "reopenings"}]
    branches = [
        {"when": 'ticket.lead == ""', "effects": [*count, "new_round", "reopen", *start], "to": "desk"},
        {"effects": [*count, "new_round", "reopen", {"assign_lead": "again"}, *start, {"start": "own"}], "to": stage},
    ]
    flow["actions"]["reopen"] = {
        "title": TITLE,
        "stages": ["done"],
        "roles": ["hotline"],
        "branches": branches,
        **limit,
    }


# --- a shipped workflow with one thing changed ---------------------------------------------------------------------------


def a_mutant(plain: dict[str, Any], rng: Random) -> dict[str, Any]:
    """A workflow with one to three effects, conditions or stages to go to taken away or exchanged."""
    made = deepcopy(plain)
    for _ in range(rng.randint(1, 3)):
        branches = list(_branches(made))
        branch = rng.choice(branches)
        kind = rng.random()
        effects = branch.get("effects") or []
        if kind < 0.5 and effects:
            effects.pop(rng.randrange(len(effects)))
        elif kind < 0.65 and effects:
            effects.append(deepcopy(rng.choice(rng.choice([b["effects"] for b in branches if b.get("effects")]))))
        elif kind < 0.8 and branch.get("to") is not None:
            branch["to"] = rng.choice(list(made["stages"]))
        else:
            action = rng.choice([a for a in made["actions"].values() if a.get("guard")])
            parts = action["guard"].split(" && ")
            parts.pop(rng.randrange(len(parts)))
            action.pop("guard")
            if parts:
                action["guard"] = " && ".join(parts)
    return made


def _branches(flow: dict[str, Any]) -> Any:
    for action in flow["actions"].values():
        yield from action.get("branches") or [action]
    for approval in flow["approvals"].values():
        yield from (approval["approve"], approval["deny"])
    for branches in flow["review"].values():
        yield from branches
    for clock in flow["clocks"].values():
        yield clock.setdefault("breach", {})
    yield from flow["open"].values()
