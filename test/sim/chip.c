/* SPDX-License-Identifier: BSD-2-Clause */
#include "chip.h"

#include "test/lib/fake-chips.h"
#include "test/lib/inprocess.h"

#include <stdlib.h>

static bool is_fake;
static FakeTpmConfig config;
static FakeTpm *fake;

bool chip_choose(const char *name) {
        is_fake = fake_chip(name, 0, &config);
        return is_fake;
}

bool chip_is_fake(void) {
        return is_fake;
}

unsigned chip_slots(void) {
        return is_fake ? config.object_slots : 3; /* as libtpms has them */
}

void chip_start(bool reference) {
        FakeTpmConfig with = config;

        if (!is_fake) {
                inprocess_start();
                return;
        }
        if (reference)
                with.gap = 0xFFFF;
        fake = fake_tpm_new(&with);
        if (!fake)
                abort();
}

void chip_stop(void) {
        if (is_fake)
                fake = fake_tpm_free(fake);
        else
                inprocess_stop();
}

void chip_reset(void) {
        if (is_fake)
                fake_tpm_reset(fake);
        else
                inprocess_reset();
}

size_t chip_run(const uint8_t *command, size_t n_command, uint8_t *response, size_t size) {
        return is_fake ? fake_tpm_run(fake, command, n_command, response, size)
                       : inprocess_run(command, n_command, response, size);
}
