"""Everyday instructions and questions, to train drafts for chat on: held out by prompt, not scored.

The file is `domain_chat.jsonl[.gz]`: rows with `prompt`, `response` and `source`. Without it, instructions that people
wrote and answered, from the hub (databricks-dolly-15k).
"""

from toolkit.tasks import _data, _domain
from toolkit.tasks._domain import Config
from toolkit.tasks._types import Task

__all__ = ["Config", "build"]

NAME = "domain_chat"
HUB_ID = "databricks/databricks-dolly-15k"


def build(config: Config) -> Task:
    """The selected prompts of one split."""
    return _domain.build(NAME, _data.load(NAME, HUB_ID, _from_hub), config)


def _from_hub() -> list[_data.Row]:
    return [
        _data.Row(
            {
                "prompt": "\n\n".join(part for part in (row.text("instruction"), row.optional("context")) if part),
                "response": row.text("response"),
                "source": f"dolly-{row.text('category')}",
            },
            row.where,
        )
        for row in _data.hub_rows(HUB_ID, None, "train")
    ]
