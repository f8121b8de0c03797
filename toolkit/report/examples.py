"""Generations below their prompts, with what was accepted, what the target wrote itself and what it rejected."""

import functools
from collections import defaultdict
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from toolkit.errors import UserError
from toolkit.evaluation import asked, outdir
from toolkit.evaluation.asked import Asked
from toolkit.evaluation.records import Record
from toolkit.export.figures import number, percent
from toolkit.hub import ModelConfig
from toolkit.loading import read_tokenizer
from toolkit.report.page import Example, Section, Text
from toolkit.report.runs import Group
from toolkit.report.spans import Piece, pieces, spans

PROMPTS, METHODS = 2, 4  # of a group; of several groups one prompt each
MOST = 24  # examples
LONGEST = 256  # tokens of an answer, in all its turns
_OLDER = "rows that do not say what was rejected, as an older version wrote them"


def section(groups: Sequence[Group]) -> Section | str:
    drafting = [group for group in groups if any(row.drafts for row in group.rows)]
    if not drafting:
        return "no method that drafts"
    parts: list[Example | Text] = []
    without: dict[str, list[str]] = defaultdict(list)  # why there are none -> groups
    room = MOST
    for group in drafting:
        chosen = _chosen(group, 1 if len(drafting) > 1 else PROMPTS)[:room]
        made = _of(group, chosen) if chosen else _OLDER
        if isinstance(made, str):
            without[made].append(group.name)
            continue
        parts += made
        room -= len(chosen)
        if room == 0:
            break
    if not parts:
        return "; ".join(without)
    parts[:0] = [Text(f"None of {'; '.join(names)}: {why}.") for why, names in without.items()]
    intro = (
        "Accepted: drafted tokens that stood. Target: those it wrote itself, in place of a rejected one or behind a "
        "window. Rejected: what was drafted behind the accepted tokens, and is not in the text. Shown are the first "
        f"prompts that most methods answered, and of each the (up to {METHODS}) methods with the highest tau there: "
        "pictures of how drafting works, no sample to judge a method by."
    )
    return Section("examples", "Examples", intro, parts)


def _of(group: Group, chosen: Sequence[Record]) -> list[Example | Text] | str:
    """Or why there are none."""
    try:
        tokenizer = _tokenizer(group)
    except (UserError, OSError) as error:
        reason = str(error).partition("\n")[0]
        return f"the target's tokenizer is not here: {reason.removesuffix('.')}"
    ids = {row.prompt_id for row in chosen}
    prompts = _prompts(group, ids)
    examples = [_example(group, row, prompts.get(row.prompt_id), tokenizer) for row in chosen]
    return [*([] if prompts.keys() >= ids else [Text(_no_prompts(group))]), *examples]


def _chosen(group: Group, prompts: int) -> list[Record]:
    """The first prompts that most methods have windows for; of each the methods with the highest tau."""
    rows = [row for row in group.rows if row.ok and row.windows and row.proposed]
    by_prompt: dict[str, dict[str, Record]] = {}
    for row in sorted(rows, key=lambda row: row.set != "speed"):
        by_prompt.setdefault(row.prompt_id, {}).setdefault(row.method, row)
    best = sorted(by_prompt.values(), key=lambda found: -len(found))[:prompts]  # stable: the first of equals
    return [row for found in best for row in sorted(found.values(), key=_tau, reverse=True)[:METHODS]]


def _tau(row: Record) -> float:
    return row.n_tokens / max(1, row.rounds)


@functools.cache
def _read(name: str, revision: str | None) -> PreTrainedTokenizerBase:
    return read_tokenizer(ModelConfig(name, revision=revision))


def _tokenizer(group: Group) -> PreTrainedTokenizerBase:
    """The target's, by its name: what adapts a target has the same."""
    target = group.joined.identity["target"]
    return _read(target["name"], target["revision"])


def _prompts(group: Group, ids: set[str]) -> dict[str, Asked]:
    """By id, from whichever of the runs has them: those of a group were asked the same."""
    found: dict[str, Asked] = {}
    for run in group.runs:
        found = asked.read(run.path, ids - found.keys()) | found
    return found


def _no_prompts(group: Group) -> str:
    without = [str(run.path) for run in group.runs if not (run.path / outdir.PROMPTS).is_file()]
    where = f"no {outdir.PROMPTS} in {', '.join(without)}" if without else f"not in {outdir.PROMPTS}"
    return f"{group.name}: prompts are not shown: {where}. A run's own command writes it, and decodes nothing twice."


def _example(group: Group, row: Record, prompt: Asked | None, tokenizer: PreTrainedTokenizerBase) -> Example:
    facts = [
        ("tau", number(_tau(row), 2)),
        ("accepted", percent(row.accepted / row.proposed)),
        ("tokens", str(row.n_tokens) + (f" (the first {LONGEST} shown)" if row.n_tokens > LONGEST else "")),
        ("ended", {"eos": "itself", "length": "at the limit", "stop": "at a stop string"}.get(row.finish or "", "–")),
    ]
    if row.correct is not None:
        facts.append(("answer", f"{row.extracted or 'none found'}, {'right' if row.correct else 'wrong'}"))
    said = spans(_first(pieces(row), LONGEST), tokenizer)
    return Example(f"{group.name}: {row.prompt_id}", row.method, said, facts, _turns(prompt) if prompt else [])


def _turns(prompt: Asked) -> list[tuple[str, str]]:
    return [
        *((one.role, one.content) for one in prompt.messages),
        *(("user, after the answer", text) for text in prompt.follow_ups),
    ]


def _first(found: Sequence[Piece], most: int) -> list[Piece]:
    """Until so many tokens were generated: what was rejected, or said between two turns, is none of these."""
    shown: list[Piece] = []
    for kind, tokens in found:
        own = kind in ("accepted", "target")
        if most == 0 and kind != "rejected":
            break
        shown.append((kind, tokens[:most] if own else tokens))
        if own and len(tokens) > most:
            break
        most -= len(tokens) * own
    return shown
