"""A draft whose output head is trimmed to a vocabulary of its own: `vocabulary.safetensors` beside its weights.

The file holds the two maps of EAGLE's formats, d2t and t2d. The draft still reads every token of the target: only
the head loses rows, and is no longer tied to the embeddings.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn
from transformers import PreTrainedModel

from toolkit import artifact
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.files import write_atomic

FILE = "vocabulary.safetensors"
HEAD = "lm_head.weight"


def save(directory: Path, vocabulary: Vocabulary, width: int) -> None:
    """Write the vocabulary beside a draft's weights. width: the tokens that the draft's embeddings have."""
    mapped = Vocabulary(vocabulary.ids.cpu(), width)
    content = serialised({"d2t": mapped.offsets(), "t2d": mapped.mask()})
    with artifact.writing(directory):
        write_atomic(directory / FILE, content)


def read(directory: Path) -> Vocabulary | None:
    """The vocabulary of the draft in this directory; None where it has all of its target's tokens."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or train the draft again.") from None
    if tensors.keys() != {"d2t", "t2d"}:
        raise UserError(f"{path}: holds {', '.join(sorted(tensors)) or 'nothing'}; expected d2t and t2d.")
    return Vocabulary.from_map(tensors["d2t"], tensors["t2d"], path)


def check(model: PreTrainedModel, vocabulary: Vocabulary, directory: Path) -> None:
    """UserError where the directory's vocabulary is one of another model."""
    width = model.config.get_text_config().vocab_size
    if vocabulary.size != width:
        raise UserError(
            f"{directory / FILE}: 't2d' has {vocabulary.size} entries, and the draft's model has {width} tokens; "
            "expected as many. Use the draft with the target that it was trained for, or train it again."
        )


def trim(model: PreTrainedModel, vocabulary: Vocabulary) -> None:
    """Leave the model's head the rows of these tokens, in place."""
    head, ids = model.get_output_embeddings(), vocabulary.ids.to(model.device)
    rows = nn.Linear(head.in_features, len(ids), bias=head.bias is not None, device="meta")  # draws no weights
    rows.weight = nn.Parameter(head.weight.detach()[ids])
    if head.bias is not None:
        rows.bias = nn.Parameter(head.bias.detach()[ids])
    model.set_output_embeddings(rows)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    model.all_tied_weights_keys = {}  # what transformers would tie again


def own_head(directory: Path) -> Tensor | None:
    """The head of a whole draft model that was saved trimmed; None where it is whole, or tied to the embeddings."""
    vocabulary, path = read(directory), directory / "model.safetensors"
    if vocabulary is None or not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        if HEAD in names and file.get_slice(HEAD).get_shape()[0] == len(vocabulary):
            return file.get_tensor(HEAD)
    return None
