"""Prompt styles: answer at once (direct), think step by step (cot), keep a five-word draft a step (cod).

Chain of Draft is arXiv 2502.18600. A style has exactly one system prompt per answer format, used wherever the
style is: making data, training, testing. Otherwise two styles are compared under different instructions.
"""

from collections.abc import Sequence
from typing import Literal

from toolkit.errors import UserError
from toolkit.tasks._exemplars import Exemplar
from toolkit.tasks._types import Message

Ending = Literal["hashes", "boxed"]

STYLES = {
    "direct": "Answer the question directly, without any explanation.",
    "cot": "Think step by step and explain each step of your reasoning.",
    "cod": "Think step by step, but write down only a minimal draft of each step, with at most five words.",
}
ENDINGS: dict[Ending, str] = {
    "hashes": "Finish with the final answer after ####, as a plain number without units.",
    "boxed": r"Finish with the final answer in \boxed{}.",
}


def system_prompt(style: str, ending: Ending) -> str:
    """The one system prompt of a style."""
    if style not in STYLES:
        raise UserError(f"task: style is {style!r}; expected one of {', '.join(STYLES)}")
    return f"{STYLES[style]} {ENDINGS[ending]}"


def preamble(
    style: str, ending: Ending, shots: int, system: str | None, exemplars: Sequence[Exemplar]
) -> list[Message]:
    """System prompt (or the caller's own, "" for none) and `shots` worked examples in the same style."""
    prompt = system_prompt(style, ending)  # also checks the style where the caller's own prompt is used
    if not 0 <= shots <= len(exemplars):
        raise UserError(
            f"task: shots is {shots}; this task has {len(exemplars)} exemplars, so expected 0 to {len(exemplars)}"
        )
    prompt = prompt if system is None else system
    messages = [{"role": "system", "content": prompt}] if prompt else []
    for exemplar in exemplars[:shots]:
        messages.append({"role": "user", "content": exemplar.question})
        messages.append({"role": "assistant", "content": worked(exemplar, style, ending)})
    return messages


def worked(exemplar: Exemplar, style: str, ending: Ending) -> str:
    """The exemplar's answer as a model should give it in this style."""
    mark = f"#### {exemplar.answer}" if ending == "hashes" else rf"\boxed{{{exemplar.answer}}}"
    steps = {"direct": "", "cot": exemplar.cot, "cod": exemplar.cod}[style]
    separator = "\n" if style == "cot" else " "
    return f"{steps}{separator}{mark}".strip()
