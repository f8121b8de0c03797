"""A chat with its answer: where the answer ends, and what is refused because it would end elsewhere."""

import pytest

from toolkit import chat, tiny
from toolkit.errors import UserError

MESSAGES = [{"role": "user", "content": "2 + 2?"}]
MARKED = (  # a turn ends with a mark that is not the EOS token, and a new line
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def tokenizer():
    return tiny.byte_tokenizer()


def test_the_end_follows_the_templates_own_mark_at_once(tokenizer):
    tokenizer.chat_template = MARKED
    prompt, answer = chat.encode_answered(MESSAGES, "4", tokenizer)
    assert tokenizer.decode(prompt) == "[user]2 + 2?<|im_end|>\n[assistant]"
    assert tokenizer.decode(answer) == "4<|im_end|><eos>"


def test_new_lines_within_an_answer_stay(tokenizer):
    tokenizer.chat_template = MARKED
    _, answer = chat.encode_answered(MESSAGES, "2 + 2 = 4\n\n#### 4", tokenizer)
    assert tokenizer.decode(answer) == "2 + 2 = 4\n\n#### 4<|im_end|><eos>"


def test_a_new_line_that_is_all_of_a_turns_end_stays(tokenizer):
    _, answer = chat.encode_answered(MESSAGES, "4", tokenizer)
    assert tokenizer.decode(answer) == "4\n<eos>"


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="the tokenizer has no EOS token"):
        chat.encode_answered(MESSAGES, "4", tokenizer)


def test_a_response_that_contains_the_end_is_refused(tokenizer):
    with pytest.raises(UserError, match="contains the EOS token '<eos>'.*begins 'It is<eos>4'"):
        chat.encode_answered(MESSAGES, "It is<eos>4", tokenizer)
