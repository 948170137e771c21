/* Options of mmrun: one table for all commands. A row makes the field, its default, the parser's
   entry and the help line; its letters say which commands take it. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "base.h"

/* Commands that take these options: name, letter in OPTIONS, arguments, help. `mmrun synth` parses its own. */
#define COMMANDS(X)                                                                                 \
	X(train, 't', "PLAN", "train a model on its tables")                                        \
	X(eval, 'e', "PLAN", "measure a checkpoint on a split")                                     \
	X(predict, 'p', "PLAN", "predict from raw rows of a CSV file, or one typed row")            \
	X(generate, 'g', "PLAN", "write text, byte by byte, with a model of the next byte")         \
	X(inspect, 'i', "PLAN", "show what is in a plan or a checkpoint")                           \
	X(bench, 'b', "PLAN", "time a program, and each of its instructions, against what the device can do") \
	X(profile, 'f', "PLAN", "write a trace of one step, for Perfetto or chrome://tracing")

/* field, type, name, letter, argument, least value, default, commands, help */
#define OPTIONS(X)                                                                                  \
	X(device, STR, "device", 0, "NAME", 0, "auto", "tepbgf", "cpu, cuda, or auto: cuda where the plan and the machine have it") \
	X(threads, INT, "threads", 0, "N", 0, 0, "tepbgf", "CPU threads; 0: one a core, or OMP_NUM_THREADS") \
	X(memory_limit, BYTES, "memory-limit", 0, "BYTES", 1, -1, "tepbgf", "device memory to use at most, as 1500000, 512M or 1.5G") \
	X(out, STR, "out", 'o', "DIR", 0, NULL, "te", "folder of the run: checkpoints and metrics (default runs/MODEL)") \
	X(file, STR, "out", 'o', "FILE", 0, NULL, "p", "where predictions go (default: standard output)") \
	X(run, STR, "run", 0, "DIR", 0, NULL, "pg", "folder of the run that --ckpt names (default runs/MODEL)") \
	X(resume, FLAG, "resume", 0, NULL, 0, false, "t", "continue from last.safetensors of the run, bit for bit") \
	X(epochs, INT, "epochs", 0, "N", 1, -1, "t", "epochs, in place of the plan's") \
	X(seed, INT, "seed", 0, "N", 0, -1, "tbgf", "seed of all random numbers, in place of the plan's (generate: of what is drawn, default 0)") \
	X(split_seed, INT, "split-seed", 0, "N", 0, -1, "te", "seed of the split, in place of the plan's (eval: the checkpoint's)") \
	X(fold, INT, "fold", 0, "K", 1, -1, "te", "which of the model's folds tests, in place of the plan's (eval: as in training)") \
	X(ckpt, STR, "ckpt", 0, "FILE", 0, NULL, "epig", "checkpoint: a file, or best or last of the run (default best)") \
	X(split, STR, "split", 0, "NAME", 0, "test", "e", "train, val or test")                     \
	X(in, STR, "in", 'i', "FILE", 0, NULL, "p", "file of raw rows (of arrays: of the first column); replaces the plan's first table") \
	X(set, PAIRS, "set", 0, "COLUMN=VALUE ...", 0, NULL, "p", "one typed row in place of a file; other columns are missing") \
	X(format, STR, "format", 0, "NAME", 0, NULL, "p", "csv, jsonl or text (default csv; text for --set)") \
	X(png, STR, "png", 0, "FILE", 0, NULL, "p", "write predicted pictures and other outputs there, as one page") \
	X(table, PAIRS, "table", 0, "NAME=FILE ...", 0, NULL, "tepbf", "another file for a table of the plan") \
	X(cache, STR, "cache", 0, "DIR", 0, NULL, "tebf", "folder of encoded columns (default: columns/ in the user's cache)") \
	X(no_cache, FLAG, "no-cache", 0, NULL, 0, false, "tebf", "neither read nor write encoded columns") \
	X(report, STR, "report", 0, "FILE", 0, NULL, "te", "write the cleaning report there (train: default standard output)") \
	X(split_out, STR, "split-out", 0, "FILE", 0, NULL, "te", "write key,split of every row as CSV") \
	X(threshold, REAL, "threshold", 0, "P", 0, 0.5, "tep", "a binary target counts as 1 from this probability on") \
	X(save_steps, INT, "save-steps", 0, "N", 1, -1, "t", "write last.safetensors every N steps too") \
	X(max_steps, INT, "max-steps", 0, "N", 1, -1, "t", "stop after this step of the run")        \
	X(log, STR, "log", 0, "FILE", 0, NULL, "t", "write JSON lines: one a chunk of steps, one an epoch") \
	X(loss_csv, STR, "loss-csv", 0, "FILE", 0, NULL, "t", "write the losses of every step as CSV") \
	X(prompt, STR, "prompt", 0, "TEXT", 0, NULL, "g", "what the text begins with")             \
	X(length, INT, "length", 0, "N", 1, 500, "g", "bytes to write; when the model's window is full, the text goes on from its last half") \
	X(temperature, REAL, "temperature", 0, "T", 0, 0.8, "g", "0: always the likeliest byte; 1: as the model says") \
	X(top_k, INT, "top-k", 0, "N", 1, -1, "g", "draw among the N likeliest bytes alone")       \
	X(json, FLAG, "json", 0, NULL, 0, false, "e", "print JSON instead of the table")             \
	X(all, FLAG, "all", 'a', NULL, 0, false, "i", "every field of the plan")                     \
	X(source, FLAG, "source", 0, NULL, 0, false, "i", "the source of the kernels")               \
	X(program, STR, "program", 0, "NAME", 0, "train", "bf", "train, eval, or decode of a model that generates") \
	X(batch, INT, "batch", 0, "N", 1, -1, "bf", "batch size, where the plan has several")         \
	X(windows, INT, "windows", 0, "N", 1, 5, "bf", "windows of at least half a second")           \
	X(synthetic, FLAG, "synthetic", 0, NULL, 0, false, "bf", "random columns: no data files needed") \
	X(rows, INT, "rows", 0, "N", 1, 65536, "bf", "rows of the random columns")                    \
	X(json_file, STR, "json", 0, "FILE", 0, NULL, "b", "write the result as JSON")               \
	X(html, STR, "html", 0, "FILE", 0, NULL, "b", "write the result as a page: timeline, roofline, memory over the step") \
	X(vs, STR, "vs", 0, "PLAN", 0, NULL, "b", "another plan, timed in turn with the first: ratios of time and memory") \
	X(trace, STR, "out", 'o', "FILE", 0, "trace.json", "f", "where the trace goes")

#define OPTION_C_FLAG bool
#define OPTION_C_INT int64_t
#define OPTION_C_BYTES int64_t
#define OPTION_C_REAL double
#define OPTION_C_STR const char *
#define OPTION_C_PAIRS const char **

typedef struct Options {
	const char *plan; /* the positional argument */
	bool help;
/* An int that was not given and has no default is -1, a string NULL; PAIRS are name, value, ..., NULL. */
#define X(field, type, name, letter, arg, least, def, cmds, help) OPTION_C_##type field;
	OPTIONS(X)
#undef X
	Arena arena; /* of the pairs */
} Options;

/* Parses the arguments after the command. cmd: its letter; name: its name, for messages. The caller frees o->arena. */
bool options_parse(Options *o, const char *name, char cmd, int argc, char **argv, Err *e);

/* Usage, what the command does, and its options. */
void options_help(FILE *f, const char *name, char cmd, const char *args, const char *what);

#endif
