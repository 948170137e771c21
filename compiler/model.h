/* Inside the model reader (yaml.c, model_keys.c, model.c, model_data.c, model_help.c): the YAML tree, the key table,
   and what diag.c offers beyond mmc.h. */
#ifndef MODEL_H
#define MODEL_H

#include "mmc.h"

/* ---- diag.c ---- */

/* Between the two, errors, notes and warnings are kept; the release prints them sorted by place, a note after its error. */
void diag_hold(void);
void diag_release(void);
/* What bug() says and dumps from now on; dump may be NULL. pass is kept by reference. */
void bug_context(const char *pass, void (*dump)(FILE *f, void *arg), void *arg);

/* ---- yaml.c: a YAML document that knows where everything stands ---- */

typedef enum YKind { Y_SCALAR, Y_LIST, Y_MAP } YKind;

typedef struct YNode YNode;

typedef struct YPair {
	const char *key;
	Loc loc;        /* of the key */
	bool plain;     /* the key is not quoted */
	YNode *value;
} YPair;

struct YNode {
	YKind kind;
	Loc loc;
	bool flow;         /* written in [ ] or { } */
	int n;             /* of items or pairs */
	YNode **item;
	YPair *pair;
	const char *s;     /* scalar: its value */
	bool plain;        /* neither quoted nor a block */
	const char *code;  /* the scalar as it stands in the file, so that line breaks and indents keep its places exact */
	Loc code_loc;      /* of the first character of code */
};

#define YAML_MAX_BYTES (1 << 20)
#define YAML_MAX_DEPTH 32
#define YAML_MAX_KEYS 1024 /* of one map, and anchors of a file */

/* Reads the one document of a file and registers its text; NULL after a reported error. Aliases share the node. */
YNode *yaml_read(Arena *a, const char *path, int *file);
YNode *yaml_scalar(Arena *a, const char *text, Loc at);    /* a plain scalar that the file leaves out: a default */
YPair *yaml_pair(const YNode *map, const char *key);       /* NULL if absent */
bool yaml_null(const YNode *v);                            /* nothing, ~ or null */
bool yaml_number(const YNode *v, double *x, bool *whole);  /* plain decimal numbers, with _ between digits */
char *yaml_found(Arena *a, const YNode *v);                /* "the text 'abc'", "a list", "nothing" ... */

/* ---- model_keys.c: grammar/model.def as a table, and reading by it ---- */

#define MAX_AXES 6 /* of a tensor column */

/* An input while it is read: its record and what the record is made of. */
typedef struct InputEntry {
	PlanInput p;
	char *axis;
	AxisNames axes;
	int64_t vocabulary, hash, size;
} InputEntry;

typedef struct TargetEntry {
	PlanTarget p;
	AxisNames axes;
	char *of;
	int64_t ignore;
} TargetEntry;

typedef enum Section {
#define SECTION(id, rec, title, help) S_##id,
#include "../grammar/model.def"
	NSECTION
} Section;

typedef enum ValueType {
#define TYPE(id, reader, store, what) V_##id,
#include "../grammar/model.def"
	NVALUETYPE
} ValueType;

typedef struct SectionInfo {
	const char *name, *title, *help;
} SectionInfo;
extern const SectionInfo sections[NSECTION];

typedef struct Key {
	Section section;
	const char *name;
	ValueType type;
	const char *def;    /* "required", "" none, "(said in words)", else the text of a value */
	const char *range;  /* "[1, 4096]", "(0, inf)", or "" */
	const char *when;   /* types of the entry that have the key: "text, tags"; "" for all */
	size_t off;         /* of the field in the section's record */
	const char *help;
} Key;
extern const Key keys[];
extern const int nkeys;

typedef struct Choice {
	ValueType type;
	const char *name;
	uint32_t value;
	const char *help;
} Choice;
extern const Choice choices[];
extern const int nchoices;

typedef struct Reader {
	Arena *a;
	Model *m;
	Loc top;             /* where the file starts */
	const YNode *root;
	const YNode *early_stop, *plateau;
	Loc split_loc;
} Reader;

char *key_what(Arena *a, const Key *k);                        /* "a whole number from 1 to 4096" */
const Choice *find_choice(ValueType t, const char *name);
bool is_identifier(const char *s);
/* Reads the keys of a map into rec, the record that the section names; title is for messages, where for missing
   keys. Fills in defaults; text without a default is "". */
bool read_keys(Reader *r, Section s, const YNode *map, Loc where, const char *title, void *rec);
/* "tokens: expected a whole number from 1 to 4096, found nothing"; returns false. */
bool wrong_value(Reader *r, const Key *k, const YNode *v);

/* ---- model.c ---- */

bool check_entries(Reader *r, const Key *k, const YNode *v); /* whether v is a map with at least one entry */
bool check_name(const YPair *p, const char *what);           /* whether its key can be the name of a `what` */
bool check_network_name(Reader *r, const YPair *p, const char *what); /* the same, of a name that expressions use */

/* ---- model_keys.c ---- */

/* Parses an expression of the tensor language where it stands; name is for messages. */
bool read_code(Reader *r, const char *name, const YNode *v, Ast **out);

/* Readers of one value into rec (the record of the key's section); false after a reported error. Those of whole
   sections are in model.c and model_data.c. */
#define TYPE(id, reader, store, what) bool reader(Reader *r, const Key *k, const YNode *v, void *rec);
#include "../grammar/model.def"

#endif
