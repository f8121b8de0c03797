"""transformers' own `generate` as a contestant: plain, with prompt lookup, with an assistant model.

As its user would get it: eager model, default attention, defaults of `generate` apart from what the bench holds
equal for both sides (dtype, threads, prompts, EOS, limit, temperature, the draft and its window).
"""

from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel

from toolkit import hub, prune
from toolkit.engine.types import Sampling
from toolkit.hub import ModelConfig

LOOKUP_TOKENS = 10  # the window its documentation suggests; the n-gram length is left at its default (2)


@dataclass
class Transformers:
    """A target and a draft that share nothing with our packed runners."""

    target: PreTrainedModel
    draft: PreTrainedModel
    window: int  # tokens the assistant drafts a round

    @staticmethod
    def load(target: ModelConfig, draft: ModelConfig, window: int) -> "Transformers":
        model, _ = hub.load_hf(target)
        if draft.name == hub.TARGET:
            small = prune.pruned(model, draft.draft_from.layers, target.name)
        else:
            small, _ = hub.load_hf(draft)
        small.generation_config.num_assistant_tokens = window
        small.generation_config.num_assistant_tokens_schedule = "constant"
        return Transformers(model, small, window)

    def plain(self, prompt: tuple[int, ...], sampling: Sampling) -> list[int]:
        return self._generate(prompt, sampling, None, None)

    def prompt_lookup(self, prompt: tuple[int, ...], sampling: Sampling) -> list[int]:
        return self._generate(prompt, sampling, LOOKUP_TOKENS, None)

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
