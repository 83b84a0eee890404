/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/model.h"

#include "test/worlds/state.h"
#include "tpm/command.h"

/* The reference forgets what its client does not have any more. */
void model_forget(Thing *thing) {
        if (thing->used && thing->handles[SIDE_REFERENCE]) {
                Message flush = cmd_with_handle(TPM2_CC_FlushContext, thing->handles[SIDE_REFERENCE]);

                world_direct(SIDE_REFERENCE, &flush);
        }
        *thing = (Thing){ 0 };
}

void model_forget_saved(Saved *saved) {
        model_forget(&saved->of);
        saved->live = false;
}

void model_each(void (*function)(Thing *thing, bool object)) {
        for (unsigned c = 0; c < CLIENTS; c++) {
                Client *client = &world.model.clients[c];

                for (unsigned i = 0; i < OBJECTS; i++)
                        function(&client->objects[i], true);
                for (unsigned i = 0; i < SESSIONS; i++)
                        function(&client->sessions[i], false);
                function(&client->object.of, true);
                function(&client->session.of, false);
        }
}

static void doubt(Thing *thing, bool object) {
        thing->unsure = thing->used;
}

void model_doubt_object(Thing *thing, bool object) {
        thing->unsure |= thing->used && object;
}

/* What the reference lost by a Clear or a reset is gone for sure, unless the TPM that is shared did not do the same. */
static void settle_gone(Thing *thing, bool object) {
        static const TPM2_HT TYPES[] = { TPM2_HT_TRANSIENT, TPM2_HT_LOADED_SESSION, TPM2_HT_SAVED_SESSION };
        TPM2_HANDLE handles[16];

        if (!thing->used)
                return;
        for (unsigned t = 0; t < 3; t++)
                for (unsigned n = world_list(SIDE_REFERENCE, TYPES[t], handles, 16); n > 0; n--)
                        if ((handles[n - 1] ^ thing->handles[SIDE_REFERENCE]) << 8 == 0 &&
                            tpm_handle_is_transient(handles[n - 1]) == object)
                                return;
        if (thing->unsure)
                thing->handles[SIDE_REFERENCE] = 0;
        else
                *thing = (Thing){ 0 };
}

/* Contexts have no handle of their own to settle: loading them tells. */
void model_settle(void) {
        Saved saved[CLIENTS];

        for (unsigned c = 0; c < CLIENTS; c++)
                saved[c] = world.model.clients[c].object;
        model_each(settle_gone);
        for (unsigned c = 0; c < CLIENTS; c++)
                world.model.clients[c].object = saved[c];
}

void model_reset(void) {
        Message startup = cmd_startup(TPM2_SU_CLEAR);

        model_each(doubt);
        fake_tpm_reset(world.tpms[SIDE_REFERENCE]);
        world_direct(SIDE_REFERENCE, &startup);
        model_settle();
        world.model.down = true;
}

static bool is_saved(const Thing *session) {
        TPM2_HANDLE handles[16];

        for (unsigned n = world_list(SIDE_REAL, TPM2_HT_SAVED_SESSION, handles, 16); n > 0; n--)
                if ((handles[n - 1] ^ session->handles[SIDE_REAL]) << 8 == 0)
                        return true;
        return false;
}

static void doubt_loaded(Thing *thing, bool object) {
        bool in_client = thing == &world.model.clients[0].object.of || thing == &world.model.clients[1].object.of;

        if (thing->used && !in_client && !(object ? state_has_context(thing) : is_saved(thing)))
                thing->unsure = true;
}

void model_reopened(void) {
        model_each(doubt_loaded);
}

void model_flushed(void) {
        for (unsigned c = 0; c < CLIENTS; c++)
                if (world.model.clients[c].session.live)
                        world.model.clients[c].session.of.unsure = true;
}

static TPM2_HANDLE lost_handle;

static void doubt_session(Thing *thing, bool object) {
        if (!object && thing->used && (thing->handles[SIDE_REAL] ^ lost_handle) << 8 == 0)
                thing->unsure = true;
}

void model_lost(const uint8_t *bytes, size_t n_bytes) {
        TpmReader reader = TPM_READER(bytes, n_bytes);

        if (tpm_read_header(&reader).code == TPM2_CC_ContextLoad)
                tpm_read_u64(&reader); /* sequence; savedHandle follows */
        lost_handle = tpm_read_u32(&reader);
        if (tpm_handle_is_session(lost_handle))
                model_each(doubt_session);
}

void model_refused(const uint8_t *bytes, size_t n_bytes) {
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TPM2_CC code = tpm_read_header(&reader).code;
        Thing *thing = code == TPM2_CC_ContextSave || code == TPM2_CC_FlushContext ? state_probed(tpm_read_u32(&reader))
                                                                                   : NULL;

        if (!thing)
                return;
        thing->unsure = true;
        world.n_probes++;
}

static void forget_all(Client *client) {
        for (unsigned i = 0; i < OBJECTS; i++)
                model_forget(&client->objects[i]);
        for (unsigned i = 0; i < SESSIONS; i++)
                model_forget(&client->sessions[i]);
}

void model_left(Client *client) {
        forget_all(client);
        client->session.abandoned = client->session.live;
}

void model_purged(Client *client) {
        forget_all(client);
        if (client->session.live && !client->session.abandoned)
                model_forget_saved(&client->session);
}
