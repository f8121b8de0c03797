"""A chat as token ids, ready for the answer; and with its answer, to train on.

The one place that applies a chat template, so that a prompt typed by hand and a benchmark's look the same to a model.
"""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from toolkit.errors import UserError


def encode(
    messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase, thinking: bool = False
) -> tuple[int, ...]:
    """Through the tokenizer's own template, which brings its special tokens with it.

    `thinking` is always said to the template: models that can think aloud first do so unless told otherwise.
    """
    return tuple(tokenizer(_prompt(messages, tokenizer, thinking), add_special_tokens=False).input_ids)


def encode_answered(
    messages: Sequence[dict[str, str]], response: str, tokenizer: PreTrainedTokenizerBase, thinking: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(prompt ids, answer ids): what a model reads and what it should then generate, its end of turn included.

    That end is the tokenizer's EOS token, put after whatever else the template ends a turn with. The two are tokenised
    apart because that is how they meet at inference: the answer starts on a token of its own.
    """
    end = _end(response, tokenizer)
    prompt = _prompt(messages, tokenizer, thinking)
    answered = [*messages, {"role": "assistant", "content": response}]
    whole = tokenizer.apply_chat_template(answered, tokenize=False, enable_thinking=thinking)
    if not whole.startswith(prompt):
        raise UserError(
            "the chat template renders a prompt differently once it is answered, so a model would be trained on a "
            f"prompt that it never sees. The prompt ends in {prompt[-60:]!r}; answered, that place reads "
            f"{whole[len(prompt) - 60 : len(prompt)]!r}."
        )
    rest = whole[len(prompt) :]
    answer = tokenizer(rest, add_special_tokens=False).input_ids
    if end in answer:
        answer = answer[: answer.index(end)]  # what follows an end of turn is never generated
    elif not rest.rstrip().endswith(response.rstrip()):  # a mark of the template's own; the line's end after it is not
        answer = tokenizer(rest.rstrip(), add_special_tokens=False).input_ids
    return tuple(tokenizer(prompt, add_special_tokens=False).input_ids), (*answer, end)


def encode_follow_up(text: str, tokenizer: PreTrainedTokenizerBase, thinking: bool = False) -> tuple[int, ...]:
    """What stands between an answer and the next one, when the user says `text` then: end of turn, text, opening.

    The same after any answer, so that a conversation's tokens are those that were generated, with these in between.
    """
    answer = "(answer)"
    messages = [
        {"role": role, "content": said} for role, said in (("user", "?"), ("assistant", answer), ("user", text))
    ]
    _, found, rest = _prompt(messages, tokenizer, thinking).partition(answer)
    if not found:
        raise UserError("the chat template drops a model's earlier answers, so it can hold no conversation.")
    return tuple(tokenizer(rest, add_special_tokens=False).input_ids)


def _end(response: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the EOS token; UserError where there is none, or where the response would end before its end."""
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError(
            "the tokenizer has no EOS token, so a model could not learn where an answer ends; set eos_token in its "
            "tokenizer_config.json."
        )
    if end in tokenizer(response, add_special_tokens=False).input_ids:
        raise UserError(
            f"a response contains the EOS token {tokenizer.eos_token!r}, at which its answer would be cut off; take it "
            f"out of the data. The response begins {response[:60]!r}."
        )
    return end


def _prompt(messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase, thinking: bool) -> str:
    if tokenizer.chat_template is None:
        raise UserError("chat_template is true, but the target's tokenizer has no chat template; set it to false.")
    try:
        return tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False, enable_thinking=thinking
        )
    except TemplateError as error:
        raise UserError(
            f"the target's chat template refuses these messages ({error}). Where it takes no system prompt, leave that "
            "out (task.system='' in a recipe); chat_template=false (chat=false in generate) does without the template."
        ) from error
