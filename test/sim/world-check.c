/* SPDX-License-Identifier: BSD-2-Clause */
#include "world-private.h"

#include "test/lib/invariants.h"

/* libtpms has three of each. */
#define SLOTS 3

static bool listed(const TPM2_HANDLE *handles, unsigned n, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < n; i++)
                if (handles[i] == handle)
                        return true;
        return false;
}

/* Whatever claims to be in the TPM is there. */
static void check_claims(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_TRANSIENT, handles, 64);

        for (uint32_t k = 0; k < world.rm->n_residents[RM_OBJECT]; k++) {
                const RmEntry *object = rm_entry(world.rm, world.rm->residents[RM_OBJECT][k]);

                if (object->residency == RM_RESIDENT && !object->probe && !listed(handles, n, object->handle))
                        world_fail("object %08x claims to be in the TPM, at %08x", object->vhandle, object->handle);
        }
        n = world_list(TPM2_HT_LOADED_SESSION, handles, 64);
        for (uint32_t i = 0; i < world.rm->n_sessions_used; i++) {
                const RmEntry *session = rm_entry(world.rm, i);

                /* Of one that is to be flushed it does not matter where it is. */
                if (rm_exists(session) && session->state != RM_DOOMED && session->residency == RM_RESIDENT &&
                    !listed(handles, n, session->handle))
                        world_fail("session %08x claims to be loaded", session->handle);
        }
}

void world_check(void) {
        const char *broken = rm_invariant_broken(world.rm);

        if (broken)
                world_fail("%s", broken);
        /* To ask the TPM would end the exclusivity of an audit session, which a lone client would notice. */
        if (!world.wild && !world.run->lone && !world.rm->due_start && !world.rm->due_reconcile)
                check_claims();
}

void world_check_border(const uint8_t *bytes, size_t n_bytes) {
        const Request *request = world.broker->runner.current;
        const char *broken = NULL;

        if (request && request->owner && request->own_out && request->owner->space != RM_NONE)
                broken = rm_border_broken(world.rm, request->owner->space, bytes, n_bytes);
        if (broken)
                world_fail("%s", broken);
}

/* Everything in the TPM is in the tables. */
static void check_known(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_TRANSIENT, handles, 64);

        for (unsigned i = 0; i < n; i++)
                if (rm_object_find_resident(world.rm, handles[i]) == RM_NONE)
                        world_fail("object %08x in the TPM is nobody's", handles[i]);
        for (TPM2_HT type = TPM2_HT_LOADED_SESSION; type <= TPM2_HT_SAVED_SESSION; type++) {
                n = world_list(type, handles, 64);
                for (unsigned i = 0; i < n; i++)
                        if (rm_session_find(world.rm, handles[i]) == RM_NONE)
                                world_fail("session %08x in the TPM is nobody's", handles[i]);
        }
}

void world_check_idle(void) {
        TPM2_HANDLE handles[64];
        unsigned limit = SLOTS - world.run->reserve;

        if (world.wild || world.run->lone || world.broker->runner.current || world.rm->due_start ||
            world.rm->due_reconcile)
                return;
        check_known();
        for (uint32_t k = 0; k < world.rm->n_residents[RM_OBJECT]; k++)
                limit += rm_entry(world.rm, world.rm->residents[RM_OBJECT][k])->unsaveable;
        for (uint32_t i = 0; i < world.rm->n_sessions_used; i++)
                limit += rm_entry(world.rm, i)->unsaveable;
        if (!world.misled && (world_list(TPM2_HT_TRANSIENT, handles, 64) > limit ||
                              world_list(TPM2_HT_LOADED_SESSION, handles, 64) > limit))
                world_fail("more is loaded than the reserve leaves");
        for (uint32_t k = 0; k < world.rm->n_residents[RM_OBJECT]; k++)
                if (rm_entry(world.rm, world.rm->residents[RM_OBJECT][k])->residency == RM_UNKNOWN)
                        world_fail("nothing is out, and where an object is is unknown");
}

void world_check_end(void) {
        TPM2_HANDLE handles[64];

        if (world_list(TPM2_HT_TRANSIENT, handles, 64) > 0)
                world_fail("object %08x is left in the TPM", handles[0]);
        if (world_list(TPM2_HT_LOADED_SESSION, handles, 64) > 0 &&
            (rm_session_find(world.rm, handles[0]) == RM_NONE ||
             rm_entry(world.rm, rm_session_find(world.rm, handles[0]))->state != RM_ABANDONED))
                world_fail("session %08x is left in the TPM", handles[0]);
        for (uint32_t i = rm_first(RM_OBJECT); i < rm_end(world.rm, RM_OBJECT); i++)
                if (rm_entry(world.rm, i)->state != RM_FREE)
                        world_fail("object %08x is left in the tables", rm_entry(world.rm, i)->vhandle);
        for (uint32_t i = 0; i < world.rm->n_sessions_used; i++) {
                RmState state = rm_entry(world.rm, i)->state;

                if (state != RM_FREE && state != RM_ABANDONED && state != RM_LEFT_OVER)
                        world_fail("session %08x is left in the tables, in state %u", rm_entry(world.rm, i)->handle,
                                   state);
        }
        if (!list_is_empty(&world.broker->connections.all) || !list_is_empty(&world.broker->runner.paused) ||
            !list_is_empty(&world.broker->runner.scheduler.waiting) || world.broker->runner.current)
                world_fail("the broker is not at rest");
}
