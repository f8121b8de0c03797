"""A chat as token ids, ready for the answer.

The one place that applies a chat template, so that a prompt typed by hand and a benchmark's look the same to a model.
"""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from toolkit.errors import UserError


def encode(messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Through the tokenizer's own template, which brings its special tokens with it."""
    if tokenizer.chat_template is None:
        raise UserError("chat_template is true, but the target's tokenizer has no chat template; set it to false.")
    try:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        raise UserError(
            f"the target's chat template refuses these messages ({error}). Where it takes no system prompt, leave that "
            "out (task.system='' in a recipe); chat_template=false (chat=false in generate) does without the template."
        ) from error
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)
