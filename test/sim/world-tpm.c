/* SPDX-License-Identifier: BSD-2-Clause */
#include "world-private.h"

#include "backend/backend-internal.h"
#include "chip.h"
#include "clock.h"
#include "test/lib/invariants.h"

#include <stdio.h>
#include <string.h>

/* The TPM of the simulation, and all that can befall it */

static void tpm_open(Backend *backend) {
        backend_opened(backend);
}

static void tpm_close(Backend *backend) {
        /* What was sent may yet be executed, after nobody waits for it any more. */
        if (world.pending && world.command.n & 1)
                world_direct(world.command);
        world.pending = world.silent = false;
}

static bool tpm_cancel(Backend *backend) {
        world.cancelled = world.command.n & 1;
        return true;
}

/* The time that a key takes is a matter of luck. */
static gint64 pace_us(const uint8_t *command, size_t n_command) {
        TpmReader reader = TPM_READER(command, n_command);
        FakePace pace = fake_pace_of(tpm_read_header(&reader).code, command, n_command);
        unsigned times = pace == FAKE_PACE_CREATE ? 1 + random_below(&world.pace, 3) : 1;

        return (gint64)world.run->pace_us[pace] * times;
}

static bool tpm_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality, GError **error) {
        world_check_border(command, n_command);
        /* In its contents a context has the time at which its session began, which is libtpms's own. */
        world_digest(command, MIN(n_command, TPM_HEADER_SIZE + 18));
        memcpy(world.command.bytes, command, n_command);
        world.command.n = n_command;
        world.pending = true;
        world.cancelled = false;
        world.sent = g_get_monotonic_time();
        world.answer_due = world.sent + pace_us(command, n_command);
        world.outcome->n_transmits++;
        return true;
}

void world_tpm_init(void) {
        static const BackendOps ops = {
                .open = tpm_open,
                .close = tpm_close,
                .transmit = tpm_transmit,
                .cancel = tpm_cancel,
        };

        world.backend = (Backend){ .ops = &ops, .loop = world.loop };
}

Message world_direct(Message command) {
        Message response;

        response.n = chip_run(command.bytes, command.n, response.bytes, sizeof(response.bytes));
        return response;
}

unsigned world_list(TPM2_HT type, TPM2_HANDLE *ret_handles, unsigned size) {
        Message answer = world_direct(cmd_get_capability(TPM2_CAP_HANDLES, (uint32_t)type << 24, size));

        return message_handles(&answer, ret_handles, size);
}

void world_arm(const Event *event) {
        Random random = { event->seed };

        for (unsigned i = 0; i < FAULTS_MAX; i++) {
                if (world.faults[i].armed)
                        continue;
                world.faults[i] = (Fault){
                        .armed = true,
                        .kind = event->number,
                        .after = random_below(&random, 8),
                        .count = 1 + (event->number == FAULT_AGAIN ? random_below(&random, 3) : 0),
                        .seed = random_next(&random),
                };
                return;
        }
}

static Fault *due_fault(void) {
        Fault *due = NULL;

        for (unsigned i = 0; i < FAULTS_MAX; i++) {
                Fault *fault = &world.faults[i];

                if (fault->armed && fault->after > 0)
                        fault->after--;
                else if (fault->armed && !due)
                        due = fault;
        }
        /* Whoever is put off for too long, in all, is told so. */
        if (due && due->kind == FAULT_AGAIN && ++world.n_again > 8)
                return NULL;
        if (due && --due->count == 0)
                due->armed = false;
        return due;
}

static Client *client_of_job(void) {
        const Request *request = world.broker->runner.current;

        return request && request->owner ? list_entry(request, Connection, request)->userdata : NULL;
}

static TPM2_CC code_out(void) {
        TpmReader reader = TPM_READER(world.command.bytes, world.command.n);

        return tpm_read_header(&reader).code;
}

/* The warnings of which a command may tell that it needs room. Return: 0: it never does. */
static TPM2_RC plausible(Random *random) {
        static const TPM2_RC session[] = { TPM2_RC_SESSION_MEMORY, TPM2_RC_CONTEXT_GAP, TPM2_RC_SESSION_HANDLES };
        static const TPM2_RC object[] = { TPM2_RC_OBJECT_MEMORY, TPM2_RC_MEMORY, TPM2_RC_OBJECT_HANDLES };
        TPM2_CC code = code_out();
        bool presents_session = world.command.n > 22 && world.command.bytes[TPM_HEADER_SIZE + 8] < 0x80;

        if (code == TPM2_CC_FlushContext || code == TPM2_CC_GetCapability || code == TPM2_CC_Startup)
                return 0;
        if (code == TPM2_CC_ContextSave)
                return world.command.bytes[TPM_HEADER_SIZE] < 0x80 ? TPM2_RC_CONTEXT_GAP : 0;
        if (code == TPM2_CC_ContextLoad && presents_session)
                return session[random_below(random, 2)];
        if (code == TPM2_CC_StartAuthSession)
                return session[random_below(random, 3)];
        return object[random_below(random, 3)];
}

static const TPM2_RC again[] = { TPM2_RC_RETRY, TPM2_RC_YIELDED, TPM2_RC_TESTING };

/* An answer of the right frame and the wrong contents. */
static void damage(Message *answer, Random *random) {
        if (random_below(random, 2) && answer->n > TPM_HEADER_SIZE)
                answer->n -= 1 + random_below(random, answer->n - TPM_HEADER_SIZE);
        else
                answer->bytes[answer->n++] = 0;
        tpm_put_u32(answer->bytes + 2, answer->n);
}

/* It is done, and nobody lies about it. */
static Message execute(void) {
        Message answer = world_direct(world.command);

        refusals_note_answer(&world.refusals, world.rm, world.command.bytes, world.command.n, &answer);
        return answer;
}

/* Nothing is done, and this is the answer. */
static Message lie(TPM2_RC rc) {
        Message answer = cmd_simple(rc);

        refusals_note_lie(&world.refusals, world.command.bytes, world.command.n, &answer);
        return answer;
}

/* Return: false when no answer comes of it. */
static bool make_answer(const Fault *fault, Message *answer) {
        Random random = { fault->seed };
        Client *client = client_of_job();
        TPM2_RC rc;

        world.misled |= fault->kind == FAULT_MEMORY || fault->kind == FAULT_WARNING;
        switch (fault->kind) {
        case FAULT_AGAIN:
                *answer = cmd_simple(again[random_below(&random, 3)]);
                return true;
        case FAULT_MEMORY:
                rc = plausible(&random);
                *answer = rc ? lie(rc) : execute();
                if (rc && client)
                        client->warning = rc;
                /* To make room, it is somebody's saved session that goes. */
                if (rc == TPM2_RC_SESSION_HANDLES || rc == TPM2_RC_CONTEXT_GAP)
                        world_taint_all();
                return true;
        case FAULT_MALFORMED:
                world_taint_all();
                *answer = world_direct(world.command);
                damage(answer, &random);
                refusals_note_lie(&world.refusals, world.command.bytes, world.command.n, answer);
                /* What is not for the resource manager to understand it hands on as it is. */
                if (client && world.broker->runner.current->own_out)
                        client->garbled = true;
                return true;
        case FAULT_WARNING:
                world_taint_all();
                /* REFERENCE_H0 to S6 say what is or is not there, and are believed. */
                rc = TPM2_RC_WARN + random_below(&random, 0x14);
                *answer = lie(rc < TPM2_RC_REFERENCE_H0 ? rc : rc + 0x10);
                return true;
        case FAULT_LOST:
                world_taint_all();
                if (random_below(&random, 2))
                        world_direct(world.command);
                if (random_below(&random, 3) == 0)
                        world_reset(false);
                world.pending = false;
                backend_lose(&world.backend, "the run says so");
                return false;
        case FAULT_LATE:
                world_taint_all();
                world.silent = true;
                return false;
        default:
                return false;
        }
}

bool world_tpm_answer(void) {
        const Fault *fault;
        uint64_t left_us;
        Message answer;

        if (!world.pending || world.silent)
                return false;
        left_us = (uint64_t)(world.answer_due - g_get_monotonic_time());
        if (clock_run_next(left_us))
                return true;
        clock_advance_us(left_us);
        world_turns_took((uint64_t)(world.answer_due - world.sent));
        fault = due_fault();
        if (fault)
                world_turns_anew();
        if (world.cancelled)
                answer = cmd_simple(TPM2_RC_CANCELED);
        else if (!fault)
                answer = execute();
        else if (!make_answer(fault, &answer))
                return true;
        world.pending = false;
        if (world.verbose)
                printf("%5u      TPM %03x -> %x%s\n", world.event, code_out(), message_rc(&answer),
                       fault ? ", made up" : "");
        backend_answered(&world.backend, answer.bytes, answer.n);
        return true;
}

/* From here on anything may vanish at any time. */
static void go_wild(void) {
        world_taint_all();
        world.wild = true;
        for (unsigned i = 0; i < world.run->n_clients; i++)
                world.clients[i].program.wild = true;
}

void world_reset(bool startup) {
        go_wild();
        world.n_guests = world.refusals.n = 0;
        chip_reset();
        if (startup)
                world_direct(cmd_startup(TPM2_SU_CLEAR));
}

static void flush(TPM2_HANDLE handle) {
        const Message command = cmd_with_handle(TPM2_CC_FlushContext, handle);
        const Message answer = world_direct(command);

        refusals_note_answer(&world.refusals, world.rm, command.bytes, command.n, &answer);
}

/* Handles that it was given, as long as they are not believed to be somebody else's: what follows from that nobody can
 * know. */
static void welcome(Message answer) {
        TPM2_HANDLE handle;

        if (message_rc(&answer) != TPM2_RC_SUCCESS)
                return;
        handle = message_handle(&answer);
        if (rm_has_handle(world.rm, handle))
                flush(handle);
        else
                world.guests[world.n_guests++] = handle;
}

void world_neighbour_leaves(void) {
        while (world.n_guests > 0)
                flush(world.guests[--world.n_guests]);
}

void world_neighbour(uint64_t seed) {
        static const TPM2_HT types[] = { TPM2_HT_TRANSIENT, TPM2_HT_LOADED_SESSION, TPM2_HT_SAVED_SESSION };
        Random random = { seed };
        unsigned how = random_below(&random, 6);
        TPM2_HANDLE handles[64];
        unsigned n;

        go_wild();
        world.visited = true;
        if (how < 3) {
                n = world_list(types[how], handles, 64);
                if (n > 0)
                        flush(handles[random_below(&random, n)]);
        } else if (how == 3 && world.n_guests == 0) {
                welcome(world_direct(cmd_create_primary(TPM2_RH_NULL, 0xFE)));
        } else if (how == 4 && world.n_guests == 0) {
                welcome(world_direct(cmd_start_session(TPM2_SE_HMAC)));
        } else {
                world_neighbour_leaves();
        }
}
