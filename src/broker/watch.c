/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/watch.h"

void watch_tell_change(const Watch *watch) {
        if (watch->changed)
                watch->changed(watch->changed_userdata);
}

bool watch_wants_records(const Watch *watch) {
        return watch->record != NULL;
}

void watch_tell_record(const Watch *watch, const BrokerRecord *record) {
        watch->record(watch->record_userdata, record);
}
