# Every target installs what it needs: a bare Debian with Rust, make, and root or sudo will do.
.PHONY: all build demo test sweep check bench fuzz venv peers postgres tools

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV := .venv
CARGO := cargo
# One profile and one set of crates for everything: the AWS SDK is built once.
BUILD := $(CARGO) build --release --workspace --locked

all: build

build:
	$(BUILD)

# The whole job on a simulated organization, in one process; ends with a summary and exit 0.
demo: build
	target/release/ringfence-demo

# Everything that proves that it works.
test: venv peers postgres build
	$(CARGO) test --release --workspace --locked

# Every crash point of swaps, ways back, decommissions and remediations in trouble, and kills with 500 databases in
# flight, with their numbers; `make test` tries some of them.
sweep: venv build
	RINGFENCE_SWEEP=1 $(CARGO) test --release --workspace --locked --test it -- _crash kill:: --nocapture

# What a cell costs; prints a table and writes target/bench/results.json.
bench: venv peers postgres build
	$(BUILD) --examples
	target/release/ringfence-bench $(BENCH)

# Format, lints, dependency rules, protos, templates.
check: venv tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	$(CARGO) deny --all-features check licenses bans sources
	cd proto && ../node_modules/.bin/buf lint
	$(VENV)/bin/cfn-lint deploy/*.yaml

# A virtual environment, from the requirements that its second name stands for.
%/.done:
	@command -v python3 >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -yq python3 python3-venv; }
	@python3 -c 'import ensurepip' 2>/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -yq python3-venv; }
	python3 -m venv $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.done: tests/python/requirements.txt
$(VENV)-peers/.done: tests/python/peers-requirements.txt

# Python with moto, boto3 and cfn-lint, pinned; for tests only.
venv: $(VENV)/.done

# Other people's tools, pinned, in an environment of their own: they want another boto3.
peers: $(VENV)-peers/.done

# PostgreSQL's programs; the tests start a private server from them, no service is used.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -yq postgresql; }
	@command -v setpriv >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -yq util-linux; }

# Each parser of the simulator's wire protocols, FUZZ_SECONDS long (libFuzzer wants RUSTC_BOOTSTRAP).
FUZZ_SECONDS := 30
fuzz:
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked --quiet cargo-fuzz
	for target in query json cbor; do \
		(cd simulator && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none $$target -- -max_total_time=$(FUZZ_SECONDS)) || exit 1; \
	done

tools: node_modules/.bin/buf
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked --quiet cargo-deny@0.20.2

node_modules/.bin/buf: package.json package-lock.json
	@command -v npm >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -yq npm; }
	npm ci --silent --no-audit --no-fund
	@touch $@
