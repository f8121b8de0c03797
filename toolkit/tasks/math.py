r"""MATH: competition problems by level (Hendrycks et al. 2021, arXiv 2103.03874), answer in \boxed{}.

Tiers: medium = levels 1-2, hard = levels 3-4, all = every level of MATH. The tier easy is GSM8K, posed and graded
exactly as the other two, so that a comparison over tiers varies the problems and nothing else; for GSM8K with
its own prompt and grading use the task gsm8k. Level 5 belongs to no tier: `levels: [5]`.

Problems of the train split come with the dataset's solution as a worked chain of thought (GSM8K's also as a chain
of draft), its answer marked as `ending` says. Where the dataset has no answer (two rows) there is none.
"""

import re
from dataclasses import dataclass, field, replace

from toolkit.errors import UserError
from toolkit.tasks import _answers, _data, _exemplars, _prompts, gsm8k
from toolkit.tasks._chat import ChatTask
from toolkit.tasks._types import Problem, Task

HUB_ID = "EleutherAI/hendrycks_math"
HUB_MATH500 = "HuggingFaceH4/MATH-500"
SPLITS = ("test", "train")
TIERS = {"all": (), "easy": (), "medium": (1, 2), "hard": (3, 4)}
ENDINGS = ("boxed", "hashes")
SUBJECTS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)
_INNER = r"(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*"  # braces three deep: more than any solution has
_BOXED = re.compile(rf"\\boxed\s*(?:\{{({_INNER})\}}|([^\s{{}}$]))")  # "\boxed 9" occurs


@dataclass
class Config:
    split: str = "test"  # test | train
    tier: str = "all"  # all | easy | medium | hard
    levels: list[int] = field(default_factory=list)  # 1 to 5, instead of a tier; [] = as the tier says
    subjects: list[str] = field(default_factory=list)  # "Algebra", "Precalculus", ...; [] = all
    math500: bool = False  # only problems of MATH-500 (a subset of the test split)
    style: str = "cot"  # direct | cot | cod
    ending: str = "boxed"  # boxed | hashes: how the prompt wants the answer marked, and worked answers mark it
    shots: int = 0  # worked examples of our own before the question, at most 4
    system: str | None = None  # instead of the style's system prompt; "" for none
    limit: int | None = None  # how many problems; null = all
    offset: int = 0  # how many to skip first
    shuffle_seed: int | None = None  # null = the file's order


def build(config: Config) -> Task:
    """The selected problems under the style's prompt."""
    ending = _data.choice("ending", config.ending, ENDINGS)
    fitting = [problem for problem in _pool(config) if _fits(problem, config)]
    selected = _data.select(fitting, config.limit, config.offset, config.shuffle_seed)
    return ChatTask(
        name="math" if config.tier == "all" else f"math-{config.tier}",
        selected=[replace(p, worked=_worked(p, ending) if config.split == "train" else {}) for p in selected],
        preamble=_prompts.preamble(config.style, ending, config.shots, config.system, _exemplars.COMPETITION),
        grade=_answers.grade_expression,  # reads either mark, so that styles and endings can be compared
        style=config.style,
    )


def _worked(problem: Problem, ending: str) -> dict[str, str]:
    """Worked answers with the final one marked in the ending's way; none where there is nothing to mark."""
    if problem.answer is None:
        return {}
    if problem.worked:  # GSM8K, which marks by hashes
        mark = f"#### {problem.answer}" if ending == "hashes" else rf"\boxed{{{problem.answer}}}"
        return {style: text.partition("####")[0] + mark for style, text in problem.worked.items()}
    solution = str(problem.meta["solution"])
    if ending == "boxed":
        return {"cot": solution}
    unboxed = _BOXED.sub(lambda match: match[1] if match[1] is not None else match[2], solution)
    return {"cot": f"{unboxed}\n#### {problem.answer}"}


def _pool(config: Config) -> list[Problem]:
    """Every problem of the split, after a look at whether the filters make sense together."""
    _data.choice("split", config.split, SPLITS)
    _data.choice("tier", config.tier, tuple(TIERS))
    for subject in config.subjects:
        _data.choice("subjects", subject, SUBJECTS)
    if any(level not in range(1, 6) for level in config.levels):
        raise UserError(f"task math: levels is {config.levels}; expected numbers from 1 to 5")
    if config.levels and config.tier != "all":
        raise UserError(f"task math: tier {config.tier!r} and levels {config.levels} are both given; drop one of them")
    if config.math500 and config.split != "test":
        raise UserError("task math: math500 is a subset of the test split; set split: test")
    if config.tier != "easy":
        return load(config.split)
    if config.subjects or config.math500:
        raise UserError("task math: tier easy is GSM8K, which has no subjects and no math500; drop them")
    return gsm8k.load(config.split)


def _fits(problem: Problem, config: Config) -> bool:
    levels = config.levels or TIERS[config.tier]
    return (
        (not levels or problem.meta["level"] in levels)
        and (not config.subjects or problem.meta["subject"] in config.subjects)
        and (not config.math500 or problem.meta["math500"] == 1)
    )


def load(split: str) -> list[Problem]:
    """All problems of a split, in the file's order."""
    return [_problem(row) for row in _data.load(f"math_{split}", HUB_ID, lambda: _from_hub(split))]


def _problem(row: _data.Row) -> Problem:
    solution = row.text("solution")
    level = row.optional("level_num") or row.text("level").removeprefix("Level ")
    return Problem(
        id=row.text("id"),
        question=row.text("problem"),
        answer=row.optional("answer") or _answers.last_boxed(solution),  # None: two train rows have an empty box
        meta={
            "solution": solution,
            "level": int(level) if level.isdigit() else None,  # "Level ?" occurs
            "subject": row.text("type"),
            "math500": int(row.values.get("in_math500") is True),
        },
    )


def _from_hub(split: str) -> list[_data.Row]:
    """The hub has one configuration a subject, and MATH-500 elsewhere; rows get the fields of the local files."""
    folders = [subject.lower().replace("&", "and").replace(" ", "_") for subject in SUBJECTS]
    math500 = _math500_problems() if split == "test" else frozenset()
    return [
        _data.Row(
            {**row.values, "id": f"{split}/{folder}/row-{index}", "in_math500": row.values["problem"] in math500},
            row.where,
        )
        for folder in folders
        for index, row in enumerate(_data.hub_rows(HUB_ID, folder, split))
    ]


def _math500_problems() -> frozenset[object]:
    return frozenset(row.values["problem"] for row in _data.hub_rows(HUB_MATH500, None, "test"))
