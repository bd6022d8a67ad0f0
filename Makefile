# Warmstep. `make demo` and `make test` install what they need, with apt, beside Rust.
#
# There is one profile, release, and each program is built by an invocation of its own: together,
# cargo would unify their features, and the runner would carry the compilers that only
# warmstep-compile needs. Each package is tested by an invocation of its own for the same reason.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# `.ci/run` sets --locked.
CARGO_FLAGS ?=
build := cargo build --release $(CARGO_FLAGS)
test := cargo test --release $(CARGO_FLAGS)

programs := warmstep-shim warmstep-runner warmstep-wasix warmstep-compiler warmstep-agent
# Every other member of the workspace; their features are for the programs to choose from.
libraries = $(filter-out $(programs) warmstep-tests, $(shell \
  cargo metadata --no-deps --format-version 1 | grep -o '"name":"warmstep-[^"]*","version"' | cut -d'"' -f4))
guests := hello markdown untrusted

.PHONY: help
help:
	@echo 'make demo      run the examples through the real programs and show what each took'
	@echo 'make bench     measure it beside wasmtime, wasmer and containers: tests/bench/results.md'
	@echo 'make test      run every test that needs no cluster'
	@echo 'make e2e       run the tests that need a cluster: a real one, started and ended by them'
	@echo 'make suites    run the tests of Go'"'"'s standard library as steps; wants Go'
	@echo 'make fuzz      run each fuzz target for FUZZ_SECONDS (20)'
	@echo 'make cluster   start a real one-node cluster with Argo and leave it running'
	@echo 'make cluster-down'
	@echo '               end it'
	@echo 'make images    build the images of agent and shim into target/images, from nothing'
	@echo 'make soak      the long counts of the tests: an hour'
	@echo 'make lint      formatting, clippy with warnings as errors, cargo-deny, shellcheck'
	@echo 'make build     build the programs into target/<host>/release'
	@echo 'make modules   bring the modules of the examples into target/modules'
	@echo 'make format    format everything'

.PHONY: demo
demo: setup-demo build modules target/demo/noop
	$(build) -p warmstep-tests --bin warmstep-demo
	@cargo run --quiet --release $(CARGO_FLAGS) -p warmstep-tests --bin warmstep-demo

# What it measures beside, it builds once: that takes half an hour. Afterwards it takes ten minutes.
.PHONY: bench
bench: setup-bench build modules target/demo/noop
	tests/tools/rivals
	$(build) -p warmstep-tests --bin warmstep-bench
	@cargo run --quiet --release $(CARGO_FLAGS) -p warmstep-tests --bin warmstep-bench

# The node tests come last and after `build`: testing a package may leave its program behind with
# the features of its tests, and the node tests run the programs as they are shipped.
.PHONY: test
test: setup-test modules
	set -e; for package in $(libraries); do $(test) -p $$package --all-features; done
	set -e; for package in $(programs); do $(test) -p $$package; done
	$(MAKE) build
	$(test) -p warmstep-tests

# Other people's tests, as modules: a few minutes. They are in no other target: they want Go.
.PHONY: suites
suites: setup-suites build
	$(test) -p warmstep-tests --test go

# With a stable compiler, into one directory: what the targets have in common is built once.
FUZZ_SECONDS ?= 20
.PHONY: fuzz
fuzz: export CARGO_TARGET_DIR := $(CURDIR)/target/fuzz
fuzz: setup-fuzz
	shim/wire/fuzz/run frame $(FUZZ_SECONDS)
	shim/wire/fuzz/run plan $(FUZZ_SECONDS)
	agent/host/fuzz/run beneath $(FUZZ_SECONDS)

# What a cluster is made of is built once on a machine, which takes a quarter of an hour.
.PHONY: e2e
e2e: cluster-images
	$(build) -p warmstep-tests --bin warmstep-cluster
	$(test) -p warmstep-tests --test prewarm
	$(test) -p warmstep-tests --test cluster

# A step as a container and as a module, on the cluster: a quarter of an hour.
.PHONY: e2e-figures
e2e-figures: cluster-images
	$(build) -p warmstep-tests --bin warmstep-cluster
	$(test) -p warmstep-tests --test cluster -- --ignored --nocapture

.PHONY: cluster
cluster: cluster-images
	$(build) -p warmstep-tests --bin warmstep-cluster
	@target/*/release/warmstep-cluster up

.PHONY: cluster-down
cluster-down:
	@target/*/release/warmstep-cluster down

.PHONY: images
images: setup-images build
	tests/tools/images

.PHONY: cluster-images
cluster-images: setup-cluster build modules
	tests/tools/parts >/dev/null
	tests/tools/images cluster

# The counts that CI shortens. The times are those of two cores.
.PHONY: soak
soak: export WARMSTEP_SOAK := 1
soak: export WARMSTEP_CRASH_ROUNDS := 100
soak: export WARMSTEP_KILL_ROUNDS := 1000
soak: export WARMSTEP_SOAK_SECONDS := 1800
soak: test

.PHONY: build
build: $(addprefix build-,$(programs))

.PHONY: $(addprefix build-,$(programs))
$(addprefix build-,$(programs)): build-%:
	$(build) -p $*

.PHONY: modules
modules: setup-guest
	tests/tools/modules

target/demo/noop: tests/demo/noop.c
	mkdir -p $(@D)
	cc -O2 -static -o $@ $<

.PHONY: lint
lint: setup-ci
	cargo fmt --all --check
	set -e; for guest in $(guests); do cargo fmt --check --manifest-path examples/$$guest/Cargo.toml; done
	shellcheck .ci/run $(wildcard tests/tools/*) shim/wire/fuzz/run agent/host/fuzz/run
	cargo clippy --release $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	set -e; for guest in $(guests); do \
	  cargo clippy --release --locked --manifest-path examples/$$guest/Cargo.toml \
	    --target-dir target/guests -- -D warnings; done
	tests/tools/deny

.PHONY: format
format:
	cargo fmt --all
	set -e; for guest in $(guests); do cargo fmt --manifest-path examples/$$guest/Cargo.toml; done

.PHONY: setup-demo setup-bench setup-test setup-suites setup-fuzz setup-cluster setup-images setup-ci setup-guest
setup-demo setup-bench setup-test setup-suites setup-fuzz setup-cluster setup-images setup-ci setup-guest: setup-%:
	@tests/tools/setup $*
