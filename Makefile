# make demo, make test: each sets up everything it needs in .venv (see environment.sh) and keeps it for the next run.

export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Scipion of the tests lives in .cache, apart from the user's own.
SCIPION = $(CURDIR)/.cache/scipion
test check inspect coverage: export SCIPION_HOME = $(SCIPION)
test check inspect coverage: export SCIPION_USER_DATA = $(SCIPION)/data
test check inspect coverage: export SCIPION_LOCAL_CONFIG = $(SCIPION)/config/scipion.conf
test check inspect coverage: export SCIPION_HOSTS = $(SCIPION)/config/hosts.conf
test check inspect coverage: export SCIPION_DOMAIN = pwem
test coverage: export MPLBACKEND = Agg
# Scipion sleeps for seconds between a protocol's steps: two tests a core, each with one thread, keep the cores busy.
test coverage: export OMP_NUM_THREADS = 1
WORKERS = $(shell n=$$(nproc); echo $$((n < 4 ? 2 * n : 8)))

.PHONY: demo test check inspect environment docs matrix coverage lock clean

demo: environment
	@.venv/bin/python demo/run_demo.py

test: check
	@rm -rf $(SCIPION)/data/projects
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(PYTEST_OPTIONS)

# Style, types, import arrows, and Scipion's own inspection of the plugin.
check: inspect
	ruff check .
	mypy
	lint-imports

inspect: environment
	@mkdir -p $(SCIPION)/config
	@[ -e $(SCIPION)/config/hosts.conf ] || python -m scipion config --unattended >/dev/null
	@out=$$(python -m scipion inspect cryolearn 2>&1); code=$$?; echo "$$out"; \
	if [ $$code -ne 0 ] || echo "$$out" | grep -qE "error ->|Traceback|WARNING|missing"; then \
	  echo "ERROR: scipion inspect cryolearn is not clean."; exit 1; fi

environment:
	@sh ./environment.sh

# API reference of the engine in build/docs/index.html; Sphinx is kept apart from the environment, in .cache/docs.
docs: environment
	@[ .cache/docs/requirements.txt -nt docs/requirements.txt ] || { rm -rf .cache/docs; \
	  .venv/bin/python -m pip install --quiet --disable-pip-version-check --target .cache/docs -r docs/requirements.txt 2>.cache/docs.log || { cat .cache/docs.log; exit 1; }; \
	  cp docs/requirements.txt .cache/docs/; }
	@PYTHONPATH=$(CURDIR)/.cache/docs .venv/bin/python -m sphinx -W --keep-going -q -b html docs/api build/docs
	@echo "Wrote build/docs/index.html"

# The tests of each side on every supported Python that is found here.
matrix: environment
	@.venv/bin/python tools/test_matrix.py

# Lines that the tests run, as rows of benchmarks/results/house.csv. coverage.py is kept apart, in an environment on top of .venv, so that every process that
# a test starts has it too.
coverage: inspect
	@[ -e .cache/coverage/made ] || { .venv/bin/python -m venv --clear --without-pip .cache/coverage; \
	  site=$$(.cache/coverage/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'); \
	  .venv/bin/python -m pip install --quiet --disable-pip-version-check --target $$site coverage==7.17.5; \
	  echo "import site; site.addsitedir('$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')')" > $$site/environment.pth; \
	  touch .cache/coverage/made; }
	@rm -rf $(SCIPION)/data/projects
	@PATH="$(CURDIR)/.cache/coverage/bin:$(PATH)" .cache/coverage/bin/python benchmarks/house_coverage.py --work .cache/coverage $(if $(PYTEST_OPTIONS),-- $(PYTEST_OPTIONS))

# New exact versions from what is installed in .venv (PyTorch without the label of its CPU build).
lock:
	@{ echo '# Exact versions of the one environment of "make demo" and "make test": Scipion and the engine on Python 3.11.'; \
	   echo '# Made by "make lock".'; \
	   .venv/bin/python -m pip freeze --all --exclude-editable | grep -vi '^pip==\|^scipion-em-cryolearn' | sed 's/+cpu$$//'; \
	 } > requirements.lock.new && mv requirements.lock.new requirements.lock

clean:
	rm -rf .venv .cache build dist *.egg-info demo-output
