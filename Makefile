# Start with `make demo` and `make test`, which need only Python 3.10+ (with venv) and make.
PYTHON ?= python3
RECIPE ?= fast
EPOCHS ?= 0
REGISTRY ?=
S3_ENDPOINT ?=
PORT ?= 8080
DATA ?=
S3 ?=
BUILD ?= docker build
ARGS ?=
BIN := .venv/bin
# Keep compiled modules: without them, each test process would compile TensorFlow's again.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist worksteal
MEASURED := $(subst $(BIN)/python,$(BIN)/coverage run,$(PYTEST))
CHARM := fashion-mnist-trainer_amd64.charm
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

.venv/ready: pyproject.toml uv.lock $(wildcard */pyproject.toml lib/*/pyproject.toml) | .uv/bin/uv
	.uv/bin/uv sync --quiet --frozen --group dev --python $(PYTHON)
	touch $@

demo: .venv/ready ## Train, evaluate and promote a model on this machine (RECIPE=notebook, EPOCHS=3, DATA=FOLDER, S3=without-conditional-writes)
	$(BIN)/python -W ignore scripts/demo.py --recipe $(RECIPE) --epochs $(EPOCHS) --data "$(DATA)" \
	  $(if $(S3),--s3-$(S3) --root .demo/$(S3))

demo-loop: .venv/ready ## Show drift in production, and the automatic retraining that follows (RECIPE=fast, DATA=FOLDER, S3=...)
	$(BIN)/python -W ignore scripts/demo_loop.py --recipe $(RECIPE) --data "$(DATA)" $(S3:%=--s3-%)

serve: .venv/ready ## Serve the demo's champion, or that of REGISTRY=ADDRESS (S3_ENDPOINT=URL, PORT=8080)
	$(BIN)/python -W ignore scripts/serve.py --registry "$(REGISTRY)" --s3-endpoint "$(S3_ENDPOINT)" --port $(PORT)

test: .venv/ready ## Run the tests that need only Python packages, with the coverage gate
	$(BIN)/coverage erase
	$(MEASURED) -m "not slow" tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include="src/*,lib/*"

test-fast: .venv/ready ## Run the fast tests of the charm and its libraries (about a minute), for use while editing
	$(PYTEST) -m "not slow and not exhaustive" tests/unit tests/library

test-slow: .venv/ready ## Run the slow tests, which train, execute pipelines or build for real
	$(MEASURED) -m slow tests
	$(BIN)/coverage combine --quiet --append

unit: .venv/ready ## Run the tests of the charm and its libraries
	$(PYTEST) -m "not slow" tests/unit tests/library

integration: .uv/bin/uv ## Run the scenarios in a Juju model, with pytest's ARGS (CONTRIBUTING.md)
	UV_PROJECT_ENVIRONMENT=.venv-integration .uv/bin/uv run --quiet --frozen --only-group integration \
	  --python $(PYTHON) pytest -c tests/integration/pytest.ini tests/integration $(ARGS)

mutants: .venv/ready ## Run mutation tests on the planner, cron and the gate
	.uv/bin/uv sync --quiet --frozen --inexact --group dev --group mutation
	$(BIN)/python -W ignore scripts/mutants.py

contract: .venv/ready ## Run the contract tests against a live Kubeflow Pipelines (KFP_API_URL, KFP_TOKEN, KFP_NAMESPACE)
	$(BIN)/python -m pytest tests/contract/test_live.py

notebook: .venv/ready ## Execute the notebook on a sandbox and save its outputs
	$(BIN)/python -W ignore scripts/notebook.py

bench: .venv/ready ## Run the benchmarks against the original notebook's code and an empty charm (after make pack)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m bench

lint: .venv/ready ## Run the linters and check the formatting
	.uv/bin/uv lock --check --quiet
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/python -W ignore -m training.compile --check

format: .venv/ready ## Fix the formatting, and what the linter can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

static: .venv/ready ## Check types
	$(BIN)/pyright

docs: .venv/ready ## Build the documentation into build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky docs build/docs

reference: .venv/ready ## Generate the reference of options, actions, relations and recipes
	$(BIN)/python docs/generate.py

figures: .venv/ready ## Draw docs/figures from real training
	$(BIN)/python -W ignore docs/figures.py

compile: .venv/ready ## Compile the pipelines into src/pipelines
	$(BIN)/python -W ignore -m training.compile

PACK = if command -v charmcraft >/dev/null; then charmcraft pack; \
	elif [ -n "$(PACK_CHARM)" ]; then "$(PACK_CHARM)" .; \
	else echo "install charmcraft (sudo snap install charmcraft --classic), then: make $@"; exit 1; fi

pack: sbom ## Pack the charm and write sbom.json beside it, with charmcraft or the program in PACK_CHARM
	@$(PACK)

pack-stand-ins: ## Pack the charms that stand in for kfp-api and object storage
	@for charm in kfp-api object-storage; do (cd tests/integration/charms/$$charm && $(PACK)) || exit 1; done

# charmcraft packs only the charm's own folder, so copy the library into it.
pack-examples: ## Pack the example charm of examples/digits into build/digits
	@rm -rf build/digits
	@mkdir -p build
	@cp -r examples/digits build/digits
	@mkdir build/digits/lib
	@cp -r lib/kfp_ops build/digits/lib
	@rm -rf build/digits/lib/kfp_ops/*.egg-info
	@cd build/digits && $(PACK)

check-machine: ## List what this machine lacks for bundle.yaml, with commands to fix it; changes nothing
	@$(PYTHON) scripts/check_machine.py

packed: .venv/ready ## Test the packed charm by dispatching events as Juju does
	$(BIN)/python -m pytest tests/packed

images: .venv/ready ## List the container images to mirror for a site without internet access
	@$(BIN)/python scripts/list_images.py

# What an image installs: a dependency group of uv.lock without the workspace's own packages, or what the steps need beyond TensorFlow's image.
build/%.txt: uv.lock | .uv/bin/uv
	@mkdir -p build
	.uv/bin/uv export --quiet --frozen --only-group $* --no-emit-workspace --output-file $@

build/steps.txt: uv.lock training/compile.py | .venv/ready
	@mkdir -p build
	$(BIN)/python -W ignore -c "import pathlib, training.compile as c; print(c.requirements(pathlib.Path('uv.lock')))" > $@

training-image: build/steps.txt build/training.txt ## Build the image for the steps (BUILD="docker build", TAG, BASE)
	$(BUILD) --file training/Dockerfile --tag $(or $(TAG),fashion-mnist-training:latest) \
	  $(if $(BASE),--build-arg BASE=$(BASE) --build-arg REQUIREMENTS=build/training.txt) .

sandbox-image: build/sandbox.txt ## Build the image for a sandbox in a pod (BUILD, TAG)
	$(BUILD) --file sandbox/Dockerfile --tag $(or $(TAG),fashion-mnist-sandbox:latest) .

audit: .uv/bin/uv ## Check the charm's packages for known vulnerabilities
	.uv/bin/uv export --quiet --frozen --no-dev --no-emit-project --output-file .uv/audit.txt
	.uv/bin/uv tool run --quiet pip-audit@2.10.1 --strict --disable-pip --requirement .uv/audit.txt

sbom: .uv/bin/uv ## Write the charm's software bill of materials (CycloneDX) to sbom.json
	.uv/bin/uv export --quiet --frozen --no-dev --preview-features sbom-export \
	  --format cyclonedx1.5 --output-file sbom.json

clean: ## Remove everything that make created here
	rm -rf .venv .venv-integration .uv .demo build parts stage prime .coverage* .pytest_cache .ruff_cache sbom.json $(CHARM) \
	  */*.egg-info lib/*/*.egg-info
