"""transformers' own `generate` as a contestant: plain, with prompt lookup, with an assistant model.

As its user would get it: eager model, default attention, the defaults of `generate`. Equal for both sides are dtype,
threads, prompts, EOS, limit, temperature, the draft, and the most tokens it may draft a round (transformers' assistant
stops earlier where it is unsure: its default confidence threshold is left as it is). The prompt-lookup window is
chosen for transformers as ours is for us: on the same other prompts, by its own cost curve.
"""

import copy
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel

from toolkit import hub, prune
from toolkit.engine.types import Sampling
from toolkit.export.whole import load_whole
from toolkit.hub import ModelConfig


@dataclass
class Transformers:
    """A target and a draft that share nothing with our packed runners."""

    target: PreTrainedModel
    draft: PreTrainedModel
    lookup: int = 10  # tokens of prompt lookup a round

    @staticmethod
    def load(target: ModelConfig, draft: ModelConfig, window: int) -> "Transformers":
        model, _ = hub.load_hf(target)
        if draft.name != hub.TARGET:
            small, _, _ = load_whole(draft, target)  # generate's assistant must say all of the target's tokens
        elif draft.draft_from is not None:
            small = prune.pruned(model, draft.draft_from.layers, target.name)
        else:
            small = copy.copy(model)  # the same weights with settings of its own
            small.generation_config = copy.deepcopy(model.generation_config)
        small.generation_config.num_assistant_tokens = window
        small.generation_config.num_assistant_tokens_schedule = "constant"
        return Transformers(model, small)

    def plain(self, prompt: tuple[int, ...], sampling: Sampling) -> list[int]:
        return self._generate(prompt, sampling, None, None)

    def prompt_lookup(self, prompt: tuple[int, ...], sampling: Sampling) -> list[int]:
        return self._generate(prompt, sampling, self.lookup, None)

    def assisted(self, prompt: tuple[int, ...], sampling: Sampling) -> list[int]:
        return self._generate(prompt, sampling, None, self.draft)

    @torch.inference_mode()
    def _generate(
        self, prompt: tuple[int, ...], sampling: Sampling, lookup: int | None, assistant: PreTrainedModel | None
    ) -> list[int]:
        """-> the new token ids."""
        torch.manual_seed(sampling.seed)
        ids = torch.tensor([prompt], device=self.target.device)
        warp = {} if sampling.greedy else {"temperature": sampling.temperature, "top_k": 0, "top_p": sampling.top_p}
        settings = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=not sampling.greedy,
            eos_token_id=self.target.generation_config.eos_token_id,
            pad_token_id=self.target.generation_config.pad_token_id,
            prompt_lookup_num_tokens=lookup,
            **warp,
        )
        output = self.target.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=settings, assistant_model=assistant
        )
        return output[0, len(prompt) :].tolist()
