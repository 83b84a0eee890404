/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tss2/tss2_tcti.h>

/*
 * Wire
 *
 * A connection to what is measured. Its subject is tcp:HOST:PORT or unix:PATH, spoken to directly, or else the name of
 * a TCTI for the loader of tpm2-tss. Failures of the connection end the program: a measurement has no use for them.
 */
typedef struct Wire {
        const char *subject;
        int fd; /* what to poll for an answer; of a TCTI it is known once a command was sent */
        TSS2_TCTI_CONTEXT *tcti;
        uint8_t answer[4096];
        size_t n_answer;
} Wire;

void wire_connect(Wire *wire, const char *subject);
void wire_disconnect(Wire *wire);
void wire_send(Wire *wire, const uint8_t *command, size_t n);

/* Takes what has come. It waits only for the rest of what a TCTI has begun. Return: whether the answer is whole. */
bool wire_receive(Wire *wire);

/* Sends, and waits for the answer. Return: its response code. */
uint32_t wire_ask(Wire *wire, const uint8_t *command, size_t n);

/* Of a whole answer */
uint32_t wire_code(const Wire *wire);

uint64_t now_ns(void);

#endif
