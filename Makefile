# What people do with this tree; `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROVIUM := $(TARGET)/release/provium
# What the tests run: the build whose dependencies the unit tests have compiled already.
TESTED := $(TARGET)/debug/provium
SNIPPETS := $(TARGET)/docs-snippets
# Most guests of the tests wait most of the time, for each other, for their host or for a limit: the processors are busy
# only if more of them run than there are processors.
SHARED := --cpu-overcommit 2
TIME ?= 3600
SEED ?= 1

comma := ,
# Test by test with names and times where cargo-nextest is installed; see .config/nextest.toml.
RUN_E2E := $(if $(shell command -v cargo-nextest),\
  $(CARGO) nextest run --profile guest --workspace --test e2e --run-ignored only,\
  $(CARGO) test --workspace --test e2e -- --ignored --test-threads 4)

# The record of a step's time: one for this make and those that it calls.
ifndef STEPS
export STEPS := $(abspath $(TARGET))/steps.$(shell echo $$PPID)
endif
step = @scripts/step '$(1)'
# The last line of what is called by `make NAME`: prints how long each step took.
ended = @$(if $(filter 0,$(MAKELEVEL)),scripts/step --sum,:)

.PHONY: help demo test unit guest-test lint build bench torture cluster distribution

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## install what is missing, build, and run the examples on real guests
	$(call step,install what is missing)
	@scripts/install-missing
	$(call step,build)
	$(CARGO) build --release --package provium
	$(call step,the default guest)
	$(PROVIUM) setup
	$(call step,examples on real guests)
	$(PROVIUM) --config examples/provium.toml --no-tag download examples
	$(call step,next)
	@echo '`$(PROVIUM) console` opens a shell in a guest; docs/guide/getting-started.md has a first test of yours.'

test: ## everything a change must pass: lints, unit tests, tests on real guests
	$(call step,install what is missing)
	@scripts/install-missing test
	@$(MAKE) --no-print-directory lint unit guest-test
	$(ended)

lint: ## formatting, clippy, the tree's own rules, and licences where cargo-deny is installed
	$(call step,formatting)
	$(CARGO) fmt --all --check
	$(call step,lints)
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(call step,tidy)
	$(CARGO) xtask tidy
	@if command -v cargo-deny >/dev/null; then cargo-deny check licenses bans sources; fi
	$(ended)

unit: ## tests that need no guest
	$(call step,tests without a guest)
	$(CARGO) test --workspace
	$(ended)

guest-test: ## tests that need one: the Lua suite, the examples, the documentation
	$(call step,build)
	$(CARGO) build --package provium
	$(call step,the default guest)
	$(TESTED) setup
	$(call step,the Lua suite on real guests)
	$(TESTED) $(SHARED) --config tests/lua/provium.toml tests/lua
	$(call step,32 VMs of one template)
	$(TESTED) --config tests/lua/provium.toml --include-slow --cpus 32 tests/lua/fanout.test.lua
	$(call step,guests of every origin)
	PROVIUM=$(abspath $(TESTED)) $(TESTED) $(SHARED) --config tests/profiles/provium.toml tests/profiles
	$(call step,signals$(comma) shared caches$(comma) damage: runs beside each other)
	PROVIUM=$(abspath $(TESTED)) $(RUN_E2E)
	$(call step,examples)
	$(TESTED) $(SHARED) --config examples/provium.toml --no-tag download examples
	$(call step,what the documentation shows)
	$(CARGO) xtask docs-snippets $(SNIPPETS)
	$(TESTED) $(SHARED) --config $(SNIPPETS)/provium.toml $(SNIPPETS)
	$(ended)

torture: build ## random calls for TIME seconds (3600) from SEED (1), everything checked, leaks counted
	$(call step,torture: seed $(SEED) for $(TIME) s)
	PROVIUM_TORTURE_SEED=$(SEED) PROVIUM_TORTURE_SECONDS=$(TIME) \
	  $(PROVIUM) -v --timeout 0 --config tests/torture/provium.toml tests/torture
	$(ended)

cluster: ## the example that splits a cluster of etcd servers; downloads their packages
	$(call step,build)
	$(CARGO) build --package provium
	$(call step,the cluster example)
	$(TESTED) --config examples/provium.toml examples/cluster.test.lua
	$(ended)

distribution: ## a stock Debian with systemd on a disk; downloads its packages
	$(call step,build)
	$(CARGO) build --package provium
	$(call step,Debian with systemd)
	$(TESTED) --config tests/distribution/provium.toml tests/distribution

bench: build ## the promised figures, each next to what it is compared with
	@benches/run $(abspath $(PROVIUM))

build: ## the executable, optimised
	$(call step,build)
	$(CARGO) build --release --package provium
	$(ended)
