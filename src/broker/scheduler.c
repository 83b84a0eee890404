/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/scheduler.h"

void scheduler_init(Scheduler *scheduler) {
        list_init(&scheduler->waiting);
}

void scheduler_add(Scheduler *scheduler, Request *request) {
        request_set_state(request, REQUEST_WAITING);
        list_append(&scheduler->waiting, &request->link);
}

void scheduler_add_first(Scheduler *scheduler, Request *request) {
        request_set_state(request, REQUEST_WAITING);
        list_prepend(&scheduler->waiting, &request->link);
}

Request *scheduler_peek(const Scheduler *scheduler) {
        struct list *first = list_first(&scheduler->waiting);

        return first ? list_entry(first, Request, link) : NULL;
}

void scheduler_remove(Request *request) {
        list_unlink(&request->link);
}
