/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/transition.h"

#include "util/log.h"

#include <stdlib.h>

static unsigned n_forbidden;

void transition_check(const char *machine, const uint8_t (*pairs)[2], size_t n_pairs, unsigned from, unsigned to) {
        for (size_t i = 0; i < n_pairs; i++)
                if (pairs[i][0] == from && pairs[i][1] == to)
                        return;

        if (n_forbidden++ == 0)
                log_error("fault in the daemon: %s goes from state %u to state %u; please report it", machine, from,
                          to);
#ifdef TABRMD_STRICT
        abort();
#endif
}

unsigned transition_n_forbidden(void) {
        return n_forbidden;
}
