"""Fifty people at one ticket in the same moment: one history, and who came too late is told what is possible now."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.conftest import City
from tests.lives.promises import CONTACT, PHONE, Ledger, kept

CLIENTS = 50
EXTENSION = {"days": 3, "ground": "complex_multi_department", "reason": "需多部门会商"}
PAUSE = {"kind": "waiting_enterprise", "days": 5, "reason": "等企业补充材料", "evidence": "短信截图"}
RETURN = {"ground": "not_our_duty", "legal_basis": "三定规定", "reason": "不属于本单位职责"}
REPLY = {"public_reply": "已办理完毕，请登录系统查看。", "outcome": "solved"}
ACTS: list[tuple[str, dict[str, Any]]] = [
    ("request_pause", PAUSE), ("resume", {}), ("request_extension", EXTENSION), ("request_return", RETURN),
    ("submit_reply", REPLY),
]  # fmt: skip


async def _rush(city: City, ticket: str, version: int | None) -> Counter[int]:
    """Everybody at once; what each was answered."""
    headers = {} if version is None else {"If-Match": f'"{version}"'}

    async def one(n: int) -> int:
        action, form = ACTS[n % len(ACTS)]
        answer = await city.post(f"/v1/tickets/{ticket}/actions/{action}", form, f"h{n}@handler:tax", headers=headers)
        if answer.status_code != 200:
            problem = answer.json()
            assert answer.status_code in {409, 412}, answer.text
            if answer.status_code == 409:
                assert problem["stage"] and isinstance(problem["actions"], list), problem
        return answer.status_code

    return Counter(await asyncio.gather(*(one(n) for n in range(CLIENTS))))


async def test_fifty_at_once_make_one_linear_history(city: City) -> None:
    made = await city.ticket(contact={"name": CONTACT, "phone": PHONE})
    ledger = Ledger(made["id"], made["number"], {})
    await city.act(made["id"], "accept", "handler:tax")
    before = await kept(city, ledger)
    answered = await _rush(city, made["id"], None)
    assert set(answered) <= {200, 409}
    after = await kept(city, ledger)
    assert answered[200] >= 1
    assert after["version"] - before["version"] == answered[200], "each that was answered 200 is one version"


async def test_of_fifty_who_saw_the_same_version_one_acts(city: City) -> None:
    made = await city.ticket(contact={"name": CONTACT, "phone": PHONE})
    ledger = Ledger(made["id"], made["number"], {})
    accepted = await city.act(made["id"], "accept", "handler:tax")
    answered = await _rush(city, made["id"], accepted["version"])
    assert answered[200] == 1 and answered[412] >= 1, answered
    assert (await kept(city, ledger))["version"] == accepted["version"] + 1
