"""Models by name: load, check that a draft speaks the target's language and was made for it, wrap as a Runner.

`Models` is what a piece's `build` receives. It loads the target once, and a draft once however many methods use it.
The name `target` means the recipe's target: alone it is the very same Runner, with `draft_from` a pruned one.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toolkit import artifact, binding, heads, policy, sources
from toolkit.artifact import Manifest
from toolkit.binding import Identity
from toolkit.engine import packed
from toolkit.engine.runner import Runner
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.loading import TARGET, DraftFrom, ModelConfig, load, spelled_out
from toolkit.nets import gate as gates
from toolkit.nets import heads as acceptance_heads
from toolkit.nets import judge as judges
from toolkit.nets import router as routers
from toolkit.nets.eagle3 import Eagle3
from toolkit.nets.gate import LearnedGate
from toolkit.nets.heads import AcceptanceHead, HeadSettings
from toolkit.nets.judge import Judge
from toolkit.nets.router import Routing
from toolkit.policy import Policy

__all__ = ["TARGET", "DraftFrom", "ModelConfig", "Models", "check_compatible", "load_hf"]


class Models:
    """The recipe's target, and whatever other models its pieces ask for.

    `provenance` says of every one loaded where its weights come from and what they are: a name alone does not, as the
    hub's smollm2-135m and the package's are two models. Keyed by `ModelConfig.label`. `asked`: which of them pieces
    have asked for; who builds a method empties it before, to know whose weights the method has.
    """

    def __init__(self, target: ModelConfig) -> None:
        if target.name == TARGET:
            raise UserError(f"target.name = '{TARGET}': name the model itself; only a draft may refer to the target.")
        self.config = target
        self.provenance: dict[str, dict[str, str]] = {}  # label -> {"source": in words, "fingerprint": SHA-256}
        self.asked: set[str] = set()  # labels
        model, tokenizer, self._origin = load(target, None)
        if self._origin.vocabulary is not None:
            raise UserError(
                f"target '{target.name}' is a draft that says only {len(self._origin.vocabulary)} of its tokens. Name "
                "the model that it drafts for."
            )
        self.provenance[target.label] = self._origin.provenance()
        self._width = model.config.get_text_config().vocab_size
        vocab = min(self._width, _size(tokenizer))  # padding ids beyond the tokenizer stand for no text
        self.target = Runner(model, tokenizer, name=target.name, vocab=vocab)
        self._loaded = {repr(target): self.target}
        self._heads: dict[str, tuple[Eagle3, Vocabulary]] = {}
        self.pieces: dict[str, Any] = {}  # by what it is: what is put into a model once, however many methods use it

    def identity(self) -> Identity:
        """The target as an artifact is bound to it: its name, weights, tokenizer and adapters."""
        return self._origin.identity(self.target.tokenizer)

    def load(self, config: ModelConfig) -> Runner:
        """The model as a Runner over the target's vocabulary; UserError where the two do not fit."""
        config = spelled_out(config, self.config)
        key = repr(config)
        if key not in self._loaded:
            self._loaded[key] = self._draft(config)
        self.asked.add(config.label)
        return self._loaded[key]

    def fingerprint(self, config: ModelConfig) -> str:
        """Of a model that was loaded, what was cut from it included: two prunings of one model are two drafts."""
        whole = spelled_out(config, self.config)
        fingerprint = self.provenance[whole.label]["fingerprint"]
        if whole.draft_from is None:
            return fingerprint
        return hashlib.sha256(f"{fingerprint} {whole.draft_from}".encode()).hexdigest()

    def head(self, name: str) -> tuple[Eagle3, Vocabulary]:
        """The EAGLE-3 head in a directory, where the target is and in its dtype; UserError where they do not fit."""
        if name not in self._heads:
            self._heads[name] = self._head(Path(name).expanduser())
            digest = artifact.digest(Path(name).expanduser())
            self.provenance[name] = {"source": f"head {digest[:12]}", "fingerprint": digest}
        self.asked.add(name)
        return self._heads[name]

    def acceptance_head(self, name: str) -> tuple[AcceptanceHead, HeadSettings, str]:
        """SpecDec++'s head in a directory, on the target's device -> it, what it was made for, its draft's weights."""
        directory = Path(name).expanduser()
        manifest = self._learned(name, acceptance_heads.KIND)
        head, settings = acceptance_heads.read(directory)
        return head.to(self.target.device), settings, manifest.binds["draft"]["fingerprint"]

    def policy(self, name: str) -> tuple[Policy, str]:
        """JointAdaSpec's tables in a directory -> they, and the weights of the draft that they were made for."""
        manifest = self._learned(name, policy.KIND)
        return policy.read(Path(name).expanduser()), manifest.binds["draft"]["fingerprint"]

    def judge(self, name: str) -> tuple[Judge, str | None]:
        """AutoJudge's classifier in a directory, on the target's device -> it, and its draft's weights.

        None instead of weights: it reads nothing of a draft, so any will do.
        """
        directory = Path(name).expanduser()
        manifest = self._learned(name, judges.KIND, ("target",))
        judge = judges.read(directory)
        if judge.reads_draft and "draft" not in manifest.binds:
            raise UserError(
                f"{directory / artifact.MANIFEST}: key 'binds' has no draft, and the judge reads "
                f"{', '.join(judge.features)}. Train it again."
            )
        width = self.target.model.config.get_text_config().hidden_size
        if judge.hidden.get("target", width) != width:
            raise UserError(
                f"{directory / judges.CONFIG}: key 'hidden_size.target' is {judge.hidden['target']}, and target "
                f"'{self.config.name}' has states of {width}. Use the judge with the target that it was trained for."
            )
        judge.net.to(self.target.device)
        return judge, manifest.binds["draft"]["fingerprint"] if judge.reads_draft else None

    def gate(self, name: str) -> tuple[LearnedGate, dict[str, str]]:
        """The consensus gate in a directory, on the target's device -> it, and the weights of its drafts, d1 and d2."""
        manifest = self._learned(name, gates.KIND, ("target", "draft", "draft2"))
        made_for = {"d1": manifest.binds["draft"]["fingerprint"], "d2": manifest.binds["draft2"]["fingerprint"]}
        return gates.read(Path(name).expanduser()).to(self.target.device), made_for

    def router(self, name: str) -> Routing:
        """What a router learned, in a directory. Its drafts are checked by whoever loads them (proposers/routed)."""
        self._learned(name, routers.KIND, ("target",))
        return routers.read(Path(name).expanduser())

    def _learned(self, name: str, kind: str, roles: Sequence[str] = ("target", "draft")) -> Manifest:
        """The manifest of what was learned beside this target; UserError where it is something else.

        roles: what it must be bound to.
        """
        directory = Path(name).expanduser()
        manifest = artifact.verify(directory)
        if manifest.kind != kind or not manifest.binds.keys() >= {*roles}:
            raise UserError(
                f"{directory / artifact.MANIFEST}: key 'kind' is '{manifest.kind}', bound to "
                f"{', '.join(manifest.binds) or 'nothing'}; expected '{kind}', bound to its {' and '.join(roles)}."
            )
        binding.check(directory, manifest.binds["target"], self.identity())
        digest = artifact.digest(directory)
        self.provenance[name] = {"source": f"{kind} {digest[:12]}", "fingerprint": digest}
        self.asked.add(name)
        return manifest

    def _head(self, directory: Path) -> tuple[Eagle3, Vocabulary]:
        if (directory / artifact.MANIFEST).is_file():
            manifest = artifact.verify(directory)
            if manifest.kind != "eagle3" or "target" not in manifest.binds:
                raise UserError(
                    f"{directory / artifact.MANIFEST}: key 'kind' is '{manifest.kind}', bound to "
                    f"{', '.join(manifest.binds) or 'nothing'}; expected 'eagle3', bound to its target."
                )
            binding.check(directory, manifest.binds["target"], self.identity())
        else:
            sources.say(
                f"warning: {directory} has no {artifact.MANIFEST} that would name its target; shapes are checked"
            )
        head, vocabulary = heads.read(directory)
        model = self.target.model.config.get_text_config()
        layer = head.config.layer
        facts = [  # key, the head's, whether it will do, the target's
            ("vocab_size", layer.vocab_size, layer.vocab_size == self._width, self._width),
            ("hidden_size", layer.hidden_size, layer.hidden_size == model.hidden_size, model.hidden_size),
            (
                "eagle_aux_hidden_state_layer_ids",
                list(head.config.aux_layers),
                max(head.config.aux_layers) < self.target.n_layers,
                f"layers 0 to {self.target.n_layers - 1}",
            ),
        ]
        for key, its, fits, expected in facts:
            if not fits:
                raise UserError(
                    f"{directory / heads.CONFIG}: key '{key}' is {its}, and target '{self.config.name}' has {expected}."
                    " Use the head with the target that it was trained for."
                )
        head = head.to(self.target.device)
        for parameter in head.parameters():  # not the buffer of rotary frequencies, which needs its float32
            parameter.data = parameter.data.to(self.target.dtype)
        if self.target.device.type == "cpu":
            packed.pack(head)
        return head, vocabulary.to(self.target.device)

    def _draft(self, config: ModelConfig) -> Runner:
        self._check_binding(config)
        # Read again even where the target is pruned: the target's own layers are packed by now
        model, tokenizer, origin = load(config, self.config)
        self.provenance[config.label] = origin.provenance()
        vocab = check_compatible(
            (self.config.name, self.target.tokenizer.get_vocab(), self._width),
            (config.name, tokenizer.get_vocab(), model.config.get_text_config().vocab_size),
        )
        if vocab < self.target.vocab:  # baseline included: all methods must choose among the same tokens
            sources.say(
                f"target cut from {self.target.vocab} to {vocab} tokens, the width it shares with {config.name}"
            )
            for runner in self._loaded.values():  # the target, and drafts that were cut to its former width
                runner.narrow(vocab)
        return Runner(model, tokenizer, name=config.name, vocab=self.target.vocab, vocabulary=origin.vocabulary)

    def _check_binding(self, config: ModelConfig) -> None:
        """A draft that is an artifact must have been trained for this target."""
        directory = Path(config.name).expanduser()
        if config.name == self.config.name or not (directory / artifact.MANIFEST).is_file():
            return
        manifest = artifact.read(directory)
        if "target" in manifest.binds and "target" not in manifest.provides:
            binding.check(directory, manifest.binds["target"], self.identity())


def load_hf(config: ModelConfig, target: ModelConfig | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The Hugging Face model (in eval mode, adapters merged, pruned if asked for) and its tokenizer.

    Says on stderr where from. `target` is what the name `target` means, in the config or in an artifact's manifest.
    """
    model, tokenizer, _ = load(config if target is None else spelled_out(config, target), target)
    return model, tokenizer


Speaker = tuple[str, dict[str, int], int]  # name, token -> id, width of the logits


def check_compatible(target: Speaker, draft: Speaker) -> int:
    """The common vocabulary width of two models whose ids mean the same text; UserError with the first difference.

    Only the ids below it count: the same tokenizer is often padded to different widths (151,936 and 152,064).
    """
    (target_name, target_ids, target_width), (draft_name, draft_ids, draft_width) = target, draft
    common = min(target_width, draft_width, max(target_ids.values()) + 1, max(draft_ids.values()) + 1)
    for token, i in sorted(target_ids.items(), key=lambda item: item[1]):
        if i < common and draft_ids.get(token) != i:
            raise _incompatible(token, target_name, i, draft_name, draft_ids.get(token))
    for token, i in sorted(draft_ids.items(), key=lambda item: item[1]):
        if i < common and target_ids.get(token) != i:
            raise _incompatible(token, target_name, target_ids.get(token), draft_name, i)
    return common


def _incompatible(token: str, target: str, target_id: int | None, draft: str, draft_id: int | None) -> UserError:
    def at(i: int | None) -> str:
        return "is absent" if i is None else f"has id {i}"

    return UserError(
        f"models '{target}' and '{draft}' have different tokenizers, so one cannot draft for the other. First "
        f"difference: token {token!r} {at(target_id)} in '{target}' and {at(draft_id)} in '{draft}'. "
        "Take a draft of the target's own family."
    )


def _size(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(tokenizer.get_vocab().values()) + 1
