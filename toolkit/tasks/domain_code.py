"""Programming questions and instructions, to train drafts for code on: held out by prompt, not scored.

The file is `domain_code.jsonl[.gz]`: rows with `prompt`, `response` and `source`. Without it, LeetCode problems with
verified Python solutions from the hub (LeetCodeDataset, arXiv 2504.14655), those before LiveCodeBench's window.
"""

from toolkit.tasks import _data, _domain
from toolkit.tasks._domain import Config
from toolkit.tasks._types import Task

__all__ = ["Config", "build"]

NAME = "domain_code"
HUB_ID = "newfacade/LeetCodeDataset"
_BEFORE = "2023-05"  # LiveCodeBench begins in that month
_ASKED = "{}\n\nPlease complete the following python code precisely:\n```python\n{}\n```"


def build(config: Config) -> Task:
    """The selected prompts of one split."""
    return _domain.build(NAME, _data.load(NAME, HUB_ID, _from_hub), config)


def _from_hub() -> list[_data.Row]:
    return [
        _data.Row(
            {
                "prompt": _ASKED.format(row.text("problem_description").strip(), row.text("starter_code").strip()),
                "response": row.text("completion"),
                "source": "leetcodedataset",
            },
            row.where,
        )
        for row in _data.hub_rows(HUB_ID, None, "train")
        if str(row.values.get("estimated_date") or "9999") < _BEFORE
    ]
