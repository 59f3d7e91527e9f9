# `make demo` and `make test` do everything on a fresh Debian or Ubuntu, as root or as a user who may use sudo.
# Elsewhere, install as the README says; the targets then use what they find.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
OLDEST := $(VENV)/oldest
# The modules of tests that, together, use all of napari that the plugin uses.
TOUCHING := $(addprefix tests/plugin/,test_contracts.py layers/test_adapters.py test_controller.py prompts/test_modifier_clicks.py)
# The modules that take longest are started first, so that none is left alone at the end.
LONG := $(addprefix tests/plugin/,annotation/test_random_sessions.py objects/test_journals.py test_lifetimes.py \
	objects/test_kills.py objects/test_class_view.py widgets/test_dock.py)
XVFB = $(shell command -v xvfb-run >/dev/null 2>&1 && echo 'xvfb-run -a -s "-screen 0 1920x1080x24"')

# What Qt needs to open a window, and the virtual screen that tests and screenshots use.
PACKAGES := xvfb xauth libgl1 libegl1 libxkbcommon0 libfontconfig1 libdbus-1-3 libxcb-cursor0 libxkbcommon-x11-0 \
	libxcb-icccm4 libxcb-keysyms1 libxcb-image0 libxcb-render-util0 libxcb-shape0 fonts-dejavu-core

.PHONY: demo test test-oldest lint lint-style lint-types lint-imports format docs tables screenshots model-card benchmark clean system

demo: $(READY)
	$(BIN)/napari-sam demo --out demo_output

# What needs no window is spread over JOBS processes; of the plugin's modules, each in a process of its own, as many
# run at once.
test: $(READY)
	OMP_NUM_THREADS=1 $(XVFB) $(BIN)/python -m pytest --ignore tests/plugin -n $(JOBS) --dist worksteal
	JOBS=$(JOBS) .ci/modules $(BIN)/python $(LONG) \
		$(filter-out $(LONG),$(shell find tests/plugin -name "test_*.py"))

# Where the plugin touches napari, with the oldest napari that pyproject.toml allows; `make test` has the newest.
test-oldest: $(OLDEST)/.ready
	@$(OLDEST)/bin/python -c 'import napari; print("With napari", napari.__version__)'
	JOBS=$(JOBS) .ci/modules $(OLDEST)/bin/python $(TOUCHING)

lint: lint-style lint-types lint-imports

lint-style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: $(READY)
	$(BIN)/mypy

lint-imports: $(READY)
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(READY)
	$(XVFB) $(BIN)/python tools/make_screenshots.py

# The site, with warnings as errors, into build/site. Not with --quiet, which hides warnings from --strict, too.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The parts of the pages that come from the program and from benchmarks/results.
tables: $(READY)
	$(BIN)/python tools/generated_docs.py

model-card: tables
	$(BIN)/python tools/make_model_card.py

benchmark: $(READY)
	$(BIN)/python benchmarks/compact.py
	$(BIN)/python benchmarks/sam.py --write benchmarks/results/sam_speed.json
	$(BIN)/python benchmarks/large.py
	$(XVFB) $(BIN)/python benchmarks/event_loop.py

$(READY): pyproject.toml constraints.txt | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "napari-sam needs Python 3.11 or newer: install it, then run make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[gui,sam2,test,docs]'
	@# Only the parity tests want it, without what it depends on; they skip where it cannot be had.
	$(BIN)/python -m pip install --quiet setuptools wheel hydra-core iopath && \
		$(BIN)/python -m pip install --quiet --no-deps segment-anything-hq==0.3 && \
		SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation sam2==1.1.0 || \
		echo "sam2 and segment-anything-hq could not be installed: the tests beside them are skipped."
	@touch $(READY)

# The first environment with another napari before its own.
$(OLDEST)/.ready: pyproject.toml $(READY)
	rm -rf $(OLDEST)
	$(BIN)/python -m venv --without-pip $(OLDEST)
	oldest="$$(sed -n 's/.*"napari\[[a-z0-9]*\]>=\([0-9.]*\),.*/\1/p' pyproject.toml)" && [ -n "$$oldest" ] && \
		$(BIN)/python -m pip --python $(OLDEST)/bin/python install --quiet --no-deps "napari==$$oldest"
	site='import sysconfig; print(sysconfig.get_path("purelib"))' && \
		echo "import site; site.addsitedir('$$($(BIN)/python -c "$$site")')" > \
		"$$($(OLDEST)/bin/python -c "$$site")/newest.pth"
	@touch $@

# Installs what is missing, and only on systems with apt.
system:
	@command -v apt-get >/dev/null 2>&1 || exit 0; \
	missing=""; \
	for package in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	ldconfig -p | grep -q libglib-2.0.so.0 || missing="$$missing libglib2.0-0"; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ]; then sudo=""; else sudo="sudo"; fi; \
	if [ -n "$$sudo" ] && ! command -v sudo >/dev/null 2>&1; then \
		echo "Ask an administrator to run: apt-get install$$missing"; exit 0; \
	fi; \
	echo "Installing$$missing"; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

clean:
	rm -rf $(VENV) demo_output
