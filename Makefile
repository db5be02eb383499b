# Everything a developer or an operator does with this folder. `make` alone tells what there is.
# No target needs NATS or Docker: scripts/provision finds a nats-server, or fetches one into target/tools/.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BENCH := --manifest-path benches/load/Cargo.toml
# With a folder of its own, the bench never waits for a build of the product, nor evicts it.
BENCH_TARGET := --target-dir $(TARGET_DIR)/load

CONTAINERS := --manifest-path tests/containers/Cargo.toml
CONTAINERS_TARGET := --target-dir $(TARGET_DIR)/containers

FUZZ := --manifest-path fuzz/Cargo.toml
FUZZ_TARGET := --target-dir $(TARGET_DIR)/fuzz-lint
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

# A recipe line that wants the broker starts with this; it stops there when none can be had.
with_server = server=$$(scripts/provision) && NATSHOOK_NATS_SERVER="$$server"

.DEFAULT_GOAL := help
.PHONY: help run test test-brokers test-compose test-containers test-systemd chaos lint lint-bench lint-containers lint-deploy \
	lint-fuzz audit build image bench isolation scale picture fuzz clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Broker, connector and a webhook inbox on this machine, to try it out (natshook dev)
	@$(with_server) $(CARGO) run -- dev

test: lint ## Formatting, lints, unit, property, documentation and integration tests
	$(CARGO) test --locked --quiet --doc
	@$(with_server) CARGO="$(CARGO)" scripts/run-tests

test-brokers: ## The tests against nats-server 2.10, 2.12 and the newest, as a table
	@CARGO="$(CARGO)" scripts/test-brokers 2.10.26 2.12.8 2.15.1

image: ## The container image natshook:dev, with its version and commit on its labels
	docker build --tag natshook:dev --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" \
		--build-arg REVISION="$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" .

test-containers: ## The image with a real NATS in containers, and three replicas on a cluster of three (needs a Docker engine)
	@CARGO="$(CARGO)" scripts/test-containers

test-compose: ## docker-compose.yml brought up for real, by docker-compose 1.29 and by Compose v2 (needs a Docker engine)
	scripts/test-compose
	scripts/test-compose "$$(scripts/lint-deploy --tools)/bin/docker-compose"

test-systemd: ## The unit under a real systemd in namespaces of its own: closed, reloads, restarts, drains (needs root)
	$(CARGO) build --locked
	@NATSHOOK_BIN=$(TARGET_DIR)/debug/natshook scripts/test-systemd

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

lint-deploy: ## docker-compose.yml and deploy/: by every offline checker there is, which must refuse broken copies
	$(CARGO) build --locked
	@$(with_server) NATSHOOK_BIN=$(TARGET_DIR)/debug/natshook scripts/lint-deploy

lint-fuzz: ## The same for the fuzz targets, another package of its own (wants a nightly compiler to run, not for this)
	$(CARGO) fmt --check $(FUZZ)
	$(CARGO) clippy --locked --all-targets $(FUZZ) $(FUZZ_TARGET) -- -D warnings

lint-containers: ## The same for the container tests, a package of their own
	$(CARGO) fmt --check $(CONTAINERS)
	$(CARGO) clippy --locked --all-targets $(CONTAINERS) $(CONTAINERS_TARGET) -- -D warnings

build: ## The release binary, in target/release/natshook
	$(CARGO) build --locked --release

bench: build ## natshook and a bare thirty-line loop side by side: throughput, CPU, memory, latency
	$(CARGO) build --locked --release $(BENCH) $(BENCH_TARGET)
	@$(with_server) NATSHOOK_BIN=$(TARGET_DIR)/release/natshook $(TARGET_DIR)/load/release/load all

isolation: build ## What a sick target costs nine healthy ones: latency and throughput with and without it
	$(CARGO) build --locked --release $(BENCH) $(BENCH_TARGET)
	@$(with_server) NATSHOOK_BIN=$(TARGET_DIR)/release/natshook $(TARGET_DIR)/load/release/load isolation

scale: build ## 1, 100 and 1,000 targets, 1, 2 and 4 replicas: start, memory, CPU idle and per delivery: docs/scaling.md
	$(CARGO) build --locked --release $(BENCH) $(BENCH_TARGET)
	@$(with_server) NATSHOOK_BIN=$(TARGET_DIR)/release/natshook $(TARGET_DIR)/load/release/load scale

picture: ## The status page's picture in docs/images, taken anew (five minutes; chromium and chromedriver)
	@$(with_server) $(CARGO) test --locked --features failpoints --test it -- --ignored --exact page::looks::a_picture_of_a_busy_replica
	cp $(TARGET_DIR)/screenshots/status-page.png docs/images/

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
