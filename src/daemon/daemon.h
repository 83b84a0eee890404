/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "daemon/options.h"

/*
 * The daemon
 *
 * Puts the layers together, in this order: TPM, broker, socket, bus name. Whoever finds a door finds everything behind
 * it ready; or, with --wait, hears at once that there is no TPM yet.
 */

/* Serves until a signal ends it. Return: the exit status, of sysexits.h; what went wrong has been logged. */
int daemon_run(const Options *options);

#endif
