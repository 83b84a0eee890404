/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/fake-chips.h"

#include <string.h>

typedef struct Chip {
        unsigned slots; /* of objects, and as many of loaded sessions */
        unsigned gap;
        unsigned message; /* largest command and response */
        unsigned object_context, session_context;
        unsigned ms[FAKE_PACES]; /* cheap, move an object, a session, start, load, use, create: of ECC keys */
} Chip;

const char *const FAKE_CHIPS[] = {
        "slb9670", "slb9672", "slb9673-i2c", "st33tphf", "npct65x", "npct75x", "firmware", "qvault-pqc",
};
const unsigned N_FAKE_CHIPS = sizeof(FAKE_CHIPS) / sizeof(FAKE_CHIPS[0]);

static const Chip CHIPS[] = {
        { 3, 0xFFFF, 1280, 952, 235, { 8, 22, 12, 10, 60, 69, 231 } },
        { 3, 0xFFFF, 2048, 1800, 328, { 8, 40, 15, 10, 50, 36, 136 } },
        { 3, 0xFFFF, 2048, 1800, 328, { 60, 500, 150, 80, 500, 72, 311 } },
        { 3, 0xFFFF, 2048, 1800, 328, { 9, 50, 17, 10, 800, 42, 220 } },
        { 3, 0xFFFF, 2048, 914, 233, { 13, 29, 17, 14, 80, 190, 148 } },
        { 5, 0xFF, 2048, 1812, 328, { 7, 33, 13, 8, 50, 56, 84 } },
        { 3, 0xFFFF, 3968, 2000, 400, { 1, 3, 1, 1, 5, 8, 30 } },
        { 3, 0xFFFF, 8192, 6000, 328, { 14, 90, 25, 15, 200, 73, 293 } },
};

bool fake_chip(const char *name, unsigned percent, FakeTpmConfig *ret_config) {
        for (unsigned i = 0; i < N_FAKE_CHIPS; i++) {
                const Chip *chip = &CHIPS[i];

                if (strcmp(name, FAKE_CHIPS[i]) != 0)
                        continue;
                *ret_config = FAKE_TPM_CONFIG;
                ret_config->object_slots = ret_config->session_slots = chip->slots;
                ret_config->gap = chip->gap;
                ret_config->max_command_size = ret_config->max_response_size = chip->message;
                ret_config->max_object_context = ret_config->object_context = chip->object_context;
                ret_config->session_context = chip->session_context;
                for (unsigned k = 0; k < FAKE_PACES; k++)
                        ret_config->pace_us[k] = chip->ms[k] * 10 * percent;
                return true;
        }
        return false;
}
