"""The same question worked out twice, as chain of thought and as chain of draft: pairs for training the two styles.

The file is `cod_cot_pairs.jsonl[.gz]`, from Hassan-Sarwat/efficient-speculative-decoding (answers by Gemini 3 Pro);
it is on no hub. A row counts for both styles or for neither, so that two models trained on them saw the same
questions. Some questions are MATH *test* problems: these are always dropped.
"""

import logging
from dataclasses import dataclass, field

from toolkit.errors import UserError
from toolkit.tasks import _answers, _data, _exemplars, _prompts
from toolkit.tasks._chat import ChatTask
from toolkit.tasks._types import Problem, Task

NAME = "cod_cot_pairs"
TIERS = ("easy", "medium", "hard")  # GSM8K, MATH levels 1-2, MATH levels 3-4
STYLES = ("cot", "cod")

_log = logging.getLogger(__name__)


@dataclass
class Config:
    tiers: list[str] = field(default_factory=lambda: list(TIERS))  # easy | medium | hard
    kept_only: bool = True  # only rows that the source's own clean-up kept in both styles
    matching_only: bool = True  # only rows whose answer equals the gold one in both styles
    style: str = "cot"  # cot | cod
    shots: int = 0  # worked examples of our own before the question, at most 8
    system: str | None = None  # instead of the style's system prompt; "" for none
    limit: int | None = None  # how many problems; null = all
    offset: int = 0  # how many to skip first
    shuffle_seed: int | None = None  # null = the file's order, tier after tier


def build(config: Config) -> Task:
    """The selected pairs under the style's prompt; the log says how many were dropped, and why."""
    _data.choice("style", config.style, STYLES)
    if not config.tiers:
        raise UserError(f"task {NAME}: tiers is empty; expected one or more of {', '.join(TIERS)}")
    for tier in config.tiers:
        _data.choice("tiers", tier, TIERS)
    kept = _kept([row for row in _rows() if row.text("tier") in config.tiers], config)
    return ChatTask(
        name=NAME,
        selected=_data.select([_problem(row) for row in kept], config.limit, config.offset, config.shuffle_seed),
        preamble=_prompts.preamble(config.style, "hashes", config.shots, config.system, _exemplars.GRADE_SCHOOL),
        grade=_answers.grade_expression,
        style=config.style,
    )


def _rows() -> list[_data.Row]:
    rows = _data.local(NAME)
    if rows is None:
        raise UserError(
            f"task {NAME}: {NAME}.jsonl[.gz] not found; it is on no hub. Set {_data.DATA_DIR} to the directory that "
            "holds it, or train on the tasks gsm8k and steps, which come with worked answers of their own"
        )
    return rows


def _kept(rows: list[_data.Row], config: Config) -> list[_data.Row]:
    clean = [row for row in rows if not row.text("source_split").endswith("-test")]
    kept = [row for row in clean if not config.kept_only or _both(row, "kept_by_source")]
    matching = [row for row in kept if not config.matching_only or _both(row, "match")]
    _log.warning(
        "%s: %d of %d rows (%s) used; dropped: %d from a test split, %d not kept by the source, %d with a wrong answer",
        *(NAME, len(matching), len(rows), "+".join(config.tiers)),
        *(len(rows) - len(clean), len(clean) - len(kept), len(kept) - len(matching)),
    )
    return matching


def _both(row: _data.Row, flag: str) -> bool:
    """Is the flag set for either style?"""
    values = [row.values.get(f"{style}_{flag}") for style in STYLES]
    if not all(isinstance(value, bool) for value in values):
        names = " and ".join(f"'{style}_{flag}'" for style in STYLES)
        raise UserError(f"{row.where}: fields {names} are {values[0]!r} and {values[1]!r}; expected true or false")
    return all(values)


def _problem(row: _data.Row) -> Problem:
    meta = {"tier": row.text("tier"), "source": row.text("source_id"), "where": row.where}
    worked = {style: row.text(style) for style in STYLES}
    return Problem(row.text("id"), row.text("question"), row.text("gold_answer"), meta, worked)
