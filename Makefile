# Everything a developer or an operator does with this folder. `make` alone tells what there is.
# No target needs NATS or Docker: scripts/provision finds a nats-server, or fetches one into target/tools/.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BENCH := --manifest-path benches/load/Cargo.toml
# With a folder of its own, the bench never waits for a build of the product, nor evicts it.
BENCH_TARGET := --target-dir $(TARGET_DIR)/load

FUZZ := --manifest-path fuzz/Cargo.toml
FUZZ_TARGET := --target-dir $(TARGET_DIR)/fuzz-lint
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

# A recipe line that wants the broker starts with this; it stops there when none can be had.
with_server = server=$$(scripts/provision) && NATSHOOK_NATS_SERVER="$$server"

.DEFAULT_GOAL := help
.PHONY: help run test test-brokers chaos lint lint-bench lint-fuzz audit build bench isolation fuzz clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Broker, connector and a webhook inbox on this machine, to try it out (natshook dev)
	@$(with_server) $(CARGO) run -- dev

test: lint ## Formatting, lints, unit, property, documentation and integration tests
	$(CARGO) test --locked --quiet --doc
	@$(with_server) CARGO="$(CARGO)" scripts/run-tests

test-brokers: ## The tests against nats-server 2.10, 2.12 and the newest, as a table
	@CARGO="$(CARGO)" scripts/test-brokers 2.10.26 2.12.8 2.15.1

# How many runs of each fault; each chooses other messages and other moments.
SEEDS ?= 20
chaos: ## The fault campaign against the release binary, SEEDS=20 runs of each fault: docs/reliability.md
	@$(with_server) CARGO="$(CARGO)" scripts/chaos $(SEEDS)

lint: ## Formatting, clippy and what may be in the dependency tree; warnings are errors
	@$(CARGO) fmt --version >/dev/null 2>&1 || { echo "rustfmt is missing: rustup component add rustfmt" >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || { echo "clippy is missing: rustup component add clippy" >&2; exit 1; }
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features failpoints -- -D warnings
	@deny=$$(scripts/provision-cargo-deny) && "$$deny" --locked check -D warnings bans licenses sources

audit: ## Known vulnerabilities in the dependency tree; fetches the advisory database
	@deny=$$(scripts/provision-cargo-deny) && "$$deny" --locked check advisories

lint-bench: ## The same for the load bench, which is a package of its own
	$(CARGO) fmt --check $(BENCH)
	$(CARGO) clippy --locked --all-targets $(BENCH) $(BENCH_TARGET) -- -D warnings

lint-fuzz: ## The same for the fuzz targets, another package of its own (wants a nightly compiler to run, not for this)
	$(CARGO) fmt --check $(FUZZ)
	$(CARGO) clippy --locked --all-targets $(FUZZ) $(FUZZ_TARGET) -- -D warnings

build: ## The release binary, in target/release/natshook
	$(CARGO) build --locked --release

bench: build ## natshook and a bare thirty-line loop side by side: throughput, CPU, memory, latency
	$(CARGO) build --locked --release $(BENCH) $(BENCH_TARGET)
	@$(with_server) NATSHOOK_BIN=$(TARGET_DIR)/release/natshook $(TARGET_DIR)/load/release/load all

isolation: build ## What a sick target costs nine healthy ones: latency and throughput with and without it
	$(CARGO) build --locked --release $(BENCH) $(BENCH_TARGET)
	@$(with_server) NATSHOOK_BIN=$(TARGET_DIR)/release/natshook $(TARGET_DIR)/load/release/load isolation

# Seconds for each target; it finds more in hours than in minutes.
SECONDS ?= 60
fuzz: ## Every fuzz target for SECONDS (60); needs cargo-fuzz and a nightly compiler
	@for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; \
		mkdir -p $(TARGET_DIR)/fuzz-corpus/$$target; \
		$(CARGO) +nightly fuzz run --target-dir $(TARGET_DIR)/fuzz $$target \
			$(TARGET_DIR)/fuzz-corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 || exit 1; \
	done

clean: ## Removes everything built or fetched
	$(CARGO) clean
	rm -rf target/tools target/test-brokers
