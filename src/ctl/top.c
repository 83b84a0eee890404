/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

static int run(Ctl *ctl, int argc, char **argv) {
        int code;

        if (!ctl_parse(&verb_top, NULL, &argc, &argv, &code))
                return code;
        return CTL_FAILED;
}

const Verb verb_top = { "top", "", "", run };
