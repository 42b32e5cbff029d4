# agentfs: building, testing, measuring. `make` alone lists the targets.

SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The targets are steps of one sequence; go builds and tests in parallel by itself.
.NOTPARALLEL:

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
MODULE  := github.com/agentfs/agentfs
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

BIN   := $(CURDIR)/bin
TOOLS := $(CURDIR)/.tools/bin

VERSITYGW_VERSION   := v1.8.0
STATICCHECK_VERSION := v0.8.2

# Debian packages whose commands the tests and benchmarks run, as COMMAND:PACKAGE.
# gcc is for the race detector only: agentfs itself is built without cgo.
DEBIAN := fusermount3:fuse3 sqlite3:sqlite3 rsync:rsync fio:fio rg:ripgrep git:git setfattr:attr gcc:gcc python3:python3 pg_ctlcluster:postgresql

# More for the programs that take them: make bench BENCHFLAGS=--quick
TESTFLAGS  ?=
BENCHFLAGS ?=
DEMOFLAGS  ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build the static binary bin/agentfs
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X $(MODULE)/cmd/agentfs/cli.Version=$(VERSION)' -o $(BIN)/agentfs ./cmd/agentfs

.PHONY: install
install: build ## install agentfs into PREFIX (/usr/local)
	install -D -m 0755 $(BIN)/agentfs $(DESTDIR)$(PREFIX)/bin/agentfs

.PHONY: demo
demo: build ## mount memory at / and an in-process S3 at /s3-data, and say what to try
	@exec $(BIN)/agentfs demo $(DEMOFLAGS)

.PHONY: test
test: tools check ## everything: format, vet, staticcheck, layering, all tests with mounts and the race detector
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 25m $(TESTFLAGS) ./...

.PHONY: test-quick
test-quick: ## the tests that need no long time, without the race detector
	$(GO) test -short -timeout 5m $(TESTFLAGS) ./...

.PHONY: check
check: fmt-check vet staticcheck layering ## what needs no test run: format, vet, staticcheck, layering

.PHONY: fmt-check
fmt-check:
	@dirs="$$($(GO) list -f '{{.Dir}}' ./...)"; gofmt="$$($(GO) env GOROOT)/bin/gofmt"; \
	bad="$$(for d in $$dirs; do "$$gofmt" -l "$$d"/*.go; done)"; \
	if [ -n "$$bad" ]; then echo "not formatted (run gofmt -w):"; echo "$$bad"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: staticcheck
staticcheck: $(TOOLS)/staticcheck
	$(TOOLS)/staticcheck ./...

.PHONY: layering
layering:
	$(GO) test -count=1 -run '^TestLayering' ./backends

.PHONY: bench
bench: build tools ## the memory route beside tmpfs and a loopback mount, the store side beside the SDK and peers
	$(GO) run ./bench --agentfs $(BIN)/agentfs $(BENCHFLAGS)

.PHONY: tools
tools: debian versitygw $(TOOLS)/staticcheck ## the test servers and linters (.tools/bin) and Debian packages

# What is there in the wanted version is left alone: the binary itself says which it is.
# $(call go-tool,NAME,MODULE,PACKAGE,VERSION)
define go-tool
	@if ! $(GO) version -m $(TOOLS)/$(1) 2>/dev/null | grep -E '^[[:space:]]+mod[[:space:]]+$(2)[[:space:]]+$(4)([[:space:]]|$$)' >/dev/null; then \
		echo "building $(1) $(4)"; mkdir -p $(TOOLS); rm -f $(TOOLS)/$(1); \
		CGO_ENABLED=0 GOFLAGS= GOBIN=$(TOOLS) $(GO) install $(3)@$(4); \
	fi
endef

.PHONY: versitygw
versitygw:
	$(call go-tool,versitygw,github.com/versity/versitygw,github.com/versity/versitygw/cmd/versitygw,$(VERSITYGW_VERSION))

# Asked for by its path, so that `make check` works without the other tools.
.PHONY: $(TOOLS)/staticcheck
$(TOOLS)/staticcheck:
	$(call go-tool,staticcheck,honnef.co/go/tools,honnef.co/go/tools/cmd/staticcheck,$(STATICCHECK_VERSION))

.PHONY: debian
debian:
	@missing=""; for p in $(DEBIAN); do command -v "$${p%%:*}" >/dev/null || missing="$$missing $${p##*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	case "$$missing" in *gcc*) missing="$$missing libc6-dev";; esac; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; \
		apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
		echo "please install:$$missing (on Debian: apt-get install$$missing)" >&2; \
		if [ "$${CI:-}" = true ]; then exit 1; fi; \
	fi

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) bench/out

.PHONY: distclean
distclean: clean ## remove the tools too
	rm -rf $(CURDIR)/.tools
