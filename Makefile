# SPDX-License-Identifier: BSD-2-Clause
# For those who work on it; meson does the work. ./run and ./check need nothing of this, not even make.
BUILD ?= build
prefix ?= $(or $(PREFIX),/usr/local)
PYTHON ?= /usr/bin/python3

SOURCES = $(shell find src test -name '*.[ch]')

all: $(BUILD)/build.ninja
	meson compile -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD) --prefix=$(prefix) $(MESON_OPTIONS)

$(BUILD)/peer:
	test/lib/fetch-peer.sh $(abspath $(BUILD))/peer

$(BUILD)/prometheus:
	test/lib/fetch-peer.sh $(abspath $(BUILD))/prometheus 'promtool|prometheus'

# The tests; `make check SUITE=unit` some of them. ./check does more.
check: all $(BUILD)/peer $(BUILD)/prometheus
	meson test -C $(BUILD) --print-errorlogs $(if $(SUITE),--suite $(SUITE))

# Side by side with others, pinned to a processor: ten minutes at most, and writes docs/bench/. `BENCH=quick make bench`
# takes half a minute, and writes bench/ in the build directory.
bench: all $(BUILD)/peer
	TABRMD_BUILD=$(abspath $(BUILD)) PYTHONPATH=test/lib PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/bench/bench.py \
		$(if $(BENCH),$(BUILD),docs)/bench

# Many clients with a key each: whose turn it is, in time of its own; and beside tpm2-abrmd 3.0 on a paced swtpm.
bench-schedule: all
	$(BUILD)/test/bench/schedule

bench-turns: all $(BUILD)/peer
	TABRMD_BUILD=$(abspath $(BUILD)) PYTHONPATH=test/lib $(PYTHON) test/bench/turns.py

# Which contexts stay in the TPM, by traces; no time is measured. docs/bench/RESIDENCY.md
bench-residency: all
	mkdir -p docs/bench
	$(BUILD)/test/bench/residency test/bench/traces/*.trace >docs/bench/RESIDENCY.md

# Records the traces of that anew; the programs are listed in record.py.
traces: all
	TABRMD_BUILD=$(abspath $(BUILD)) PYTHONPATH=test/lib PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/bench/record.py

# Many at once, as root: an hour.
crowd: all $(BUILD)/peer
	TABRMD_BUILD=$(abspath $(BUILD)) PYTHONPATH=test/lib $(PYTHON) test/bench/crowd.py

# A real /dev/tpm0, in a virtual machine; some five minutes. Needs packages_vm of test/lib/deps.sh.
check-vm: all $(BUILD)/peer
	test/vm/check-vm.sh $(BUILD) build-vm

# The ways to /dev/tpm0 side by side, in one boot of that machine.
bench-vm: all $(BUILD)/peer
	test/vm/check-vm.sh $(BUILD) build-vm test/vm/bench.sh

# docs/*.svg, of a daemon at work, as root and with tmux; and docs/bench/ of what was measured last.
pictures: all
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/bench/report.py docs/bench
	TABRMD_BUILD=$(abspath $(BUILD)) PYTHONPATH=test/lib PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/lib/pictures.py

# The simulation: `make sim SEEDS=100000`, without and with faults.
SEEDS ?= 1000
sim: all
	$(BUILD)/test/sim/sim --seeds $(SEEDS)
	$(BUILD)/test/sim/sim --seeds $(SEEDS) --faults

# All paths of two clients on a small fake TPM: `make worlds DEPTH=8`, and with one fault on the way.
DEPTH ?= 6
FAULT_DEPTH ?= 4
worlds: all
	$(BUILD)/test/worlds/worlds --depth $(DEPTH)
	$(BUILD)/test/worlds/worlds --depth $(FAULT_DEPTH) --faults warning
	$(BUILD)/test/worlds/worlds --depth $(FAULT_DEPTH) --faults lost

# Breaks the code on purpose, and sees what notices; some ten minutes. `make mutants MUTANTS="alias gap"` some of them.
mutants:
	$(PYTHON) test/mutants/mutants.py build-mutants $(MUTANTS)

# Each fuzzer for so many seconds.
SECONDS ?= 60
fuzz:
	test/fuzz/run.sh $(SECONDS)

# Lines of tpm/, resmgr/ and broker/ that the tests reach.
coverage:
	test/lib/lines.sh build-coverage

format:
	@clang-format -i $(SOURCES)

lint:
	@clang-format --dry-run -Werror $(SOURCES)
	$(PYTHON) test/lib/layers.py
	$(PYTHON) test/lib/floors.py
	$(PYTHON) test/lib/repairs.py
	$(PYTHON) test/lib/transitions.py
	$(PYTHON) test/lib/coverage.py
	test/lib/lint-scripts.sh
	test/lib/lint-python.sh
	test/lib/lint-lines.sh
	if command -v cppcheck; then cppcheck -q --error-exitcode=1 --library=gtk --suppress=unknownMacro -Isrc $(shell find src -name "*.c" ! -name "test-*"); fi

# The prefix is compiled in: the daemon looks for its helper below it.
install: all
	meson configure $(BUILD) --prefix=$(prefix) && meson compile -C $(BUILD)
	meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

# Packages of Debian, source and binary, in build-deb/, of the files that git knows. Needs packages_deb of test/lib/deps.sh.
deb:
	debian/make-deb.sh build-deb

# The packages of a release in a root of it, and its programs with them; as root. `make check-deb RELEASE=trixie` builds
# them there, too.
OWN_RELEASE = $(shell . /etc/os-release && echo $$VERSION_CODENAME)
RELEASE ?= $(OWN_RELEASE)
DEBS = build-deb$(if $(filter-out $(OWN_RELEASE),$(RELEASE)),-$(RELEASE))
INSTALL_TEST = PYTHONPATH=test/lib PYTHONDONTWRITEBYTECODE=1 $(PYTHON) test/install

build-deb-$(RELEASE):
	$(INSTALL_TEST)/build.py $(RELEASE) $@ build-roots

build-deb: deb
.PHONY: build-deb-$(RELEASE)

check-deb: $(DEBS)
	$(INSTALL_TEST)/packages.py $(RELEASE) $(DEBS) build-roots

# make install below /usr/local, with what README.md says has to follow.
check-local: all
	$(INSTALL_TEST)/local.py $(RELEASE) $(BUILD) build-roots

# The packages below a systemd, in a container.
check-units: $(DEBS)
	$(INSTALL_TEST)/boot.py $(RELEASE) $(DEBS) build-roots

# What of that needs a kernel, in a virtual machine whose root check-deb has made.
check-kernel: all check-deb
	TABRMD_DEBS=$(abspath $(DEBS)) test/vm/check-vm.sh $(BUILD) build-vm test/vm/inside-systemd.sh build-roots/$(RELEASE)

# ./run and a quick ./check of what is committed, in a root with nothing in it; some ten minutes.
check-fresh:
	$(INSTALL_TEST)/fresh.py $(RELEASE) build-roots/fresh-$(RELEASE)

clean:
	rm -rf $(BUILD) build-run build-check build-mutants build-coverage build-fuzz build-vm build-deb build-deb-* build-roots

.PHONY: all check check-vm bench bench-vm bench-residency bench-schedule bench-turns traces crowd pictures sim worlds mutants fuzz coverage format lint install deb check-deb check-local check-units \
	check-kernel check-fresh build-deb clean
