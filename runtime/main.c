/* mmrun: the command table. A command gets parsed options and reports through an Err; only main exits:
   0 done, 1 the output could not be written, 2 an error with a message, 128 + signal interrupted. */
#include "runtime.h"
#include "session.h"

#include <signal.h>
#include <string.h>

#ifndef MMC_VERSION
#define MMC_VERSION "0.1.0"
#endif

typedef struct Command {
	const char *name;
	char letter; /* in the option table */
	const char *args;
	const char *help;
	bool (*run)(const Options *o, int *status, Err *e);
	int (*raw)(int argc, char **argv); /* parses its own options */
} Command;

static const Command command[] = {
#define X(name, letter, args, help) {#name, letter, args, help, run_##name, NULL},
	COMMANDS(X)
#undef X
	{"synth", 0, "", "write a synthetic data set with a known best score", NULL, cmd_synth},
};

static void
print_help(FILE *f)
{
	fputs("usage: mmrun COMMAND [arguments]\n\nRuns plans that mmc compiled.\n\ncommands:\n", f);
	for (size_t i = 0; i < LEN(command); i++)
		fprintf(f, "  %-9s %s\n", command[i].name, command[i].help);
	fputs("\nmmrun COMMAND --help shows a command's options; mmrun --version the version.\n", f);
}

static int
report(const Err *e)
{
	fprintf(stderr, "mmrun: error: %s\n", e->msg);
	return 2;
}

static int
fail_command(const char *name)
{
	const char *names[LEN(command)], *near;
	for (size_t i = 0; i < LEN(command); i++)
		names[i] = command[i].name;
	near = nearest_name(name, names, LEN(command));
	fprintf(stderr, "mmrun: error: unknown command '%s'", name);
	fprintf(stderr, near ? ": did you mean '%s'?\n" : ": see mmrun --help\n", near);
	return 2;
}

static int
run_command(const Command *c, int argc, char **argv)
{
	Options o = {0};
	Err e = {0};
	int status = 0;
	if (c->raw)
		return c->raw(argc, argv);
	if (!options_parse(&o, c->name, c->letter, argc - 1, argv + 1, &e)) {
		status = report(&e);
	} else if (o.help) {
		options_help(stdout, c->name, c->letter, c->args, c->help);
	} else if (!o.plan) {
		fail(&e, "mmrun %s needs a plan: mmrun %s %s (mmc makes one: mmc model.yaml -o plan.bin)", c->name, c->name, c->args);
		status = report(&e);
	} else if (!c->run(&o, &status, &e)) {
		status = report(&e);
	}
	arena_free(&o.arena);
	return status;
}

int
main(int argc, char **argv)
{
	signal(SIGXFSZ, SIG_IGN); /* a file that grows past its limit is an error with a message, as a full disk is */
	int status = 0;
	if (argc < 2) {
		print_help(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
	} else if (!strcmp(argv[1], "--version")) {
		puts("mmrun " MMC_VERSION);
	} else {
		const Command *c = NULL;
		for (size_t i = 0; i < LEN(command) && !c; i++)
			if (!strcmp(argv[1], command[i].name))
				c = &command[i];
		status = c ? run_command(c, argc - 1, argv + 1) : fail_command(argv[1]);
	}
	if (fflush(stdout) || ferror(stdout)) {
		fputs("mmrun: error: cannot write standard output\n", stderr);
		return status ? status : 1;
	}
	return status;
}
