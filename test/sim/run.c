/* SPDX-License-Identifier: BSD-2-Clause */
#include "run.h"

#include "world-private.h"

#include "test/lib/fake-chips.h"

#include <stdio.h>
#include <string.h>

/* Of 64 sessions, at least so many stay free: what the TPM lacks, a client alone would not. */
#define SESSIONS_ALL 48

/* What a run with faults is about: some are without a trace, others change what everybody hears. */
typedef enum Temper {
        TEMPER_GENTLE, /* whatever happens, everybody hears what it would hear alone */
        TEMPER_MOODY,  /* ... but for those it happens to */
        /*
         * Either answers are lost, or things vanish behind everybody's back. Where a new object gets the handle of one
         * that somebody flushed, and its answer is lost, nobody can know that it is not the old one.
         */
        TEMPER_DEAF,
        TEMPER_SHARED,
        TEMPERS,
} Temper;

static Event make_fault(Random *random, Temper temper, unsigned n_clients) {
        Event event = {
                .kind = EVENT_FAULT,
                .client = random_below(random, n_clients),
                .ticks = random_below(random, 4),
                .seed = random_next(random),
        };

        switch (random_below(random, temper == TEMPER_GENTLE ? 4 : temper == TEMPER_MOODY ? 8 : 16)) {
        case 0:
        case 1:
        case 2:
                event.number = FAULT_AGAIN;
                break;
        case 3:
        case 4:
                event.number = FAULT_MEMORY;
                break;
        case 5:
                event.kind = EVENT_CANCEL;
                break;
        case 6:
        case 7:
                event.kind = EVENT_STEAL;
                event.number = random_below(random, n_clients);
                break;
        case 8:
                event.kind = EVENT_RESET;
                event.number = temper == TEMPER_SHARED && random_below(random, 2);
                break;
        case 9:
                event.kind = EVENT_UNRULY;
                break;
        case 10:
                event.number = FAULT_WARNING;
                break;
        default:
                if (temper == TEMPER_SHARED)
                        event.kind = EVENT_NEIGHBOUR;
                else
                        event.number = FAULT_MALFORMED + random_below(random, FAULT_KINDS - FAULT_MALFORMED);
        }
        return event;
}

static Event make_event(const Run *run, Random *random) {
        Event event = {
                .kind = EVENT_STEP,
                .client = random_below(random, run->n_clients),
                .ticks = random_below(random, 2) * random_below(random, 8),
                .seed = random_next(random),
        };
        unsigned how = random_below(random, 50);

        if (how == 0 && run->n_clients > 1 && !run->crowd) {
                event.kind = EVENT_CLOSE;
                event.number = random_below(random, 3) > 0;
        } else if (how == 1) {
                event.kind = EVENT_IDLE;
                event.number = random_below(random, 100);
        }
        return event;
}

static void make_client(Run *run, unsigned i, unsigned n_users, Random *random) {
        unsigned share = SESSIONS_ALL / run->n_clients;

        run->limits[i] = (ProgramLimits){
                .sessions = share > 1 ? 1 + random_below(random, share) : 1,
                .objects = run->objects_quota,
                .quota = run->sessions_quota,
                .nv = i < 3,
        };
        if (run->limits[i].sessions > run->sessions_quota)
                run->limits[i].sessions = run->sessions_quota;
        /* Who shares a uid shares what clients that are gone have saved; of a crowd, nobody goes. */
        run->uids[i] = UID_FIRST + (i < n_users ? i : n_users - 1);
}

/*
 * Half of the runs are as fast as can be, so that most happens within limits of time, and half as slow as a chip. In
 * half of either, more is asked than the TPM can do, by users with one connection, and one user with all the others.
 * Return: how many users.
 */
static unsigned make_load(Run *run) {
        Random random = { ~run->seed };
        const char *name = FAKE_CHIPS[random_below(&random, N_FAKE_CHIPS)];
        FakeTpmConfig chip;

        for (unsigned i = 0; i < FAKE_PACES; i++)
                run->pace_us[i] = 30;
        if (run->lone)
                return 1;
        if (random_below(&random, 2) && fake_chip(name, 100, &chip))
                memcpy(run->pace_us, chip.pace_us, sizeof(run->pace_us));
        run->crowd = random_below(&random, 2);
        return run->crowd ? 1 + random_below(&random, 4) : run->n_clients;
}

void run_make(Run *run, uint64_t seed, bool faults) {
        Random random = { seed };
        Temper temper = random_below(&random, TEMPERS);
        unsigned often = 8 + random_below(&random, 40);
        unsigned n_users;

        memset(run, 0, offsetof(Run, events));
        run->seed = seed;
        run->faults = faults;
        run->lone = !faults && seed % 8 == 0;
        run->n_clients = run->lone ? 1 : 2 + random_below(&random, 29);
        n_users = make_load(run);
        run->reserve = run->lone ? 0 : random_below(&random, 3);
        run->idle_evict_ms = random_below(&random, 2) * 50;
        run->objects_quota = run->lone ? PROGRAM_OBJECTS : 3 + random_below(&random, 8);
        run->sessions_quota = run->lone ? PROGRAM_SESSIONS : 2 + random_below(&random, 5);
        for (unsigned i = 0; i < run->n_clients; i++)
                make_client(run, i, n_users, &random);
        if (run->lone)
                run->limits[0].objects = 2, run->limits[0].sessions = 3, run->limits[0].fits = true;
        run->n_events = run->n_clients * (5 + random_below(&random, 36)) + (run->lone ? 200 : 0);
        for (unsigned i = 0; i < run->n_events; i++)
                run->events[i] = faults && random_below(&random, often) == 0
                                         ? make_fault(&random, temper, run->n_clients)
                                         : make_event(run, &random);
}

static bool lines_equal(const Run *run, const ProgramLine *a, const ProgramLine *b) {
        return a->rc == b->rc && a->n == b->n && a->hash == b->hash && (!run->lone || a->whole == b->whole);
}

static void compare(const Run *run, unsigned client, const Transcript *shared, const Transcript *alone,
                    Outcome *outcome) {
        unsigned n = shared->n_lines < shared->n_valid ? shared->n_lines : shared->n_valid;

        for (unsigned i = 0; i < n; i++) {
                const ProgramLine *a = &shared->lines[i];
                const ProgramLine *b = &alone->lines[i];

                if (i < alone->n_lines && lines_equal(run, a, b))
                        continue;
                snprintf(outcome->failure, sizeof(outcome->failure),
                         "client %u, command %u, %s: %08x in %u bytes, alone %08x in %u bytes%s", client, i, a->what,
                         a->exact, a->n, b->exact, b->n, a->hash == b->hash ? "" : ", and other contents");
                return;
        }
}

bool run_try(const Run *run, Outcome *outcome, bool verbose) {
        static Outcome alone;

        world_run(run, outcome, verbose);
        for (unsigned i = 0; i < run->n_clients && !outcome->failure[0]; i++) {
                if (outcome->transcripts[i].n_valid == 0)
                        continue;
                alone.failure[0] = '\0';
                world_run_alone(run, i, &alone, verbose);
                memcpy(outcome->failure, alone.failure, sizeof(alone.failure));
                if (!outcome->failure[0])
                        compare(run, i, &outcome->transcripts[i], &alone.transcripts[i], outcome);
        }
        return !outcome->failure[0];
}

bool run_again(const Run *run, Outcome *outcome) {
        static Outcome again;

        world_run(run, &again, false);
        if (again.digest == outcome->digest)
                return true;
        snprintf(outcome->failure, sizeof(outcome->failure), "it does not happen the same way again");
        return false;
}

static void without(const Run *run, unsigned from, unsigned n, Run *ret_run) {
        *ret_run = *run;
        ret_run->n_events = run->n_events - n;
        memmove(ret_run->events + from, ret_run->events + from + n, (run->n_events - from - n) * sizeof(Event));
}

void run_shrink(Run *run, Outcome *outcome) {
        static Outcome tried;
        static Run smaller;
        bool again = true;

        while (again) {
                again = false;
                for (unsigned n = run->n_events / 2; n > 0; n /= 2)
                        for (unsigned at = 0; at + n <= run->n_events;) {
                                without(run, at, n, &smaller);
                                if (run_try(&smaller, &tried, false)) {
                                        at += n;
                                        continue;
                                }
                                *run = smaller;
                                *outcome = tried;
                                again = true;
                        }
        }
}
