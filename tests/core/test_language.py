"""The language is explained: README.md names every key and effect, its examples hold, the schema is the one shipped."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from service.core import language
from service.core.definitions import EFFECTS
from service.core.language import WorkflowDoc, json_schema
from service.core.yaml_files import read_text, read_yaml
from service.usecases.folders import check_folder
from tests.builders import WORKFLOWS

README = (WORKFLOWS / "README.md").read_text("utf-8")
PART = README[README.index("## Workflows\n") :]
EXAMPLES = [block for block in re.findall(r"```yaml\n(.*?)```", PART, re.S) if block.startswith("key:")]
SHIPPED = [*sorted((WORKFLOWS / "city").glob("*.yaml")), *sorted((WORKFLOWS / "departments").glob("*.yaml"))]


def documents() -> list[type[BaseModel]]:
    return [
        d for d in vars(language).values()
        if isinstance(d, type) and issubclass(d, BaseModel) and d.__module__ == language.__name__ and d.model_fields
    ]  # fmt: skip


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def test_every_key_and_effect_is_explained() -> None:
    named = set(re.findall(r"`([a-z_]+)`", PART))
    wanted = {key for doc in documents() for key in doc.model_fields} - {"zh", "en"}
    assert sorted(wanted - named) == []
    assert sorted(EFFECTS - named) == []


def test_the_examples_use_every_key() -> None:
    used = {key for example in EXAMPLES for key in keys_of(read_text(example, "README.md")[0])}
    wanted = {key for doc in documents() for key in doc.model_fields}
    assert sorted(wanted - used) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.splitlines()[0])
def test_each_example_holds(example: str, tmp_path: Path) -> None:
    target = tmp_path / "workflows"
    shutil.copytree(WORKFLOWS, target, ignore=shutil.ignore_patterns("demo", "departments"))
    (target / "departments").mkdir()
    (target / "departments" / "example.yaml").write_text(example, "utf-8")
    assert [str(e) for one in check_folder(target) for e in one.errors] == []


def test_the_shipped_schema_is_the_codes() -> None:
    shipped = json.loads((WORKFLOWS / "workflow.schema.json").read_text("utf-8"))
    assert shipped == json_schema(), "python3 -m service workflows schema > workflows/workflow.schema.json"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_the_schema_takes_every_shipped_file_and_its_first_line_names_it(path: Path) -> None:
    assert list(Draft202012Validator(json_schema()).iter_errors(read_yaml(path))) == []
    assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=../workflow.schema.json\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key: a\nextends: base\ntitle: {zh: 一, en: A}\nclocks: {resolve: {budgt: 3}}\n", "clocks"),
        ("key: a\nextends: base\ntitle: {zh: 一, en: A}\nactions: {accept: {roles: [boss]}}\n", "actions"),
        ("key: a\nextends: base\n", "title"),
        ("key: a\ntitle: {zh: 一, en: A}\n", "required"),
    ],
)
def test_the_schema_refuses_what_the_language_does_not_know(text: str, said: str) -> None:
    found = list(Draft202012Validator(json_schema()).iter_errors(read_text(text, "a")[0]))
    assert found and said in " ".join(str(e) for e in found)


def test_the_schema_is_of_the_workflow_file() -> None:
    assert set(json_schema()["else"]["properties"]) == set(WorkflowDoc.model_fields)
