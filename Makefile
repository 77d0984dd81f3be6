# The tasks of everyday work; .ci/run is what must pass.
.PHONY: test all lint docs generated
test: ## everything quick
	pytest -q
all: ## the slow tests too, with coverage
	pytest -q -m '' --cov --cov-report=term-missing:skip-covered
lint:
	ruff check . && ruff format --check . && codespell && mypy
docs: ## the site, into build/site
	mkdocs build --strict
generated: ## every file that is made by a script
	for script in commands schema decisions lesson python figures demo; do python docs/make_$$script.py || exit 1; done
