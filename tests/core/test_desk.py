"""workflows/desk.yaml: every key explained, its example holds, what is wrong is told with its place."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from service.core import desk
from service.core.desk import Attachments, Desk, FileType, filled, parse_desk
from service.core.errors import DefinitionError
from service.core.model import Phase
from service.core.yaml_files import read_text, read_yaml
from service.usecases.folders import read_unproved
from tests.builders import WORKFLOWS

README = (WORKFLOWS / "README.md").read_text("utf-8")
[EXAMPLE] = re.findall(r"```yaml\n(similar:.*?)```", README, re.S)


def parts() -> list[type[BaseModel]]:
    found = [
        p
        for p in vars(desk).values()
        if isinstance(p, type) and issubclass(p, BaseModel) and p.__module__ == desk.__name__
    ]
    return [p for p in found if p.model_fields]


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {k for inner in value.values() for k in keys_of(inner)}
    return {k for inner in value for k in keys_of(inner)} if isinstance(value, list) else set()


def test_the_example_uses_every_key_and_holds() -> None:
    plain = read_text(EXAMPLE, "README.md")[0]
    parse_desk(plain)
    assert {name for part in parts() for name in part.model_fields} - keys_of(plain) == set()


def test_the_shipped_file_names_a_public_word_for_each_phase() -> None:
    shipped = parse_desk(read_yaml(WORKFLOWS / "desk.yaml"))
    assert set(shipped.progress.stages) == set(Phase)
    assert shipped.attachments.kind_of("a.svg") is None and shipped.attachments.kind_of("a.html") is None


def test_a_folder_without_the_file_has_the_defaults() -> None:
    assert parse_desk({}) == Desk()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("similar: {propose_from: 2}", ("similar", "propose_from")),
        ("similar: {propose: 1}", ("similar", "propose")),
        ("contacts: {over: shout}", ("contacts", "over")),
        ("attachments: {types: {a: {endings: [a], media_type: a/b}}}", ("attachments", "types", "a")),
        (
            "attachments: {types: {a: {endings: [a], media_type: a/b, starts: [xyz]}}}",
            ("attachments", "types", "a", "starts"),
        ),
        ("templates: {a: {title: t, text: '{phone}'}}", ("templates", "a", "text")),
        ("templates: {a: {title: t, text: t, matter: none}}", ("templates", "a", "matter")),
        ("progress: {stages: {done: {zh: 一, en: A}}}", ("progress", "stages", "done")),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_path(text: str, path: tuple[str, ...], tmp_path: Path) -> None:
    target = tmp_path / "workflows"
    shutil.copytree(WORKFLOWS, target, ignore=shutil.ignore_patterns("demo"))
    (target / "desk.yaml").write_text("# one line above\n" + text, "utf-8")
    with pytest.raises(DefinitionError) as error:
        read_unproved(target)
    assert (error.value.file, error.value.path) == ("desk.yaml", path) and error.value.line >= 2


@pytest.mark.parametrize(
    ("ending", "head", "fits"),
    [("mp4", b"\x00\x00\x00\x18ftypmp42", True), ("mp4", b"ftypmp42", False), ("heic", b"\x00\x00\x00\x18ftypheic", True),
     ("doc", bytes.fromhex("d0cf11e0a1b11ae1") + b"x", True), ("ofd", b"PK\x03\x04..OFD.xml", True),
     ("ofd", b"PK\x03\x04", False),
     ("txt", "说明".encode(), True), ("txt", "说明".encode("gb18030"), True), ("txt", b"%PDF-1.4", False),
     ("txt", b"\xef\xbb\xbf<p>", False),
     ("txt", b"\x81", False), ("webp", b"RIFF....WEBP", True), ("webp", b"RIFF....WAVE", False)],
)  # fmt: skip
def test_a_kind_is_known_by_its_bytes(ending: str, head: bytes, fits: bool) -> None:
    kind = parse_desk(read_yaml(WORKFLOWS / "desk.yaml")).attachments.kind_of(f"a.{ending}")
    assert kind is not None and kind.fits(head) == fits


def test_a_long_text_may_be_cut_in_the_middle_of_a_character() -> None:
    text = FileType(endings=("txt",), media_type="text/plain", text=True)
    head = ("ab" + "说" * desk.HEAD_BYTES).encode()[: desk.HEAD_BYTES]
    with pytest.raises(UnicodeDecodeError):
        head.decode()
    assert text.fits(head)


def test_places_are_filled_with_what_is_known_and_others_stay() -> None:
    assert (
        filled("{number}的{title}，{due_on}，{x}", {"number": "1", "title": "t", "due_on": None})
        == "1的t，{due_on}，{x}"
    )
    assert Attachments().kind_of("noending") is None
