"""docs/schema/README.md: what an eval's files hold, as tables, made of the JSON Schemas beside it."""

from collections.abc import Mapping
from typing import Any

_OPENING = """# What an eval writes

`draftsmith validate --export docs/schema` wrote this page and the schemas that it is made of.

A directory has `records.jsonl` (a row for each set, method, prompt, seed and repeat), `run.json` (whose rows these are)
and, once the run has ended, `results.json` (the summary). While several processes are at work, and after a kill, some
rows are in `parts/SESSION-PROCESS.jsonl`, a file a process: the run's command takes them into `records.jsonl`.

`draftsmith validate PATH...` checks these files; `--strict` also checks what must hold within a row, between rows, and
beside `run.json`. Its exit code is

- 0 where nothing is wrong. A run that was killed, or is under way, has no wrong file, only one that lacks rows: it is
  said to be unfinished, with how many rows are there and the command that resumes it. What is only not there yet (a
  row of the baseline, the rest of a timed batch, the end of the last line) is no problem then. Of a part that is
  looked at alone the same holds: the rows beside its own are in other files.
- 1 where something is wrong: file, line, key and what was expected are printed.
- 2 where there is nothing to check.
"""


def page(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """schemas: by file name."""
    parts = [_OPENING]
    shown: set[str] = set()
    for name, schema in schemas.items():
        parts.append(f"## {name.partition('.')[0]} ([{name}]({name}))\n\n{_table(schema)}")
        for inner, node in schema.get("$defs", {}).items():
            if inner not in shown:
                parts.append(f"### {inner}\n\n{_table(node)}")
            shown.add(inner)
    return "\n".join(parts)


def _table(schema: Mapping[str, Any]) -> str:
    """What a schema is of, and a row a key; an optional key is one that older files may not have."""
    required = schema.get("required", [])
    rows = [
        f"| `{key}`{'' if key in required else ' (optional)'} | {_kind(node)} | {_line(node['description'])} |"
        for key, node in schema["properties"].items()
    ]
    return "\n".join([_line(schema["description"]), "", "| key | type | meaning |", "| --- | --- | --- |", *rows, ""])


def _kind(node: Mapping[str, Any]) -> str:
    """A type in words."""
    if "$ref" in node:
        return node["$ref"].rpartition("/")[2]
    if "anyOf" in node:
        return " or ".join(map(_kind, node["anyOf"]))
    if "const" in node or "enum" in node:
        return " or ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if node["type"] == "array":
        return f"list of {_kind(node['items'])}"
    inner = node.get("additionalProperties")
    if node["type"] == "object" and isinstance(inner, dict):
        return f"object of {_kind(inner)}"
    return node["type"]


def _line(text: str) -> str:
    return " ".join(text.split())
