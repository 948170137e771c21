# make              mmc and mmrun, here
# make demo         packages, build, and the example: compiled, trained, one prediction
# make check        packages, build, and the whole test suite
# make help         all targets
#
# Everything made lies in $(B), but for mmc and mmrun. A change of compiler, flags or CUDA (`make CC=clang`, `make CUDA=`)
# needs no clean: $(B)/flags notices.

B        = build
BIN      = .
CFLAGS   = -O2 -g
PREFIX   = /usr/local
VERSION  = 0.1.0
CUDA    ?= /usr/local/cuda

COMPILE  = $(CC) -std=c17 -Wall -Wextra -Wpedantic -Werror=implicit-function-declaration $(CFLAGS) $(SANFLAGS) $(CPPFLAGS) $(CUDAFLAGS) -MMD -MP
LINK     = $(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS)
# OpenBLAS and the CUDA libraries are opened at run time.
LIBS     = -Wl,--as-needed -ldl -lm
LIBS_mmc = -lyaml
LIBS_run = -lsqlite3 -ljansson -lcsv -lz -lpng -ljpeg -pthread
# `make V=1` shows the commands.
Q        = $(if $(V),,@)
say      = $(if $(V),,@printf '%-6s %s\n' $1 $2)
PACKAGES = gcc libc6-dev make flex bison libyaml-dev libsqlite3-dev libcsv-dev libjansson-dev zlib1g-dev libpng-dev libjpeg-dev libopenblas-dev

# CUDA: its headers suffice. `make CUDA=` builds without.
CUDA_INC := $(firstword $(foreach d,$(if $(CUDA),$(CUDA)/include /usr/include), \
              $(if $(word 3,$(wildcard $(addprefix $(d)/,cuda.h nvrtc.h cublasLt.h))),$(d))))
ifneq ($(CUDA_INC),)
CUDAFLAGS := -DHAVE_CUDA=1 $(addprefix -isystem ,$(filter-out /usr/include,$(CUDA_INC)))
CUDA_SAYS := CUDA headers: $(CUDA_INC)
else
CUDA_SAYS := no CUDA headers found: CPU-only build
endif

# ---- what there is ----

COMPILER := $(wildcard compiler/*.c)
RUNTIME  := $(wildcard runtime/*.c)
TESTS    := $(wildcard tests/*_test.c tests/*_check.c)
SHARED   := $(wildcard tests/check_*.c)
PARSER   := tensor.tab tensor.lex
MMC_OBJ   = $(COMPILER:%.c=$B/%.o) $(PARSER:%=$B/%.o)
RUN_OBJ   = $(RUNTIME:%.c=$B/%.o)
TEST_OBJ  = $(TESTS:%.c=$B/%.o) $(SHARED:%.c=$B/%.o)
LIBMMC    = $B/libmmc.a
LIBRUN    = $B/libmmrun.a
LIBTEST   = $B/libtest.a

.PHONY: all tests help deps demo check suite san valgrind check-cuda suite-cuda bench install clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BIN)/mmc $(BIN)/mmrun
	@echo '$(CUDA_SAYS)'

# ---- programs ----

$(BIN)/mmc: $B/compiler/main.o $(LIBMMC) $(LIBRUN)
	$(call say,link,$@)
	$Q$(LINK) -o $@ $^ $(LIBS) $(LIBS_mmc)
$(BIN)/mmrun: $B/runtime/main.o $(LIBRUN)
	$(call say,link,$@)
	$Q$(LINK) -o $@ $^ $(LIBS) $(LIBS_run)

# All but main, so that a test takes what it needs, and may stand in for functions of files that it does not need.
$(LIBMMC): $(filter-out %/main.o,$(MMC_OBJ)) $B/sources
$(LIBRUN): $(filter-out %/main.o,$(RUN_OBJ)) $B/sources
$(LIBTEST): $(SHARED:%.c=$B/%.o) $B/sources
$(LIBMMC) $(LIBRUN) $(LIBTEST):
	$(call say,ar,$@)
	@rm -f $@
	$Qar rcs $@ $(filter %.o,$^)

tests: $(TESTS:%.c=$B/%)
$(TESTS:%.c=$B/%): $B/tests/%: $B/tests/%.o $(LIBTEST) $(LIBMMC) $(LIBRUN)
	$(call say,link,$@)
	$Q$(LINK) -o $@ $^ $(LIBS) $(LIBS_mmc) $(LIBS_run)

# ---- objects ----

$(MMC_OBJ) $(RUN_OBJ) $(TEST_OBJ): $B/flags
$B/%.o: %.c
	$(call say,cc,$<)
	@mkdir -p $(@D)
	$Q$(COMPILE) $(XFLAGS) -c -o $@ $<

$B/compiler/main.o $B/runtime/main.o: XFLAGS += -DMMC_VERSION='"$(VERSION)"'
$(TEST_OBJ): XFLAGS += -Iruntime
$(COMPILER:%.c=$B/%.o): XFLAGS += -Icompiler -I$B
$(COMPILER:%.c=$B/%.o): | $(PARSER:%=$B/%.h)

# The generated files include "../compiler/parse.h", which -Icompiler finds from any $(B).
$(PARSER:%=$B/%.o): $B/%.o: $B/%.c $(PARSER:%=$B/%.h)
	$(call say,cc,$<)
	$Q$(COMPILE) -Icompiler -I$B -c -o $@ $<
$B/tensor.tab.c $B/tensor.tab.h &: grammar/tensor.y
	$(call say,bison,$<)
	@mkdir -p $B
	$Qbison -Wall -Werror --defines=$B/tensor.tab.h -o $B/tensor.tab.c $<
$B/tensor.lex.c $B/tensor.lex.h &: grammar/tensor.l
	$(call say,flex,$<)
	@mkdir -p $B
	$Qflex --header-file=$B/tensor.lex.h -o $B/tensor.lex.c $<

# Files that are rewritten only when what they say changes.
$B/flags: SAYS = $(COMPILE) $(LINK) $(VERSION) $(shell $(CC) --version 2>&1 | head -n 1)
$B/sources: SAYS = $(COMPILER) $(RUNTIME) $(SHARED)
$B/flags $B/sources: FORCE
	@mkdir -p $B
	@printf '%s\n' '$(subst ','\'',$(SAYS))' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

-include $(MMC_OBJ:.o=.d) $(RUN_OBJ:.o=.d) $(TEST_OBJ:.o=.d)

# ---- what runs them ----

# Packages come first; then a make of its own builds, on all processors unless -j says how many.
AGAIN = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc))
ifneq ($(filter demo check san valgrind check-cuda bench,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# make deps         the Debian or Ubuntu packages that are missing, with sudo where not root
deps:
	@if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then \
		echo 'no apt here: install what Debian calls $(PACKAGES)'; exit 0; fi; \
	missing=; \
	for p in $(PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; done; \
	[ -n "$$missing" ] || exit 0; \
	root='env DEBIAN_FRONTEND=noninteractive'; \
	if [ "$$(id -u)" != 0 ]; then \
		command -v sudo >/dev/null || { echo "not root, and no sudo: as root, do: apt-get install$$missing"; exit 1; }; \
		root="sudo $$root"; fi; \
	echo "installing$$missing"; \
	$$root apt-get update -q && $$root apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 $$missing

DEMO   = $(firstword $(wildcard models/engagement.yaml models/engagement_tab.yaml))
EPOCHS = 10
demo: export MMC_CACHE = $(abspath $B/cache)
demo: deps
	+@$(AGAIN) all
	@mkdir -p $B/demo
	$(BIN)/mmc $(DEMO) --batch 64 -o $B/demo/plan.bin
	$(BIN)/mmrun train $B/demo/plan.bin -o $B/demo/run --epochs $(EPOCHS)
	$(BIN)/mmrun predict $B/demo/plan.bin --run $B/demo/run --set Username=mikabakes \
		'Description=A new dance for the weekend, try it with us!' 'Hashtags=["dance", "weekend"]' \
		'Created At=2021-05-01T18:00:00.000Z' 'Length (seconds)=15'

check: deps
	+@$(AGAIN) suite

# make suite        the suite without looking for packages
suite: all tests
	@MMC=$(BIN)/mmc MMRUN=$(BIN)/mmrun tests/run -b $B $(LIMIT:%=-t %)

# make san          the suite, everything built with AddressSanitizer and UndefinedBehaviorSanitizer
# NVRTC is not ours to sanitize, and the suite compiles the same kernels: here they are only generated. What is left may take its time.
san: export UBSAN_OPTIONS = print_stacktrace=1
san: export MMC_TEST_CUBINS = no
san: deps
	+@$(AGAIN) suite B=$B/san BIN=$B/san LIMIT=1800 CFLAGS='-O1 -g -fno-omit-frame-pointer' \
		SANFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=undefined'

# make valgrind     compile, train, predict and more under valgrind, where there is one
valgrind: deps
	+@$(AGAIN) all
	@MMC=$(BIN)/mmc MMRUN=$(BIN)/mmrun tests/valgrind/check

# make check-cuda   the suite on a GPU, where none is skipped for want of one, and the GPU tests under compute-sanitizer
check-cuda: deps
	+@$(AGAIN) suite-cuda

suite-cuda: export MMC_TEST_CUDA = 1
suite-cuda: suite

# make bench        step times of all models, fused or not, memory reused or not, into bench/results
bench: deps
	+@$(AGAIN) all
	@MMC=$(BIN)/mmc MMRUN=$(BIN)/mmrun bench/run

# make install      to $(DESTDIR)$(PREFIX): bin/mmc, bin/mmrun, share/mmc/ops
install: all
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/mmc/ops/kernels'
	install $(BIN)/mmc $(BIN)/mmrun '$(DESTDIR)$(PREFIX)/bin'
	install -m 644 $(wildcard ops/*.op) '$(DESTDIR)$(PREFIX)/share/mmc/ops'
	install -m 644 $(wildcard ops/kernels/*) '$(DESTDIR)$(PREFIX)/share/mmc/ops/kernels'

# make clean        removes what was made
clean:
	rm -rf $B $(BIN)/mmc $(BIN)/mmrun
