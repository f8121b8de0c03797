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
    """A problem as the model sees it. follow_ups: what it reads after each of its answers but the last."""

    problem: Problem
    tokens: tuple[int, ...]
    follow_ups: tuple[tuple[int, ...], ...] = ()

    @property
    def id(self) -> str:
        return self.problem.id

    @property
    def request_id(self) -> int:
        """Keys the randomness: of the prompt's name alone, so neither order nor company changes a text."""
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:8]) >> 1

    @property
    def digest(self) -> str:
        """Changes with whatever changes the question, its template, its gold answer or its tests."""
        also = [part for part in (self.follow_ups, self.problem.tests) if part]
        return hashlib.sha256(json.dumps([self.tokens, self.problem.answer, *also]).encode()).hexdigest()


def prepare(
    task: Task, tokenizer: PreTrainedTokenizerBase, chat_template: bool, thinking: bool = False
) -> list[Prompt]:
    """All problems of a task, in its order. UserError where two share an id, which rows are filed under."""
    prompts = [
        Prompt(
            problem,
            _encode(task.messages(problem), tokenizer, chat_template, thinking),
            tuple(_between(text, tokenizer, chat_template, thinking) for text in problem.follow_ups),
        )
        for problem in task.problems()
    ]
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


def _between(text: str, tokenizer: PreTrainedTokenizerBase, chat_template: bool, thinking: bool) -> tuple[int, ...]:
    """From the end of an answer to the start of the next one: its end of turn, and what the user says then."""
    if chat_template:
        return chat.encode_follow_up(text, tokenizer, thinking)
    return tuple(tokenizer(f"\n\n{text}\n\n", add_special_tokens=False).input_ids)
