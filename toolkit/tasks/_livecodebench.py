"""LiveCodeBench's rows: releases, fields that are JSON inside JSON, and tests as upstream runs them."""

import base64
import json
import pickletools
import zlib
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks import _data

HUB_ID = "livecodebench/code_generation_lite"
LAST = 6
_LOCAL = ("livecodebench", "livecodebench_public")

_MODULES = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
# What upstream puts before every program; builtins come late, so that math's pow and io's open do not replace them
PRELUDE = "".join(
    [
        *(f"from {module} import *\n" for module in (*_MODULES.split(), "builtins", "typing")),
        *(f"import {module}\n" for module in _MODULES.split()),
        "sys.setrecursionlimit(50000)\n",
    ]
)


def rows(path: Path | None, release: str) -> list[_data.Row]:
    """Of a release: of the file, else of the data directory, else of the hub."""
    wanted = _wanted(release)
    if path is not None:
        found = _data.read_jsonl(path)
    else:
        found = next((there for name in _LOCAL if (there := _data.local(name)) is not None), None)
        if found is None:
            return _data.load(_LOCAL[0], HUB_ID, lambda: _from_hub(wanted))
    of_release = found if release == "all" else [row for row in found if _release(row) in wanted]
    if not of_release:
        raise UserError(f"task livecodebench: no problem of {release} in {found[0].where.rpartition(',')[0]}")
    return of_release


def _wanted(release: str) -> range:
    """The increments that a release has."""
    if release == "all":
        return range(1, LAST + 1)
    number = int(release[-1])
    return range(1, number + 1) if release.startswith("release_") else range(number, number + 1)


def _release(row: _data.Row) -> int:
    """`release_v1`, `v5_increment`, `v5` -> which increment."""
    digits = [letter for letter in row.text("release") if letter.isdigit()]
    if len(digits) != 1:
        raise UserError(f"{row.where}: field 'release' is {row.text('release')!r}; expected one such as 'v5'")
    return int(digits[0])


def _from_hub(increments: range) -> list[_data.Row]:
    """One file an increment: test.jsonl, test2.jsonl, ... The hub's loading script is not run."""
    import datasets  # here, because importing it takes seconds that local files need not pay

    found = []
    for number in increments:
        name = f"hf://datasets/{HUB_ID}/test{'' if number == 1 else number}.jsonl"
        split = datasets.load_dataset("json", data_files=name, split="train")
        where = f"{HUB_ID} (v{number})"
        found += [
            _data.Row({**row, "release": f"v{number}"}, f"{where}, row {index}") for index, row in enumerate(split)
        ]
    return found


def function(row: _data.Row) -> str | None:
    """The method to complete; None for programs."""
    if "func_name" in row.values:
        return row.optional("func_name")
    metadata = _json(row, "metadata", row.optional("metadata") or "{}")
    return metadata.get("func_name") if isinstance(metadata, dict) else None


def tests(row: _data.Row, key: str) -> list[list[str]]:
    """[input, output] of each test; [] where the row has none of these."""
    value = row.values.get(key)
    if isinstance(value, str):
        value = _json(row, key, value if value.lstrip().startswith("[") else _unpacked(row, key, value))
    if value is None:
        return []
    try:
        return [[str(test["input"]), str(test["output"])] for test in value]
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{row.where}: field {key!r}: expected a list of tests with 'input' and 'output' ({error!r})"
        ) from None


def _json(row: _data.Row, key: str, text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{row.where}: field {key!r} is not valid JSON ({error}); copy the file anew") from None


def _unpacked(row: _data.Row, key: str, text: str) -> str:
    """Upstream packs private tests as base64 of zlib of a pickled text. Read as data: a pickle is never run."""
    try:
        pickled = zlib.decompress(base64.b64decode(text, validate=True))
        texts = [value for code, value, _ in pickletools.genops(pickled) if "UNICODE" in code.name]
    except (ValueError, zlib.error) as error:
        raise UserError(f"{row.where}: field {key!r} is not readable ({error}); copy the file anew") from None
    if len(texts) != 1:
        raise UserError(f"{row.where}: field {key!r} packs {len(texts)} texts; expected one")
    return texts[0]


def calls(name: str, cases: list[list[str]], in_class: bool) -> str:
    """Tests of a method: each line of an input is an argument as JSON. A tuple will do where a list is expected."""
    return (
        "import json\n"
        f"answer = {'Solution().' if in_class else ''}{name}\n"
        f"for given, expected in {cases!r}:\n"
        "    got = answer(*[json.loads(line) for line in given.split('\\n')])\n"
        "    assert (list(got) if type(got) is tuple else got) == json.loads(expected)\n"
    )
