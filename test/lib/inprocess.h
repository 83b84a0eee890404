/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_INPROCESS_H
#define TEST_INPROCESS_H

#include <stddef.h>
#include <stdint.h>

/*
 * A TPM in the test's own process (libtpms): some ten microseconds a command, nothing on disk, fresh at every start.
 * One at a time, since libtpms is a global.
 */
void inprocess_start(void); /* power on; no Startup */
void inprocess_stop(void);
void inprocess_reset(void); /* power off and on again, the NV memory stays */

/* Return: size of the response. The command is copied first: libtpms decrypts in the buffer it is given. */
size_t inprocess_run(const uint8_t *command, size_t n_command, uint8_t *response, size_t size);

/* Commands run since the start. */
unsigned inprocess_count(void);
void inprocess_reset_count(void);

#endif
