# Needs Go, make and git. Every tool is built from the versions pinned in internal/tools, into .bin.
# `make` says what there is to do.

GO ?= go
# Relative, since make cannot have spaces in the names of targets; with its folder where something is run elsewhere.
BIN := .bin
ABSBIN := $(CURDIR)/$(BIN)
CLIENTS := shared/openapi/clients
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The program is static and has no C in it: it runs on any Linux, and is built once for checks, tests and use:
# with the same flags everywhere. With -trimpath here Go compiled every package a second time, its own too.
export CGO_ENABLED := 0

# The race detector needs cgo and a C compiler. Without them the tests run all the same, and say so. The tag leaves Pebble's C out here too.
RACE := $(shell command -v "$$($(GO) env CC)" >/dev/null 2>&1 && echo -race -tags pebblegozstd)
RACED := $(if $(RACE),CGO_ENABLED=1)

# Settable: what to test or measure, and for how long.
PKG ?= ./...
TESTFLAGS ?= -timeout 30m
BENCH ?= .
BENCHFLAGS ?= -benchmem -count 1
FUZZGUIDED ?= 30s
FUZZTIME ?= 1000000x
FUZZ ?= Fuzz
FUZZFLAGS ?=
SCALE ?=
TORTURE ?= 3m
FOREIGN ?=
FRAMEWORKS ?= $(patsubst sdk/python/tests/frameworks/on_%.py,%,$(wildcard sdk/python/tests/frameworks/on_*.py))
CELLS ?=
WRITE ?=
MUTANTS ?= shared/budget shared/clock shared/decision shared/format shared/seldom shared/timestamp
FOR ?= 0
MUTANTSFLAGS ?=

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '%s\n' '' \
	  'PKG=./edge/...            limits test, test-race, bench and fuzz to some packages' \
	  'MACHINEID_TEST_NO_SKIP=1  makes a skipped test fail "make test-full" (CI sets it)' \
	  'FUZZTIME=30s              how long each fuzz test runs on what it found, or how many inputs it is given (1000000x)' \
	  'FUZZGUIDED=5m             the same, before, guided by coverage (30s)' \
	  'FUZZ=FuzzHop              which fuzz tests run (a regular expression); FUZZFLAGS=-parallel=1: with what else, while guided' \
	  'TORTURE=20m               how long "make torture" hurts clusters of processes; other tests run in proportion' \
	  'SCALE="-devices 100000"   another size of "make scale" (also -orgs, -connections, -dir)' \
	  'BENCH=Validate            which benchmarks run (a regular expression)'

.PHONY: run
run: ## Run one authority and one edge in one process
	@$(GO) run ./cmd/machineid dev

.PHONY: build
build: ## Build the binary, static and without cgo, into ./machineid
	$(GO) build -o machineid ./cmd/machineid

# Test events go to one file, of which the closing lines are made: what was skipped and why, and each package's share of the time.
TESTS = $(BIN)/gotestsum --format pkgname --format-hide-empty-pkg --jsonfile $(BIN)/test.json --raw-command -- $(SHELL) -c
SHARES = sed -n '/"Test":/!s/.*"Action":"\(pass\|fail\)","Package":"\([^"]*\)","Elapsed":\([0-9.]*\).*/\3 \2/p' $(BIN)/test.json | \
  awk '{ took[$$2] += $$1; all += $$1 } END { for (p in took) if (took[p] >= 1) printf "%7.1f s %3.0f %%  %s\n", took[p], 100 * took[p] / all, p }' | sort -rn

.PHONY: test
test: $(BIN)/gotestsum ## Run the quick forms of all tests; lists the skipped ones with their reasons
	@failed=0; $(TESTS) '$(GO) test -json -short $(TESTFLAGS) $(PKG)' || failed=1; $(SHARES); exit $$failed

.PHONY: test-full
test-full: test-race check-systems foreign python frameworks ## Run every test: in full, with the race detector, and with others' tools, clients and agent frameworks

# The allocation tests are built only without the race detector (house_test.go holds their name).
.PHONY: test-race
test-race: $(BIN)/gotestsum ## Run the full forms of all tests with the race detector, without what comes from elsewhere
	@[ -n "$(RACE)" ] || echo 'test: no C compiler: running without the race detector'
	@failed=0; $(TESTS) '$(RACED) $(GO) test -json $(RACE) $(TESTFLAGS) $(PKG); failed=$$?; \
	    [ -z "$(RACE)" ] || $(GO) test -json $(TESTFLAGS) -run "^TestAlloc" $(PKG) || failed=$$?; exit $$failed' || failed=1; $(SHARES); \
	  [ -z "$${MACHINEID_TEST_NO_SKIP:-}" ] || ! grep -q '"Action":"skip".*"Test":' $(BIN)/test.json || \
	  { echo 'test: tests were skipped (see above), and MACHINEID_TEST_NO_SKIP makes that a failure' >&2; failed=1; }; exit $$failed

# What others' programs say of us, and make of what we say. They come from PyPI, npm and Go's proxy, at the versions that lock files have, with hashes.
.PHONY: foreign
foreign: $(BIN)/schemathesis $(BIN)/clients/npm $(BIN)/clients/python ## Have others' tools try both tiers by openapi.json (schemathesis), and make clients of it; FOREIGN="--max-time 600": schemathesis for so many seconds each
	MACHINEID_TEST_SCHEMATHESIS="$(ABSBIN)/schemathesis" MACHINEID_TEST_SCHEMATHESIS_FLAGS="$(FOREIGN)" MACHINEID_TEST_CLIENTS="$(ABSBIN)/clients" \
	  $(GO) test -tags foreign -count=1 -timeout 1h -v -run 'Foreign' ./cmd/machineid/cli

$(BIN)/schemathesis: shared/openapi/schemathesis/requirements.txt
$(BIN)/clients/python: $(CLIENTS)/python/requirements.txt
$(BIN)/schemathesis $(BIN)/clients/python:
	@rm -rf $@ && python3 -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check --retries 10 --require-hashes -r $< || { rm -rf $@; exit 1; }
	@touch $@

# No package may run programs of its own while it is installed.
$(BIN)/clients/npm: $(CLIENTS)/npm/package-lock.json
	@rm -rf $@ && mkdir -p $@ && cp $(CLIENTS)/npm/package.json $(CLIENTS)/npm/package-lock.json $@
	@npm ci --prefix $@ --ignore-scripts --no-audit --no-fund --loglevel=error || { rm -rf $@; exit 1; }
	@touch $@

# The adapters in the real frameworks. Each framework has an environment of its own, at the versions that its lock file has, with hashes.
.PHONY: frameworks
frameworks: $(FRAMEWORKS:%=$(BIN)/frameworks/%) ## Try the adapters in the agent frameworks; FRAMEWORKS=crewai and CELLS=flow limit it, WRITE=1 writes docs/frameworks.md
	cd sdk/python && python3 -B -m tests.frameworks.table $(if $(WRITE),--write) --cells '$(CELLS)' \
	  $(foreach name,$(FRAMEWORKS),'$(name)=$(ABSBIN)/frameworks/$(name)/bin/python')

.PHONY: frameworks-newest
frameworks-newest: $(BIN)/uv ## The same with the newest versions that the adapters allow; the document stays as it is
	@for name in $(FRAMEWORKS); do \
	  $(UV) venv --quiet --allow-existing --python python3 $(BIN)/frameworks-newest/$$name; \
	  $(UV) pip install --quiet --upgrade --python $(BIN)/frameworks-newest/$$name/bin/python -r sdk/python/tests/frameworks/$$name.in; \
	done
	cd sdk/python && python3 -B -m tests.frameworks.table --loose --cells '$(CELLS)' \
	  $(foreach name,$(FRAMEWORKS),'$(name)=$(ABSBIN)/frameworks-newest/$(name)/bin/python')

UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv/bin/uv

$(BIN)/frameworks/%: sdk/python/tests/frameworks/%.txt $(BIN)/uv
	@rm -rf $@ && $(UV) venv --quiet --python python3 $@
	@$(UV) pip sync --quiet --require-hashes --python $@/bin/python $< || { rm -rf $@; exit 1; }
	@touch $@

$(BIN)/uv: sdk/python/tests/frameworks/uv.txt
	@rm -rf $@ && python3 -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check --retries 10 --require-hashes -r $< || { rm -rf $@; exit 1; }
	@touch $@

# What each Python from 3.9 on makes of the client, what type checkers say, and machineid-io from PyPI beside it. Everything comes with its hash.
CHECKS := sdk/python/checks
.PHONY: python
python: $(BIN)/python-checks ## Check the Python client: types, wheel, every Python from 3.9 to 3.14 that is here, machineid-io beside it
	$(GO) build -o $(BIN)/machineid ./cmd/machineid
	python3 -B $(CHECKS)/checks.py "$(ABSBIN)/python-checks" "$(ABSBIN)/machineid"

PIP_ONCE := --quiet --disable-pip-version-check --retries 10 --require-hashes --only-binary :all:
$(BIN)/python-checks: $(CHECKS)/requirements.txt $(CHECKS)/package-lock.json sdk/python/public/requirements.txt
	@rm -rf $@ && python3 -m venv $@
	@{ $@/bin/pip install $(PIP_ONCE) -r $(CHECKS)/requirements.txt && \
	  $@/bin/pip download $(PIP_ONCE) --dest $@/public -r sdk/python/public/requirements.txt && \
	  mkdir $@/node && cp $(CHECKS)/package.json $(CHECKS)/package-lock.json $@/node && \
	  PATH="$(CURDIR)/$@/bin:$$PATH" $@/bin/npm ci --prefix $@/node --ignore-scripts --no-audit --no-fund --silent; } || { rm -rf $@; exit 1; }
	@touch $@

# One package after the other: the clusters of processes want the machine for themselves.
.PHONY: torture
torture: ## Run the long forms of the randomised tests; TORTURE=20m sets how long each cluster of real processes is hurt
	MACHINEID_TEST_TORTURE=1 TORTURE=$(TORTURE) $(GO) test -p 1 -count=1 -timeout 24h -v \
	  -run 'Crash|Fault|Linearizable|Verifier|Processes|ThePromise|BrokenRules|BrokenStore|KilledUnderLoad|RandomRequests|Soak|RollingUpgrade' ./raftstore ./cmd/machineid/cli

.PHONY: model
model: ## Search small instances of the link's protocol, of stores' lives and of time, and their mutants (about a minute on 2 cores)
	@$(GO) run ./shared/link/model
	@$(GO) run ./raftstore/model
	@$(GO) run ./authority/hub/model

.PHONY: model-full
model-full: ## The same with larger instances (two or three minutes on 2 idle cores)
	@$(GO) run ./shared/link/model -full
	@$(GO) run ./raftstore/model -full
	@$(GO) run ./authority/hub/model -full

# Small faults in our own code, one at a time. internal/mutants/doc.go says what is made of those that no test notices. Without PKG it tries the packages
# whose survivors have all been looked at; the others have some that are not, and fail.
.PHONY: mutants
mutants: ## Try what small faults in the code the tests notice; PKG="edge authority/hub" other packages, FOR=1h ends it early. It goes on where it was
	@mkdir -p $(BIN)
	@$(GO) build -o $(BIN)/mutants ./internal/mutants
	$(BIN)/mutants -for $(FOR) $(MUTANTSFLAGS) $(if $(filter ./...,$(PKG)),$(MUTANTS),$(PKG))

.PHONY: check
check: check-format check-vet check-lint check-layers check-generated check-tidy ## Check format, vet, lint, layers, generated files and go.mod
	@echo 'check: nothing to complain about'

# Whosever the checkout is: containers have it of another user.
GOFILES = $$(git -c safe.directory='*' ls-files --cached --others --exclude-standard '*.go' | grep -v '\.pb\.go$$')
IMPORTS := -s standard -s default -s 'prefix(machineid)'

.PHONY: check-format
check-format: $(BIN)/gofumpt $(BIN)/gci
	@echo 'check: format'
	@wrong=$$($(BIN)/gofumpt -modpath machineid -l $(GOFILES); $(BIN)/gci list $(IMPORTS) $(GOFILES)); \
	  [ -z "$$wrong" ] || { echo "$$wrong"; echo 'check: run "make fmt"' >&2; exit 1; }

.PHONY: check-vet
check-vet:
	@echo 'check: vet'
	@$(GO) vet ./...
	@$(GO) vet -tags foreign ./cmd/machineid/cli
	@$(GO) -C internal/tools vet ./...
	@$(GO) -C bench/peers vet ./...

# What docs/operations.md says of other systems, without cgo as what is shipped. The tests there do not build.
.PHONY: check-systems
check-systems:
	@echo 'check: systems'
	@for system in linux/arm64 darwin/arm64 windows/amd64; do \
	  CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) build -o /dev/null ./cmd/machineid ./sdk/go/... || \
	  { echo "check: does not build for $$system" >&2; exit 1; }; \
	done

# internal/tools/lint says what lint is.
.PHONY: check-lint
check-lint: $(BIN)/lint $(BIN)/staticcheck
	@echo 'check: lint'
	@$(GO) -C internal/tools test ./lint >$(BIN)/lint.log || { cat $(BIN)/lint.log; exit 1; }
	@$(GO) vet -vettool="$(ABSBIN)/lint" ./...
	@$(BIN)/staticcheck -checks $(STATICCHECK) ./...

# All but what is said of comments' form and of names.
STATICCHECK := all,-ST1000,-ST1003,-ST1016,-ST1020,-ST1021,-ST1022

# Not from the test cache, which does not see that a package has become another's import.
.PHONY: check-layers
check-layers:
	@echo 'check: layers'
	@said=$$($(GO) test -count=1 . 2>&1) || { echo "$$said"; exit 1; }

PROTOS := shared/link/link.proto authority/state/statepb/state.proto
PROTOGEN := $(BIN)/protogen $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc

.PHONY: check-generated
check-generated: $(PROTOGEN)
	@echo 'check: generated files'
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(BIN)/protogen -plugins "$(ABSBIN)" -out "$$fresh" $(PROTOS); \
	{ (cd "$$fresh" && find . -name '*.pb.go'); find . -name '*.pb.go' -not -path './.*/*'; } | sort -u | \
	{ stale=0; while read -r file; do diff -uN "$$file" "$$fresh/$$file" || stale=1; done; exit $$stale; } || \
	{ echo 'check: run "make generate"' >&2; exit 1; }

.PHONY: check-tidy
check-tidy:
	@echo 'check: every go.mod'
	@for module in . internal/tools bench/peers $(CLIENTS)/go; do \
	  $(GO) -C $$module mod tidy -diff || { echo "check: run \"go -C $$module mod tidy\"" >&2; exit 1; }; \
	done

.PHONY: fmt
fmt: $(BIN)/gofumpt $(BIN)/gci ## Format every Go file
	@$(BIN)/gci write $(IMPORTS) $(GOFILES)
	@$(BIN)/gofumpt -modpath machineid -w $(GOFILES)

.PHONY: bench
bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench '$(BENCH)' $(BENCHFLAGS) $(PKG)

.PHONY: bench-peers
bench-peers: ## Measure validates, revokes and changes beside nginx, Redis, etcd and OpenFGA; writes docs/peers.md (5 minutes)
	@mkdir -p $(BIN)
	$(GO) -C bench/peers build -o "$(ABSBIN)/peers" .
	cd bench/peers && ../../$(BIN)/peers validate -docs ../../docs/peers.md && ../../$(BIN)/peers changes -docs ../../docs/peers.md && ../../$(BIN)/peers proxied -docs ../../docs/peers.md

.PHONY: bench-report
bench-report: ## Run every scenario of "machineid bench" on 3 nodes and 3 edges beside a bare handler; writes docs/bench.md (5 minutes)
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/scenarios ./bench/scenarios
	$(BIN)/scenarios -docs docs/bench.md

.PHONY: bench-generator
bench-generator: ## Hold the load generator against known delays, a stall and wrk, and print the ratios
	$(GO) test -count=1 -v -run 'Histogram|KnownDelays|Stall|Wrk' ./bench/load

.PHONY: scale
scale: ## Load a million devices into 3 nodes and an edge: time, memory, restart, revokes; writes docs/bench.md (5 to 10 minutes)
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/scale ./bench/scale
	$(BIN)/scale $(SCALE) -docs docs/bench.md

# First guided by coverage, which looks for inputs that go new ways; that costs a large program 100 times as much an input as the parser
# does. Then without, from all that was found. What a test finds stands in its package's testdata/fuzz from then on, and in the output.
.PHONY: fuzz
fuzz: ## Fuzz every parser: guided by coverage for 30 s, then by a million mutants of what that found; a table (45 minutes on 2 cores)
	@mkdir -p $(BIN); failed=0; cache=$$($(GO) env GOCACHE)/fuzz; \
	printf '%-26s %-20s %12s %12s %8s\n' package test guided mutants seconds; \
	for pkg in $$($(GO) list $(PKG)); do \
	  dir=$$($(GO) list -f '{{.Dir}}' "$$pkg"); \
	  targets=$$($(GO) test -list '$(FUZZ)' "$$pkg" | grep '^Fuzz' || true); \
	  [ -z "$$targets" ] || $(GO) test -c -o $(BIN)/fuzz.test "$$pkg" || exit 1; \
	  for target in $$targets; do \
	    began=$$SECONDS; said=; : >$(BIN)/fuzz.log; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZGUIDED) -fuzzminimizetime 10x $(FUZZFLAGS) "$$pkg" >$(BIN)/guided.log 2>&1 && \
	    (cd "$$dir" && "$(ABSBIN)/fuzz.test" -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) -test.fuzzcachedir "$$cache/$$pkg") \
	      >$(BIN)/fuzz.log 2>&1 || { said=FAILED; failed=1; }; \
	    execs() { sed -n 's/.* execs: \([0-9]*\).*/\1/p' "$$1" | tail -n 1 | grep . || echo 0; }; \
	    printf '%-26s %-20s %12s %12s %8s %s\n' "$${pkg#*/}" "$$target" "$$(execs $(BIN)/guided.log)" "$$(execs $(BIN)/fuzz.log)" $$((SECONDS - began)) "$$said"; \
	    [ -z "$$said" ] || cat $(BIN)/guided.log $(BIN)/fuzz.log; \
	  done; \
	done; exit $$failed
	@[ '$(PKG)' != ./... ] || (cd sdk/python && MACHINEID_TEST_FUZZ=1000000 python3 -B -m unittest tests.test_fuzz)

.PHONY: generate
generate: $(PROTOGEN) ## Generate the Go code of the protobuf files
	$(BIN)/protogen -plugins "$(ABSBIN)" -out . $(PROTOS)

# The tools. A change of their versions, or of our own among them, builds them again.
$(BIN)/gotestsum: TOOL := gotest.tools/gotestsum
$(BIN)/staticcheck: TOOL := honnef.co/go/tools/cmd/staticcheck
$(BIN)/gofumpt: TOOL := mvdan.cc/gofumpt
$(BIN)/gci: TOOL := github.com/daixiang0/gci
$(BIN)/protoc-gen-go: TOOL := google.golang.org/protobuf/cmd/protoc-gen-go
$(BIN)/protoc-gen-go-grpc: TOOL := google.golang.org/grpc/cmd/protoc-gen-go-grpc
$(BIN)/lint: TOOL := ./lint
$(BIN)/lint: $(wildcard internal/tools/lint/*.go)
$(BIN)/protogen: TOOL := ./protogen
$(BIN)/protogen: $(wildcard internal/tools/protogen/*.go)

$(BIN)/%: internal/tools/go.mod internal/tools/go.sum
	@echo 'build $* (once)'
	@mkdir -p $(BIN)
	@$(GO) -C internal/tools build -o "$(CURDIR)/$@" $(TOOL)
	@touch $@
