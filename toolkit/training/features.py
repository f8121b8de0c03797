"""A target's hidden states over recorded texts: what drafts learn from. Computed as they are needed, or once and kept.

The forward is the decoding loop's own Runner, packed weights and all, so a draft is trained on what it will be shown.
Kept states are exactly those computed, one file a text and layer under the digest of its tokens: runs with other
drafts, other data or other processes share them, and a run that was killed computes only what is not there.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from toolkit import artifact, hub, sources
from toolkit.engine.runner import Runner
from toolkit.errors import UserError
from toolkit.evaluation.progress import Bar
from toolkit.files import write_atomic
from toolkit.hub import ModelConfig
from toolkit.loading import identify
from toolkit.training.texts import Text

_BATCH_TOKENS = 4096  # of a forward that fills the store
_PLAIN = ModelConfig("target")


@dataclass
class FeaturesConfig:
    """Where hidden states are kept, if they are."""

    keep: bool = False
    directory: str = "results/features"
    budget_gb: float = 10.0  # refuse to keep more than this


class Teacher:
    """The target as a function of texts: its states entering some layers, and its logits.

    Not an nn.Module on purpose: it must be in nobody's parameters.
    """

    def __init__(self, target: ModelConfig) -> None:
        self.name = target.name
        model, self.tokenizer = hub.load_hf(target)
        self.embeddings: nn.Module = model.get_input_embeddings()
        # Before the Runner packs them; references, not copies
        self._head = model.get_output_embeddings()
        self.weights: dict[str, Tensor] = model.get_decoder().state_dict()
        known = max(self.tokenizer.get_vocab().values()) + 1  # padding ids beyond the tokenizer stand for no text
        width = min(model.config.get_text_config().vocab_size, known)
        self.runner = Runner(model, self.tokenizer, name=target.name, vocab=width)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.final = self.runner.n_layers  # the key of the states after the final norm
        self.vocab, self.device = self.runner.vocab, self.runner.device
        self._check_head()
        self.kept: Store | None = None

    def embed(self, tokens: Tensor) -> Tensor:
        """[...] int64 -> [..., H], without gradients."""
        with torch.no_grad():
            return self.embeddings(tokens)

    def states(self, texts: Sequence[Text], layers: Sequence[int]) -> dict[int, Tensor]:
        """Layer -> [B, L, H], rows padded at their end (with anything); `final` for those after the final norm."""
        if self.kept is not None:
            return {layer: self.kept.read(texts, layer).to(self.device) for layer in layers}
        return self.compute(texts, layers)

    def compute(self, texts: Sequence[Text], layers: Sequence[int]) -> dict[int, Tensor]:
        """`states`, by a forward of the target."""
        rows = tokens(texts, self.device)  # [B, L]
        cache = self.runner.cache(*rows.shape)
        start = np.zeros(len(texts), dtype=np.int64)
        hidden = self.runner.forward(cache, rows, start, logits="none", hidden=frozenset(layers)).hidden
        return {layer: state.clone() for layer, state in hidden.items()}  # out of inference mode: autograd may save it

    def logits(self, final: Tensor, ids: Tensor | None = None) -> Tensor:
        """States after the final norm [..., H] -> logits of the target's vocabulary, or of these ids of it, float32."""
        weight, bias = self._rows(ids)
        return nn.functional.linear(final, weight, bias).float()

    def rows(self, ids: Tensor) -> Tensor:
        """The head's weights of these tokens, [len(ids), H]."""
        return self._head.weight[ids]

    def _rows(self, ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
        weight, bias = self._head.weight, self._head.bias
        if ids is None:
            return weight[: self.vocab], None if bias is None else bias[: self.vocab]
        return weight[ids], None if bias is None else bias[ids]

    def _check_head(self) -> None:
        """Some models cap or scale what their head gives; logits made from states would lack that."""
        one = Text("", (1, 2, 3), (4,), ended=False)
        made = self.logits(self.compute([one], [self.final])[self.final])
        cache = self.runner.cache(1, 4)
        right = self.runner.forward(cache, tokens([one], self.device), np.zeros(1, dtype=np.int64)).logits
        if not torch.allclose(made, right.float(), rtol=1e-2, atol=1e-2):
            raise UserError(
                f"target {self.name}: its logits are not its head's output alone (capped or scaled, as Gemma-2's are); "
                "training a draft from its hidden states is not supported."
            )


def tokens(texts: Sequence[Text], device: torch.device) -> Tensor:
    """[B, L] int64, padded at the end with 0."""
    rows = torch.zeros(len(texts), max(len(text.tokens) for text in texts), dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text.tokens)] = torch.tensor(text.tokens)
    return rows.to(device)


class Store:
    """Kept states of one target: DIRECTORY/<target>/<layer>/<text>.safetensors, in the target's own dtype."""

    def __init__(self, settings: FeaturesConfig, target: ModelConfig, teacher: Teacher) -> None:
        # A quantised or pruned target is another one, which its identity does not say
        made = {"dtype": str(teacher.runner.dtype)} | {
            key: str(value) for key in ("quant", "draft_from") if (value := vars(target)[key]) != vars(_PLAIN)[key]
        }
        identity = json.dumps(identify(target) | made, sort_keys=True)
        self.directory = Path(settings.directory) / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._teacher, self._budget = teacher, settings.budget_gb

    def fill(self, texts: Sequence[Text], layers: Sequence[int], state: Accelerator) -> None:
        """Compute what is not there; each process its share. Says the size first; UserError past the budget."""
        width = self._teacher.runner.model.config.get_text_config().hidden_size
        size = sum(len(text.tokens) for text in texts) * width * len(layers) * self._teacher.runner.dtype.itemsize / 1e9
        missing = [text for text in texts if not all(self._path(text, layer).is_file() for layer in layers)]
        state.wait_for_everyone()  # nobody writes before all have looked
        if state.is_main_process:
            sources.say(
                f"hidden states of {len(texts)} texts, layers {list(layers)}: {size:.2f} GB in {self.directory}, "
                f"{len(missing)} texts to compute"
            )
        if size > self._budget:
            raise UserError(
                f"features: {size:.1f} GB of hidden states would be kept, more than features.budget_gb "
                f"({self._budget:g}). Raise it, train on fewer texts (data.limit), or set features.keep=false to "
                "compute them as they are needed."
            )
        own = sorted(missing, key=lambda text: len(text.tokens))[state.process_index :: state.num_processes]
        with Bar("features", len(own)) as bar, artifact.writing(self.directory):
            for layer in layers:
                (self.directory / str(layer)).mkdir(parents=True, exist_ok=True)
            while own:
                batch = max(1, _BATCH_TOKENS // len(own[0].tokens))
                chunk, own = own[:batch], own[batch:]
                for layer, states in self._teacher.compute(chunk, layers).items():
                    for text, rows in zip(chunk, states, strict=True):
                        rows = rows[: len(text.tokens)].contiguous().cpu()
                        write_atomic(self._path(text, layer), save({"states": rows}))
                bar.advance(len(chunk), "texts")
        state.wait_for_everyone()

    def read(self, texts: Sequence[Text], layer: int) -> Tensor:
        """[B, L, H], padded with zeros."""
        rows = [self._read(self._path(text, layer)) for text in texts]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def _path(self, text: Text, layer: int) -> Path:
        return self.directory / str(layer) / f"{text.name}.safetensors"

    def _read(self, path: Path) -> Tensor:
        try:
            return load_file(path)["states"]
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path}: kept hidden states are missing or damaged ({error}). Delete {self.directory} and run the "
                "same command again: they are computed anew."
            ) from None


def teacher(target: ModelConfig, settings: FeaturesConfig) -> Teacher:
    """The target, with a store of its states where the recipe keeps them. Call `Store.fill` before training."""
    made = Teacher(target)
    if settings.keep:
        made.kept = Store(settings, target, made)
    return made
