/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_BACKEND_SWTPM_H
#define BACKEND_BACKEND_SWTPM_H

#include "backend/backend.h"

/* The simulator swtpm, over its sockets */
bool backend_swtpm_speaks(const char *conf); /* "swtpm" with no other keys than host=, port= and path= */
Backend *backend_swtpm_new(const char *conf, GError **error);

#endif
