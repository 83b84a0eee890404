/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"
#include "tpm/context.h"

uint32_t rm_object_new(Rm *rm, uint32_t space) {
        uint32_t i = rm->free_object;

        if (i != RM_NONE)
                rm->free_object = rm_object(rm, i)->next;
        else if (rm->n_objects_used < rm->limits.objects)
                i = rm->n_objects_used++;
        else
                return RM_NONE;

        *rm_object(rm, i) = (RmObject){
                .space = space,
                .next = RM_NONE,
                .state = RM_OBJECT_PENDING,
                .residency = RM_ABSENT,
                .copy = RM_NO_COPY,
        };
        rm_space(rm, space)->n_objects++;
        rm->n_objects++;
        return i;
}

/* Take it from its client: out of its list, and no longer charged to it. */
static void disown(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        if (object->space == RM_NONE)
                return;
        if (object->state == RM_OBJECT_LIVE)
                rm_space_unlink(rm, i);
        rm_space(rm, object->space)->n_objects--;
        object->space = RM_NONE;
}

void rm_object_free(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        disown(rm, i);
        rm_object_set_absent(rm, i);
        rm_copy_free(rm, &object->copy);
        object->state = RM_OBJECT_FREE;
        rm->n_objects--;
        object->next = rm->free_object;
        rm->free_object = i;
}

void rm_object_doom(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        if (object->residency == RM_ABSENT) {
                rm_object_free(rm, i);
                return;
        }
        disown(rm, i);
        rm_copy_free(rm, &object->copy);
        object->clean = false;
        object->unsaveable = false; /* it is to be flushed now, not saved */
        object->state = RM_OBJECT_DOOMED;
}

bool rm_object_set_unknown(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        if (object->residency == RM_ABSENT) {
                if (rm->n_residents == RM_RESIDENTS_MAX)
                        return false;
                rm->residents[rm->n_residents++] = i;
        }
        object->residency = RM_UNKNOWN;
        return true;
}

bool rm_object_set_resident(Rm *rm, uint32_t i, TPM2_HANDLE phandle) {
        RmObject *object = rm_object(rm, i);

        if (!rm_object_set_unknown(rm, i))
                return false;
        object->residency = RM_RESIDENT;
        object->phandle = phandle;
        if (rm->object_slots != RM_SLOTS_UNKNOWN && rm->n_residents > rm->object_slots)
                rm->object_slots = rm->n_residents;
        return true;
}

void rm_object_set_absent(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        if (object->residency == RM_ABSENT)
                return;
        object->residency = RM_ABSENT;
        object->phandle = 0;
        object->probe = false;
        object->unsaveable = false;
        for (uint32_t k = 0; k < rm->n_residents; k++)
                if (rm->residents[k] == i) {
                        rm->residents[k] = rm->residents[--rm->n_residents];
                        break;
                }
}

void rm_object_settle(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        if (object->residency != RM_UNKNOWN)
                return;
        if (object->phandle)
                object->residency = RM_RESIDENT;
        else
                rm_object_set_absent(rm, i);
}

void rm_object_lost(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        if (object->state == RM_OBJECT_LIVE && object->clean)
                rm_object_set_absent(rm, i);
        else
                rm_object_free(rm, i);
}

void rm_object_forget_residents(Rm *rm) {
        while (rm->n_residents > 0)
                rm_object_lost(rm, rm->residents[rm->n_residents - 1]);
}

bool rm_object_keep_copy(Rm *rm, uint32_t i, const uint8_t *bytes, size_t n_bytes) {
        RmObject *object = rm_object(rm, i);
        TpmContext context;

        if (!tpm_context_parse(bytes, n_bytes, &context) || !rm_copy_store(rm, &object->copy, bytes, n_bytes))
                return false;
        object->hierarchy = context.hierarchy;
        object->sequence = context.saved_handle == TPM_CONTEXT_SEQUENCE;
        object->clean = true;
        return true;
}

uint32_t rm_object_find_resident(Rm *rm, TPM2_HANDLE phandle) {
        for (uint32_t k = 0; k < rm->n_residents; k++)
                if (rm_object(rm, rm->residents[k])->phandle == phandle)
                        return rm->residents[k];
        return RM_NONE;
}
