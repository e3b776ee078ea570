# make            release build of all programs
# make test       everything that can be tested here; installs missing Debian packages if it may
# make check      lints, each package and feature alone, rust-version, fuzz corpora, public face
# make accept-public-face  takes the library's public face as it is now into its snapshot
# make judge      proofs that need the whole stack for long: soak, fail2ban-test, deb-test
# make release    what must hold before a release (cargo-deny, cargo-semver-checks, the packages)
# make bench      criterion benchmarks (figures are ratios within one run)
# make fuzz       a short run of each fuzz target (needs cargo-fuzz)
# make soak       the whole on a real stack for SOAK_SECONDS at SOAK_RATE requests/s, as root
# make man        manual pages and completions, as the programs write them, into target/man
# make fail2ban-test  bans in the kernel with the Fail2ban of other Debian releases, as root
# make deb        Debian package in $(TARGET)/debian; make deb-test tries it in a root of its own
# make install    programs, units and examples below $(DESTDIR)$(PREFIX), configuration if there is none

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
CARGO ?= cargo
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 1800
SOAK_RATE ?= 400
# Where cargo puts what it builds. sudo forgets variables: sudo make install TARGET=DIR
TARGET ?= $(or $(CARGO_TARGET_DIR),$(CARGO_BUILD_TARGET_DIR),target)
RELEASE ?= $(TARGET)/release

BINDIR = $(DESTDIR)$(PREFIX)/bin
DOCDIR = $(DESTDIR)$(PREFIX)/share/doc/modsec-tools
UNITDIR = $(DESTDIR)$(PREFIX)/lib/systemd/system
TMPFILESDIR = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
SYSUSERSDIR = $(DESTDIR)$(PREFIX)/lib/sysusers.d
ETC = $(DESTDIR)$(SYSCONFDIR)
MANDIR = $(DESTDIR)$(PREFIX)/share/man
BASHDIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHDIR = $(DESTDIR)$(PREFIX)/share/zsh/$(ZSHFUNCTIONS)
FISHDIR = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
ZSHFUNCTIONS ?= site-functions

PROGRAMS = modsec-parser watch-dir recidive
PAGES = $(wildcard modsec-core/man/*.5)
GUIDES = $(shell find examples/server examples/data -type f) benches/README.md
UNITS = $(wildcard *-bin/deploy/*.service *-bin/deploy/*.timer)

.PHONY: all test check lint public-face accept-public-face bench fuzz fail2ban-test soak judge \
	release man install uninstall deb deb-test clean

all:
	$(CARGO) build --release

test:
	./.ci/packages
	$(CARGO) test --workspace --all-features

# What continuous integration asks for besides the tests.
check: lint public-face
	CARGO="$(CARGO)" ./.ci/alone
	CARGO="$(CARGO)" ./.ci/rust-version
	CARGO="$(CARGO)" ./.ci/corpora

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	$(CARGO) clippy -p modsec-core --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --all-features --no-deps

# The snapshot is modsec-core/tests/snapshots/public_face__*.snap.
public-face:
	$(CARGO) test --workspace --all-features --test public_face -- --ignored

accept-public-face:
	INSTA_UPDATE=always $(MAKE) public-face

# `python3 benches/mariadb.py` is one more, with a private MariaDB; it takes some minutes.
bench:
	$(CARGO) bench --workspace --all-features

# What is found goes below target; an input worth keeping is added to the corpus by hand.
fuzz:
	cd modsec-core && for target in fuzz/fuzz_targets/*.rs; do \
		name=$$(basename $$target .rs); mkdir -p fuzz/target/corpus/$$name || exit 1; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none $$name \
			fuzz/target/corpus/$$name fuzz/corpus/$$name -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=16384 || exit 1; \
	done

man:
	$(CARGO) build --release
	mkdir -p target/man
	for program in $(PROGRAMS); do \
		$(RELEASE)/$$program --generate man > target/man/$$program.8 || exit 1; \
		cat $$program-bin/man/sections.roff >> target/man/$$program.8 || exit 1; \
		$(RELEASE)/$$program --generate complete-bash > target/man/$$program.bash || exit 1; \
		$(RELEASE)/$$program --generate complete-zsh > target/man/_$$program || exit 1; \
		$(RELEASE)/$$program --generate complete-fish > target/man/$$program.fish || exit 1; \
	done
	cp $(PAGES) target/man

fail2ban-test:
	recidive-bin/tests/kernel_bans/releases

# Ends with a table of memory, descriptors, watches, threads and lag; fails if they grow.
soak:
	./.ci/packages
	$(CARGO) build --release --workspace
	SOAK_SECONDS=$(SOAK_SECONDS) SOAK_RATE=$(SOAK_RATE) $(CARGO) test --release \
		-p modsec-parser-bin --test whole -- --ignored --nocapture soak

# To be run once for each change of what they judge; figures go into the note of that change.
judge: soak fail2ban-test deb-test

# BASELINE is the commit with which the public face is compared.
release:
	CARGO="$(CARGO)" ./.ci/release

# Builds only if the programs are missing, so that `sudo make install` need not have cargo.
install:
	for program in $(PROGRAMS); do \
		[ -x $(RELEASE)/$$program ] || $(CARGO) build --release || exit 1; \
		install -D -m 755 $(RELEASE)/$$program $(BINDIR)/$$program || exit 1; \
	done
	mkdir -p $(MANDIR)/man5 $(MANDIR)/man8 $(BASHDIR) $(ZSHDIR) $(FISHDIR)
	install -m 644 $(PAGES) $(MANDIR)/man5
	for program in $(PROGRAMS); do \
		write="$(RELEASE)/$$program --generate"; \
		$$write man > $(MANDIR)/man8/$$program.8 || exit 1; \
		cat $$program-bin/man/sections.roff >> $(MANDIR)/man8/$$program.8 || exit 1; \
		$$write complete-bash > $(BASHDIR)/$$program || exit 1; \
		$$write complete-zsh > $(ZSHDIR)/_$$program || exit 1; \
		$$write complete-fish > $(FISHDIR)/$$program.fish || exit 1; \
	done
	mkdir -p $(UNITDIR)
	for unit in $(UNITS); do \
		sed -e 's|/usr/bin/|$(PREFIX)/bin/|' -e 's|/usr/share/|$(PREFIX)/share/|' $$unit \
			> $(UNITDIR)/$$(basename $$unit) || exit 1; \
	done
	install -D -m 644 modsec-parser-bin/deploy/modsec-tools.sysusers $(SYSUSERSDIR)/modsec-tools.conf
	install -D -m 644 modsec-parser-bin/deploy/modsec-tools.tmpfiles $(TMPFILESDIR)/modsec-tools.conf
	install -D -m 644 modsec-parser-bin/deploy/modsec-tools.logrotate $(ETC)/logrotate.d/modsec-tools
	# A package does this when it is installed.
	[ -n "$(DESTDIR)" ] || ! command -v systemd-tmpfiles >/dev/null || \
		{ systemd-sysusers $(SYSUSERSDIR)/modsec-tools.conf && \
		systemd-tmpfiles --create $(TMPFILESDIR)/modsec-tools.conf; }
	[ -e $(ETC)/modsec-tools/config.toml ] || \
		install -D -m 644 modsec-parser-bin/deploy/config.toml $(ETC)/modsec-tools/config.toml
	for file in action.d/modsec-recidive-nftables.conf filter.d/modsec-recidive.conf \
		jail.d/modsec-recidive.conf; do \
		install -D -m 644 recidive-bin/deploy/$$file $(DOCDIR)/fail2ban/$$file || exit 1; \
	done
	install -D -m 644 README.md $(DOCDIR)/README.md
	install -m 644 README.ru.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(DOCDIR)
	for file in $(GUIDES); do install -D -m 644 $$file $(DOCDIR)/$$file || exit 1; done

# A configuration that somebody has changed stays.
uninstall:
	for program in $(PROGRAMS); do \
		rm -f $(BINDIR)/$$program $(MANDIR)/man8/$$program.8 $(BASHDIR)/$$program \
			$(ZSHDIR)/_$$program $(FISHDIR)/$$program.fish; \
	done
	for page in $(PAGES); do rm -f $(MANDIR)/man5/$$(basename $$page); done
	for unit in $(UNITS); do rm -f $(UNITDIR)/$$(basename $$unit); done
	rm -f $(SYSUSERSDIR)/modsec-tools.conf $(TMPFILESDIR)/modsec-tools.conf $(ETC)/logrotate.d/modsec-tools
	! cmp -s modsec-parser-bin/deploy/config.toml $(ETC)/modsec-tools/config.toml || \
		rm -f $(ETC)/modsec-tools/config.toml
	rm -rf $(DOCDIR)

deb:
	$(CARGO) build --release
	TARGET="$(TARGET)" modsec-parser-bin/deploy/debian/build

deb-test: deb
	TARGET="$(TARGET)" modsec-parser-bin/deploy/debian/test

clean:
	$(CARGO) clean
