"""From a problem to the token ids that a model continues, the same for every method."""

import hashlib
import json
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from toolkit import chat
from toolkit.errors import UserError
from toolkit.tasks._types import Message, Problem, Task


@dataclass(frozen=True)
class Prompt:
    """A problem as the model sees it."""

    problem: Problem
    tokens: tuple[int, ...]

    @property
    def id(self) -> str:
        return self.problem.id

    @property
    def request_id(self) -> int:
        """Keys the randomness: of the prompt's name alone, so neither order nor company changes a text."""
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:8]) >> 1

    @property
    def digest(self) -> str:
        """Changes with whatever changes the question, its template or its gold answer."""
        return hashlib.sha256(json.dumps([self.tokens, self.problem.answer]).encode()).hexdigest()


def prepare(
    task: Task, tokenizer: PreTrainedTokenizerBase, chat_template: bool, thinking: bool = False
) -> list[Prompt]:
    """All problems of a task, in its order. UserError where two share an id, which rows are filed under."""
    prompts = [Prompt(p, _encode(task.messages(p), tokenizer, chat_template, thinking)) for p in task.problems()]
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise UserError(f"task '{task.name}': two problems have the id '{prompt.id}'; ids must differ.")
        seen.add(prompt.id)
    return prompts


def _encode(
    messages: list[Message], tokenizer: PreTrainedTokenizerBase, chat_template: bool, thinking: bool
) -> tuple[int, ...]:
    """Without a template: the contents, a blank line between."""
    if chat_template:
        return chat.encode(messages, tokenizer, thinking)
    return tuple(tokenizer("\n\n".join(message["content"] for message in messages) + "\n\n").input_ids)
