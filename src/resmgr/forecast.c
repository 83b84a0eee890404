/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/forecast.h"

#include "resmgr/residency.h"

static TpmCommand parse(const Rm *rm, const uint8_t *bytes, size_t n_bytes) {
        return tpm_command_parse((TpmCommandTable *)&rm->table, bytes, n_bytes);
}

static unsigned n_names(const TpmCommand *command) {
        return command->n_handles + command->n_auths;
}

/* The object or session of that space which a command names k-th, or RM_NONE. */
static uint32_t find_name(const Rm *rm, uint32_t space, const TpmCommand *command, unsigned k) {
        TPM2_HANDLE handle =
                k < command->n_handles ? command->handles[k] : command->auths[k - command->n_handles].session;

        if (k < command->n_handles && tpm_handle_is_transient(handle))
                return rm_space_find(rm, space, handle);
        return tpm_handle_is_session(handle) ? rm_session_find_usable(rm, space, handle) : RM_NONE;
}

/* How many have to leave before there is room for so many more. */
static unsigned count_evictions(const Rm *rm, RmKind kind, unsigned n_more) {
        unsigned n = 0;

        while (n < n_more && n < rm->n_residents[kind] && rm_slots_short(rm, kind, n_more - n))
                n++;
        return n;
}

RmNeed rm_need(const Rm *rm, uint32_t space, const uint8_t *bytes, size_t n_bytes) {
        TpmCommand command = parse(rm, bytes, n_bytes);
        unsigned n_loads[RM_KINDS] = { 0 }, n_made[RM_KINDS] = { 0 };
        RmNeed need = { .takes_long = command.known && command.info.takes_long };

        if (!command.known || !command.handles_whole || !command.auths_whole)
                return need;
        /* What we hold a context of is saved from the tables. */
        for (unsigned k = 0; command.info.kind != TPM_COMMAND_CONTEXT_SAVE && k < n_names(&command); k++) {
                uint32_t i = find_name(rm, space, &command, k);

                if (i != RM_NONE && rm_entry(rm, i)->residency == RM_ABSENT)
                        n_loads[rm_kind(i)]++;
        }
        n_made[RM_OBJECT] = rm_slots_needed(rm, &command);
        n_made[RM_SESSION] = command.info.kind == TPM_COMMAND_START_AUTH_SESSION;
        need.n_loads = n_loads[RM_OBJECT] + n_loads[RM_SESSION];
        need.n_flushes = count_evictions(rm, RM_OBJECT, n_loads[RM_OBJECT] + n_made[RM_OBJECT]);
        need.n_saves = count_evictions(rm, RM_SESSION, n_loads[RM_SESSION] + n_made[RM_SESSION]);
        return need;
}

static bool has(const uint32_t *spaces, unsigned n, uint32_t space) {
        while (n > 0 && spaces[n - 1] != space)
                n--;
        return n > 0;
}

unsigned rm_resident_spaces(const Rm *rm, uint32_t *ret_spaces, unsigned max) {
        unsigned n = 0;

        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t k = 0; k < rm->n_residents[kind] && n < max; k++) {
                        uint32_t space = rm_entry(rm, rm->residents[kind][k])->space;

                        if (space != RM_NONE && !has(ret_spaces, n, space))
                                ret_spaces[n++] = space;
                }
        return n;
}

static void expect_entry(Rm *rm, uint32_t i, uint64_t n_commands) {
        RmEntry *entry = rm_entry(rm, i);

        entry->expected = n_commands;
        entry->expected_at = rm->tick + 1;
}

/* Of what a space has in the TPM, that which was used last. */
static void expect_last(Rm *rm, uint32_t space, uint64_t n_commands) {
        for (RmKind kind = 0; kind < RM_KINDS; kind++) {
                uint32_t last = RM_NONE;

                for (uint32_t k = 0; k < rm->n_residents[kind]; k++) {
                        uint32_t i = rm->residents[kind][k];

                        if (rm_entry(rm, i)->space == space &&
                            (last == RM_NONE || rm_entry(rm, i)->use.last > rm_entry(rm, last)->use.last))
                                last = i;
                }
                if (last != RM_NONE)
                        expect_entry(rm, last, n_commands);
        }
}

void rm_expect(Rm *rm, uint32_t space, const uint8_t *bytes, size_t n_bytes, uint64_t n_commands) {
        TpmCommand command;

        if (!bytes) {
                expect_last(rm, space, n_commands);
                return;
        }
        command = parse(rm, bytes, n_bytes);
        for (unsigned k = 0; k < n_names(&command); k++) {
                uint32_t i = find_name(rm, space, &command, k);

                if (i != RM_NONE)
                        expect_entry(rm, i, n_commands);
        }
}

uint32_t rm_audit_space(const Rm *rm) {
        return rm->audited ? rm->audit_space : RM_NONE;
}
