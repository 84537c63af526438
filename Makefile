# make reproduce-figures   install, train what is missing, write tables, figures, verdicts and the report page
# make reproduce-all       the same for every study, and table 3
# make report              the report page of what there is: results/report/index.html
# make reference           results/reference, what is committed, from the records; nothing else writes it
# make dashboards          the results as a run of W&B; wandb-sync uploads all runs, browse shows them in the terminal
# make test                install, run every test, the fast ones first
# make docs                the documentation as a site, docs/_build/index.html
PYTHON ?= python3
BIN := .venv/bin

# Where it is set, as in many containers, each process would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

# Every study there is but those that are to be named, separated by commas.
EMPTY :=
COMMA := ,
STUDIES := $(subst $(EMPTY) $(EMPTY),$(COMMA),$(sort $(basename $(notdir $(shell grep -L "^only_by_name: true" conf/study/*.yaml)))))

# Where W&B logs.
WANDB_LOGS := $(or $(WANDB_DIR),results)/wandb

.PHONY: reproduce-figures reproduce-all figures report reference dashboards wandb-sync browse test lint format docs benchmark clean

# Train what is missing of the paper's figures 9 and 10 and judge it, then draw it, also where a run failed; at
# the end, whether it says the same as results/reference.
# --quiet, here and below: the sweep has printed the verdicts.
reproduce-figures: .venv/installed
	@$(BIN)/python run.py -m study=residual,intermediate_activation; trained=$$?; \
	$(BIN)/python -m ablations residual intermediate_activation && \
	$(BIN)/python -m ablations verdicts --quiet residual intermediate_activation && \
	$(BIN)/python -m ablations report && \
	$(BIN)/python -m ablations reproduce residual intermediate_activation && exit $$trained

# Tables 1 to 3, figures 6 to 10, what the paper argues besides, and the verdicts on its claims. Table 3
# times on this machine what was not timed on it yet.
reproduce-all: .venv/installed
	@$(BIN)/python run.py -m study=$(STUDIES); trained=$$?; \
	$(BIN)/python -m ablations && $(BIN)/python -m ablations benchmark && \
	$(BIN)/python -m ablations verdicts --quiet && $(BIN)/python -m ablations report && \
	$(BIN)/python -m ablations reproduce && exit $$trained

# Tables, figures, verdicts and the report page of every study from the records, without training.
figures: .venv/installed
	@$(BIN)/python -m ablations && $(BIN)/python -m ablations verdicts && $(BIN)/python -m ablations report

# The report page, results/report/index.html: one file, opens from disk.
report: .venv/installed
	@$(BIN)/python -m ablations report

# More seeds in the reference than in the studies: three sets of six, and two sets of twelve.
SEEDS_9 := 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
SEEDS_10 := $(SEEDS_9),18,19,20,21,22,23

# Studies marked only_by_name that are in the reference.
BY_NAME := residual_by_budget activation_by_budget residual_by_width activation_by_width residual_by_data \
  activation_by_data spectrum_order spectrum_multiply_adds spectrum_deep

# The committed reproduction: every study, and what --also names.
reference: .venv/installed
	@$(BIN)/python -m ablations reference --also '$(BY_NAME)' \
	  --also 'residual tuning=learning_rate tuning.arms=[residual,non_residual]' \
	  --also 'residual seed=$(SEEDS_9)' --also 'intermediate_activation seed=$(SEEDS_10)' \
	  --also 'operation_order seed=$(SEEDS_9)' \
	  $(foreach study,operation_order spectrum spectrum_width spectrum_order,--also '$(study) seeds=auto') \
	  $(foreach study,activation_by_budget activation_by_width,--also '$(study) seeds=auto seed_budget=12') \
	  --also 'activation_by_data seeds=auto seed_budget=8' $(ARGS)

# Tables, figures and report page as a run of W&B, offline; ARGS="logger.mode=online" sends it.
dashboards: .venv/installed-dashboards
	@$(BIN)/python -m ablations dashboards $(ARGS)

# Upload W&B's offline runs that are not uploaded yet.
wandb-sync: .venv/installed
	@$(BIN)/wandb sync $(ARGS) $(WANDB_LOGS) $(wildcard $(WANDB_LOGS)/dashboards*/wandb)

# Look at W&B's offline runs in the terminal.
browse: .venv/installed
	@$(BIN)/wandb leet $(ARGS) $(WANDB_LOGS)

# The fast tests first, so that most mistakes show early; then those that train or start whole commands.
test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site; a warning, or a link that leads nowhere, is an error.
docs: .venv/installed-dev
	rm -rf docs/reference/generated # pages of modules that are gone
	$(BIN)/python -m sphinx -q -W -n docs docs/_build

# What the training loop costs over a bare one; what interrupted sweeps lose. Takes about half an hour.
benchmark: .venv/installed-dev
	$(BIN)/python -m benchmarks.training_loop
	$(BIN)/python -m benchmarks.interrupted_sweeps

# The environment; results stay.
clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

# constraints.txt pins the versions that the tests and the committed results were made with.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dashboards: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dashboards]"
	@touch .venv/installed $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch .venv/installed .venv/installed-dashboards $@
