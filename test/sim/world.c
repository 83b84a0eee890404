/* SPDX-License-Identifier: BSD-2-Clause */
#include "world-private.h"

#include "chip.h"
#include "clock.h"
#include "reference.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define RESERVE_TURN_US 20000

World world;

#define HOUR_US 3600000000u
#define TICKS_MAX 200000 /* of one wait: what takes longer never ends */

void world_fail(const char *format, ...) {
        va_list arguments;

        if (world.outcome->failure[0])
                return;
        va_start(arguments, format);
        vsnprintf(world.outcome->failure, sizeof(world.outcome->failure), format, arguments);
        va_end(arguments);
        world.outcome->event = world.event;
}

bool world_failed(void) {
        return world.outcome->failure[0] != '\0';
}

void world_taint(unsigned client) {
        Transcript *transcript = &world.outcome->transcripts[client];

        if (transcript->n_valid > transcript->n_lines)
                transcript->n_valid = transcript->n_lines;
}

void world_taint_all(void) {
        for (unsigned i = 0; i < world.run->n_clients; i++) {
                world_taint(i);
                program_doubt(&world.clients[i].program);
        }
}

void world_digest(const void *bytes, size_t n) {
        world.outcome->digest = hash_bytes(world.outcome->digest, bytes, n);
}

static void note(unsigned client, ProgramLine line) {
        Transcript *transcript = &world.outcome->transcripts[client];

        if (world.verbose)
                printf("%5u  client %2u  %-24s %08x  %u bytes\n", world.event, client, line.what, line.exact, line.n);
        transcript->lines[transcript->n_lines++] = line;
        world.outcome->n_commands++;
        world_digest(&line.exact, sizeof(line.exact));
        world_digest(&line.n, sizeof(line.n));
}

static void ask(Client *client, Message command, bool raw) {
        bool asking = world.asking;

        client->command = command;
        client->raw = raw;
        client->garbled = false;
        client->busy = true;
        client->warning = 0;
        world_turns_submitted((unsigned)(client - world.clients));
        world.asking = true;
        if (!connection_submit(client->connection, client->command.bytes, client->command.n))
                world_fail("a command is not taken");
        world.asking = asking;
}

/* A session of another client; after a fault, more than one may believe that it is theirs. */
static TPM2_HANDLE foreign_session(unsigned client) {
        for (unsigned i = 0; i < world.run->n_clients; i++) {
                TPM2_HANDLE handle = program_session(&world.clients[i].program);

                if (i != client && handle && !program_has_session(&world.clients[client].program, handle))
                        return handle;
        }
        return 0x0200003E;
}

static Message next_command(Client *client, uint64_t seed) {
        return program_next(&client->program, seed, foreign_session((unsigned)(client - world.clients)));
}

static int ask_next(void *userdata) {
        Client *client = userdata;
        const Event *event = &world.run->events[client->steps[client->n_begun++]];

        ask(client, next_command(client, event->seed), false);
        return 0;
}

/*
 * Some clients have their next command there when they are answered; others think about it, mostly not for long. What
 * is answered while it is submitted waits, too, so that this does not nest.
 */
static void go_on(Client *client) {
        unsigned number = (unsigned)(client - world.clients), think_us;
        Random random = { world.run->seed + ((uint64_t)number << 32) + client->n_begun };

        if (client->n_begun == client->n_steps || world_failed())
                return;
        think_us = random_below(&random, random_below(&random, 8) ? 400 : 20000);
        if (number % 2 == 0 && !world.asking)
                ask_next(client);
        else
                clock_call_in(think_us, ask_next, client);
}

static bool is_busy(const Client *client) {
        return client->busy || client->n_begun < client->n_steps;
}

static void reply(void *userdata, const uint8_t *bytes, size_t n_bytes) {
        static const uint8_t lost[] = { 0x80, 1, 0, 0, 0, TPM_HEADER_SIZE, 0, 0x0B, 1, 1 };
        Client *client = userdata;
        unsigned number = (unsigned)(client - world.clients);
        ProgramLine line;

        client->busy = false;
        world.n_again = 0;
        if (client->raw)
                return;
        if (client->garbled) {
                client->garbled = false;
                client->program.haunted = true;
                bytes = lost;
                n_bytes = sizeof(lost);
        }
        line = program_answer(&client->program, bytes, n_bytes);
        if (client->warning && (line.exact & 0xFFFF) == client->warning)
                world_taint(number);
        client->warning = 0;
        note(number, line);
        if (client->program.contradiction[0])
                world_fail("client %u: %s", number, client->program.contradiction);
        go_on(client);
}

static void connect_client(unsigned i) {
        static const ConnectionOps ops = { .reply = reply };
        const Peer peer = { .uid = world.run->uids[i] };
        Client *client = &world.clients[i];

        client->busy = false;
        client->connection = connection_new(world.broker, &peer, 1, &ops, client, NULL);
        if (!client->connection)
                world_fail("client %u is not admitted", i);
}

/* Others may get their turn meanwhile. */
static void close_connection(Client *client) {
        Connection *connection = client->connection;

        client->connection = NULL;
        connection_close(connection);
}

/* One thing happens, if anything is to happen now. */
static bool tick(void) {
        if (world_failed() || (!clock_run_due() && !world_tpm_answer()))
                return false;
        world_check();
        return true;
}

static void wait_for(const Client *client) {
        for (unsigned n = 0; is_busy(client) && !world_failed(); n++)
                if (n > TICKS_MAX || (!tick() && !clock_run_next(HOUR_US)))
                        world_fail("a command is never answered");
}

static void settle_for_us(uint64_t us) {
        for (unsigned i = 0; i < world.run->n_clients; i++)
                wait_for(&world.clients[i]);
        for (unsigned n = 0; !world_failed() && (tick() || clock_run_next(us)); n++)
                if (n > TICKS_MAX)
                        world_fail("the broker never rests");
}

static void submit(Client *client, Message command, bool raw) {
        wait_for(client);
        if (world_failed())
                return;
        ask(client, command, raw);
        world_check();
}

static void step(Client *client, const Event *event) {
        if (world.run->crowd && is_busy(client)) {
                client->steps[client->n_steps++] = (uint16_t)world.event;
                return;
        }
        wait_for(client);
        if (!world_failed())
                submit(client, next_command(client, event->seed), false);
}

static void steal(Client *thief, Client *victim, uint64_t seed) {
        Random random = { seed };
        unsigned i = random_below(&random, PROGRAM_CONTEXTS);
        const ProgramContext *context = &victim->program.contexts[i];

        if (thief == victim || !context->used)
                return;
        wait_for(thief);
        wait_for(victim);
        world_taint((unsigned)(thief - world.clients));
        if (context->session)
                world_taint((unsigned)(victim - world.clients));
        thief->program.contexts[i] = *context;
        victim->program.contexts[i].of_session.uncertain = true;
        thief->program.contexts[i].of_session.uncertain = true;
}

static void unruly(Client *client, uint64_t seed) {
        static const TPM2_HANDLE hierarchies[] = { TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM };
        Random random = { seed };
        Message command;

        wait_for(client);
        switch (random_below(&random, 7)) {
        case 0:
                command = cmd_clear();
                break;
        case 1:
                command = cmd_hierarchy_control(hierarchies[random_below(&random, 2)], 0);
                break;
        case 2:
        case 3:
                command = cmd_hierarchy_control(hierarchies[random_below(&random, 2)], 1);
                break;
        case 4:
                command = cmd_startup(random_below(&random, 2) ? TPM2_SU_CLEAR : TPM2_SU_STATE);
                break;
        case 5:
                command = cmd_startup(random_below(&random, 2) ? TPM2_SU_CLEAR : TPM2_SU_STATE);
                tpm_put_u32(command.bytes + 6, TPM2_CC_Shutdown);
                break;
        default:
                command = cmd_clear();
                tpm_put_u32(command.bytes + 6, random_below(&random, 2) ? TPM2_CC_ChangeEPS : TPM2_CC_ChangePPS);
                tpm_put_u32(command.bytes + TPM_HEADER_SIZE, TPM2_RH_PLATFORM);
        }
        world_taint_all();
        submit(client, command, true);
        wait_for(client);
        world_taint_all();
}

static void happen(const Event *event) {
        static const char *const names[] = {
                NULL, "gone", NULL, "cancels", "fault", "reset", "neighbour", "steals", "unruly",
        };
        Client *client = &world.clients[event->client];

        for (unsigned i = 0; i < event->ticks && tick(); i++)
                continue;
        if (world.verbose && names[event->kind])
                printf("%5u  client %2u  %s %u\n", world.event, event->client, names[event->kind], event->number);
        switch (event->kind) {
        case EVENT_STEP:
                step(client, event);
                break;
        case EVENT_CLOSE:
                if (event->number)
                        wait_for(client);
                /* What it had out may have been executed, or not. */
                if (client->busy)
                        world_taint(event->client);
                world_turns_closed(event->client);
                close_connection(client);
                program_restart(&client->program);
                connect_client(event->client);
                break;
        case EVENT_IDLE:
                settle_for_us((uint64_t)event->number * 10000);
                world_check_idle();
                break;
        case EVENT_CANCEL:
                world_taint(event->client);
                connection_cancel(client->connection);
                break;
        case EVENT_FAULT:
                world_arm(event);
                break;
        case EVENT_RESET:
                world_reset(event->number);
                break;
        case EVENT_NEIGHBOUR:
                world_neighbour(event->seed);
                break;
        case EVENT_STEAL:
                steal(client, &world.clients[event->number % world.run->n_clients], event->seed);
                break;
        case EVENT_UNRULY:
                unruly(client, event->seed);
                break;
        }
        world_check();
}

static void started(void *userdata, TSS2_RC rc, const char *detail) {
        if (rc != TSS2_RC_SUCCESS)
                world_fail("the TPM does not start: %x", rc);
}

/* What others need, which rises and falls, of each kind by itself. */
static Reserve ask_reserve(void *userdata, gint64 now) {
        gint64 turn = now / RESERVE_TURN_US;

        return (Reserve){ turn % 3 ? world.run->reserve : 0, turn % 2 ? world.run->reserve : 0, "test" };
}

static bool begin(void) {
        const Run *run = world.run;
        const BrokerConfig config = {
                .limits = {
                        .spaces = 2 * run->n_clients + 2,
                        .objects = 4 * run->n_clients * run->objects_quota + 16,
                        .objects_per_space = run->objects_quota,
                        .sessions_per_space = run->sessions_quota,
                        .abandoned = RM_NONE,
                },
                .max_connections = 4 * run->n_clients + 8,
                .limits.reserve = run->reserve,
                .reserve.ask = ask_reserve,
                .idle_evict_ms = run->idle_evict_ms,
        };

        clock_reset();
        random_seed_tpm(run->seed);
        chip_start(false);
        world.loop = loop_new(NULL);
        world.pace = (Random){ run->seed };
        world_turns_begin();
        world_tpm_init();
        world.broker = world.loop ? broker_new(world.loop, &world.backend, &config, NULL) : NULL;
        if (!world.broker) {
                world_fail("there is no broker");
                return false;
        }
        world.rm = world.broker->runner.rm;
        broker_start(world.broker, started, NULL);
        settle_for_us(0);
        for (unsigned i = 0; i < run->n_clients; i++) {
                program_init(&world.clients[i].program, i, &run->limits[i]);
                connect_client(i);
        }
        return true;
}

/* Whatever happened behind the daemon's back, it will find out: the TPM is to be started and compared with the tables.
 */
static void start_again(void) {
        RmJob *job = rm_job_begin_chore(world.rm, RM_CHORE_START);
        RmOutput output;

        if (!job)
                world_fail("there is no job for a chore");
        else
                rm_job_cancel(world.rm, job, TPM2_RC_CANCELED, &output); /* the broker will begin it */
}

/* No more faults: the TPM is started, everything is answered, and all go home. */
static void finish(void) {
        memset(world.faults, 0, sizeof(world.faults));
        world_neighbour_leaves();
        settle_for_us(30000000);
        if (world.wild)
                start_again();
        for (unsigned i = 0; i < world.run->n_clients && !world_failed(); i++)
                close_connection(&world.clients[i]);
        settle_for_us(30000000);
        if (!world_failed())
                world_check_end();
}

void world_run(const Run *run, Outcome *outcome, bool verbose) {
        memset(&world, 0, sizeof(world));
        world.run = run;
        world.outcome = outcome;
        world.verbose = verbose;
        outcome->failure[0] = '\0';
        outcome->n_commands = outcome->n_transmits = outcome->n_passed = 0;
        outcome->digest = HASH_BEGIN;
        for (unsigned i = 0; i < run->n_clients; i++) {
                outcome->transcripts[i].n_lines = 0;
                outcome->transcripts[i].n_valid = EVENTS_MAX;
        }
        if (begin()) {
                for (world.event = 0; world.event < run->n_events && !world_failed(); world.event++)
                        happen(&run->events[world.event]);
                if (!world_failed())
                        finish();
                for (unsigned i = 0; i < run->n_clients; i++)
                        close_connection(&world.clients[i]);
                world.broker = broker_free(world.broker);
        }
        world.loop = loop_free(world.loop);
        chip_stop();
}

void world_run_alone(const Run *run, unsigned number, Outcome *outcome, bool verbose) {
        static Program program;
        const ReferenceLimits limits = {
                .objects = run->objects_quota,
                .sessions = run->sessions_quota,
                .roomless = run->lone,
        };
        Transcript *transcript = &outcome->transcripts[number];

        transcript->n_lines = 0;
        transcript->n_valid = EVENTS_MAX;
        program_init(&program, number, &run->limits[number]);
        reference_start(run->seed, &limits);
        for (unsigned i = 0; i < run->n_events && !program.contradiction[0]; i++) {
                const Event *event = &run->events[i];
                Message command, response;

                if (event->client != number)
                        continue;
                if (event->kind == EVENT_CLOSE) {
                        program_restart(&program);
                        reference_reconnect();
                } else if (event->kind == EVENT_STEP) {
                        ProgramLine line;

                        command = program_next(&program, event->seed, 0x0200003E);
                        response = reference_run(&command);
                        line = program_answer(&program, response.bytes, response.n);
                        transcript->lines[transcript->n_lines++] = line;
                        if (verbose)
                                printf("%5u  alone       %-24s %08x  %u bytes\n", i, line.what, line.exact, line.n);
                }
        }
        reference_stop();
        if (program.contradiction[0])
                snprintf(outcome->failure, sizeof(outcome->failure), "the reference itself, client %u: %.150s", number,
                         program.contradiction);
}
