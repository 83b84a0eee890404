/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/explore.h"

#include "test/worlds/act.h"
#include "test/worlds/set.h"
#include "test/worlds/state.h"

#include <stdlib.h>
#include <string.h>

/* How a state was reached. The states of one depth follow those of the depth before. */
typedef struct Node {
        uint32_t parent;
        Step step;
        bool faulted; /* the fault of the path has happened */
} Node;

typedef struct Explorer {
        Faults faults;
        Figures *figures;
        Set plain, faulted; /* states without a fault on the way, and with one */
        Node *nodes;
        size_t n_nodes, nodes_size;
        uint8_t *states[DEPTH_MAX + 1]; /* along the path to the state that is continued */
        Path path;                      /* that states[] is of */
        bool broken;                    /* memory ran out */
        bool verify;
        uint8_t *scratch; /* the state that is verified */
} Explorer;

static bool add_node(Explorer *explorer, Node node) {
        if (explorer->n_nodes == explorer->nodes_size) {
                size_t size = explorer->nodes_size ? 2 * explorer->nodes_size : 1 << 12;
                Node *nodes = realloc(explorer->nodes, size * sizeof(Node));

                if (!nodes)
                        return false;
                explorer->nodes = nodes;
                explorer->nodes_size = size;
        }
        explorer->nodes[explorer->n_nodes++] = node;
        return true;
}

/*
 * What each act leads to from here, whichever client's it is. States of one hash must have one future; else the hash
 * leaves out what decides it.
 */
static uint64_t future_of(Explorer *explorer) {
        uint64_t future = 0;

        state_save(explorer->scratch);
        for (unsigned act = 0; act < act_count(); act++) {
                Step step = { .act = act };

                if (act_run(step))
                        future += (state_hash() + world.n_sent) * (2 * act_kind(act) + 1) ^ act_kind(act);
                state_restore(explorer->scratch);
                world.failure[0] = '\0'; /* comes up when the act is run in its turn */
        }
        return future;
}

/* A state that was just reached. What follows it without a fault is the same whether there was one before. */
static void reach(Explorer *explorer, uint32_t parent, Step step, bool faulted, bool last) {
        uint64_t hash = state_hash() | 1;
        uint64_t future = explorer->verify ? future_of(explorer) : 0;
        const Set *set = set_has(&explorer->plain, hash)                ? &explorer->plain
                         : faulted && set_has(&explorer->faulted, hash) ? &explorer->faulted
                                                                        : NULL;

        if (set && explorer->verify && set_value(set, hash) != future)
                world_fail("states of one hash have two futures");
        if (set)
                return;
        explorer->figures->n_states++;
        if (!set_add(faulted ? &explorer->faulted : &explorer->plain, hash, future) ||
            (!last && !add_node(explorer, (Node){ parent, step, faulted })))
                explorer->broken = true;
}

static bool is_same(Step a, Step b) {
        return a.act == b.act && a.fault == b.fault && a.at == b.at;
}

static Path path_to(const Explorer *explorer, uint32_t node, unsigned depth) {
        Path path = { .n = depth };

        for (unsigned i = depth; i > 0; i--) {
                path.steps[i - 1] = explorer->nodes[node].step;
                node = explorer->nodes[node].parent;
        }
        return path;
}

/* Go to the state of a node; what it has in common with the one before is not run again. */
static void go_to(Explorer *explorer, uint32_t node, unsigned depth) {
        Path path = path_to(explorer, node, depth);
        unsigned n = 0;

        while (n < depth && n < explorer->path.n && is_same(path.steps[n], explorer->path.steps[n]))
                n++;
        state_restore(explorer->states[n]);
        for (; n < depth; n++) {
                act_run(path.steps[n]);
                state_save(explorer->states[n + 1]);
        }
        explorer->path = path;
}

static bool belongs(Faults faults, const Fault *fault) {
        bool lost = fault->kind == FAULT_LOST_BEFORE || fault->kind == FAULT_LOST_AFTER;

        return fault->kind != FAULT_NONE && lost == (faults == FAULTS_LOST);
}

/* No TPM warns of a gap before a session was saved. */
static bool makes_sense(const Fault *fault) {
        RmReport report;
        unsigned n_sessions = 0;

        rm_report(world.rm, &report);
        for (RmState kind = 0; kind < RM_STATES; kind++)
                n_sessions += report.n_sessions[kind];
        return fault->rc != TPM2_RC_CONTEXT_GAP || n_sessions > report.n_sessions_loaded;
}

/* Each fault at the TPM command of that number. */
static void strike(Explorer *explorer, uint32_t node, Step step, unsigned depth, bool last) {
        for (step.fault = 1; step.fault < N_FAULTS && !world_failed(); step.fault++) {
                if (!belongs(explorer->faults, &FAULTS[step.fault]))
                        continue;
                state_restore(explorer->states[depth]);
                if (!makes_sense(&FAULTS[step.fault]))
                        continue;
                act_run(step);
                explorer->path.steps[depth] = step;
                if (!world.struck)
                        continue;
                explorer->figures->n_steps++;
                explorer->figures->n_faults++;
                if (!world_failed())
                        reach(explorer, node, step, true, last);
        }
}

/* All that may follow the state that the world is in. */
static void continue_from(Explorer *explorer, uint32_t node, unsigned depth, bool last) {
        bool faulted = explorer->nodes[node].faulted;

        for (unsigned act = 0; act < act_count() && !world_failed(); act++) {
                Step step = { .act = act };
                unsigned n_sent;

                if (act > 0)
                        state_restore(explorer->states[depth]);
                explorer->path.steps[depth] = step;
                if (!act_run(step))
                        continue;
                explorer->figures->n_steps++;
                n_sent = world.n_sent;
                if (!world_failed())
                        reach(explorer, node, step, faulted, last);
                for (step.at = 0; explorer->faults && !faulted && step.at < n_sent && !world_failed(); step.at++)
                        strike(explorer, node, step, depth, last);
        }
}

static bool begin(Explorer *explorer, unsigned depth) {
        for (unsigned i = 0; i <= depth; i++) {
                explorer->states[i] = malloc(state_size());
                if (!explorer->states[i])
                        return false;
        }
        explorer->scratch = malloc(state_size());
        if (!explorer->scratch)
                return false;
        state_save(explorer->states[0]);
        explorer->figures->n_states = 1;
        return set_add(&explorer->plain, state_hash() | 1, explorer->verify ? future_of(explorer) : 0) &&
               add_node(explorer, (Node){ 0 });
}

static void end(Explorer *explorer) {
        for (unsigned i = 0; i <= DEPTH_MAX; i++)
                free(explorer->states[i]);
        set_free(&explorer->plain);
        set_free(&explorer->faulted);
        free(explorer->scratch);
        free(explorer->nodes);
}

bool explore(unsigned depth, Faults faults, bool verify, Figures *ret_figures, Path *ret_path) {
        Explorer explorer = {
                .faults = faults,
                .figures = ret_figures,
                .verify = verify,
                .plain.has_values = verify,
                .faulted.has_values = verify,
        };
        size_t node = 0;

        *ret_figures = (Figures){ 0 };
        explorer.broken = !begin(&explorer, depth);
        for (unsigned at = 0; at < depth && !explorer.broken && !world_failed(); at++)
                for (size_t end_of_depth = explorer.n_nodes; node < end_of_depth && !explorer.broken && !world_failed();
                     node++) {
                        go_to(&explorer, node, at);
                        explorer.path.n = at;
                        continue_from(&explorer, node, at, at + 1 == depth);
                }
        if (explorer.broken)
                world_fail("memory runs out");
        *ret_path = explorer.path;
        ret_path->n++;
        end(&explorer);
        return !world_failed();
}

bool explore_replay(const Path *path) {
        for (unsigned i = 0; i < path->n && !world_failed(); i++)
                if (!act_run(path->steps[i]))
                        return false;
        return !world_failed();
}
