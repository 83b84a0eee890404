/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_TEST_TCTI_DAEMON_H
#define TCTI_TEST_TCTI_DAEMON_H

/* A daemon that says what the test wants, in the test's own process, and a client of it by the built library. */
#include "tcti/tss2/tss2-tcti-tabrmd.h"
#include "tpm/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>
#include <tss2/tss2_tpm2_types.h>

#include <cmocka.h>

extern struct sockaddr_un address;
extern char conf[160];
extern int listener;
extern int daemon_fd; /* the daemon's end of the connection; -1: none */
extern TSS2_TCTI_CONTEXT *tcti;
extern size_t context_size;

extern const uint8_t COMMAND[12];
extern const uint8_t RESPONSE[14];
extern const uint8_t HELLO[14];
extern const uint8_t GREETING[14];

unsigned count_fds(void);

int group_setup(void **state);
int group_teardown(void **state);
int listen_up(void **state);
int setup_new(void **state); /* a context that is connected, and has said nothing yet */
int setup(void **state);     /* ... and has had its first answer, and hello's */
int teardown(void **state);

void take_client(void);
void say(const void *bytes, size_t n);
void expect_from_client(const void *bytes, size_t n);
void answer_first(void); /* the daemon is asked by a new client, and answers */
void transmit(void);
TSS2_RC receive(size_t *size, uint8_t *response, int32_t timeout);
void assert_whole_receive(void);

/* Receives what must be a header alone. Return: its code; UINT32_MAX: it is not so. May be used in a child. */
uint32_t receive_code(int32_t timeout);
#define NOT_EXECUTED 0xB0100
#define NOBODY_KNOWS 0xB0101

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
