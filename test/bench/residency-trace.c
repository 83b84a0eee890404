/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/residency-trace.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/sim/random.h"

/* Sizes of contexts on an SLB9673, as in test/lib/fake-chips.c. */
#define OBJECT_BYTES 1800
#define SESSION_BYTES 328
#define CROWD_COMMANDS 6000

static void *grow(void *array, size_t n, size_t size) {
        /* at each power of two */
        if (n & (n - 1))
                return array;
        array = realloc(array, (n > 0 ? n * 2 : 1) * size);
        if (!array)
                exit(2);
        return array;
}

void trace_free(Trace *trace) {
        free(trace->things);
        free(trace->uses);
        *trace = (Trace){ 0 };
}

uint32_t trace_add_thing(Trace *trace, Kind kind, bool changes) {
        trace->things = grow(trace->things, trace->n_things, sizeof(Thing));
        trace->things[trace->n_things] = (Thing){
                .kind = kind,
                .changes = changes,
                .bytes = kind == KIND_OBJECT ? OBJECT_BYTES : SESSION_BYTES,
        };
        return (uint32_t)trace->n_things++;
}

void trace_add_use(Trace *trace, uint32_t thing, Act act) {
        trace->uses = grow(trace->uses, trace->n_uses, sizeof(Use));
        trace->uses[trace->n_uses++] = (Use){ .thing = thing, .command = trace->n_commands, .act = act };
}

/* Text */

typedef struct Names {
        char (*names)[32];
        size_t n;
} Names;

static bool add_word(Trace *trace, Names *names, char *word) {
        size_t n = strlen(word), i = 0;
        Act act = ACT_USE;

        if (n > 0 && word[n - 1] == '+')
                act = ACT_MAKE;
        if (n > 0 && word[n - 1] == '-')
                act = ACT_FLUSH;
        if (act != ACT_USE)
                word[--n] = '\0';
        if (n < 2 || n >= sizeof(*names->names) || !strchr("osq", word[0]))
                return false;
        while (i < names->n && strcmp(names->names[i], word) != 0)
                i++;
        if (i == names->n) {
                names->names = grow(names->names, names->n, sizeof(*names->names));
                memcpy(names->names[names->n++], word, n + 1);
                trace_add_thing(trace, word[0] == 's' ? KIND_SESSION : KIND_OBJECT, word[0] != 'o');
        }
        trace_add_use(trace, (uint32_t)i, act);
        return true;
}

bool trace_read(const char *path, Trace *ret_trace) {
        FILE *file = fopen(path, "r");
        Trace trace = { 0 };
        Names names = { 0 };
        char line[256];
        bool good = file != NULL;

        while (good && fgets(line, sizeof(line), file)) {
                char *rest = NULL;

                line[strcspn(line, "#\n")] = '\0';
                for (char *word = strtok_r(line, " ", &rest); word && good; word = strtok_r(NULL, " ", &rest))
                        good = add_word(&trace, &names, word);
                trace.n_commands++;
        }
        if (!good || trace.n_uses == 0) {
                fprintf(stderr, "%s: cannot be read as a trace\n", path);
                good = false;
                trace_free(&trace);
        }
        if (file)
                fclose(file);
        free(names.names);
        *ret_trace = trace;
        return good;
}

typedef struct Client {
        const Trace *program;
        size_t at;      /* use that comes next */
        uint32_t first; /* thing of the crowd that stands for the first one of its program */
} Client;

static void begin_program(Trace *crowd, Client *client) {
        const Trace *program = client->program;

        client->first = (uint32_t)crowd->n_things;
        for (size_t i = 0; i < program->n_things; i++)
                trace_add_thing(crowd, program->things[i].kind, program->things[i].changes);
}

static void run_command(Trace *crowd, Client *client) {
        const Trace *program = client->program;
        uint32_t command = program->uses[client->at].command;

        for (; client->at < program->n_uses && program->uses[client->at].command == command; client->at++)
                trace_add_use(crowd, client->first + program->uses[client->at].thing, program->uses[client->at].act);
        crowd->n_commands++;
        if (client->at < program->n_uses)
                return;
        client->at = 0;
        begin_program(crowd, client);
}

Trace trace_crowd(const Trace programs[], unsigned n_programs, unsigned n_clients, uint64_t seed) {
        Trace crowd = { 0 };
        Random random = { seed };
        Client clients[CLIENTS_MAX];

        for (unsigned c = 0; c < n_clients; c++) {
                const Trace *program = &programs[c % n_programs];
                size_t at = random_below(&random, (unsigned)program->n_uses);

                while (at > 0 && program->uses[at].command == program->uses[at - 1].command)
                        at--;
                clients[c] = (Client){ .program = program, .at = at };
                begin_program(&crowd, &clients[c]);
        }
        while (crowd.n_commands < CROWD_COMMANDS)
                run_command(&crowd, &clients[crowd.n_commands % n_clients]);
        return crowd;
}
