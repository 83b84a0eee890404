/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_PCAPNG_H
#define CTL_PCAPNG_H

#include "ctl/record.h"

/*
 * Records as packets
 *
 * A pcapng file with what Wireshark's dissector of TPM 2.0 takes for TPM traffic: commands to, and responses from, port
 * 2321. Each client is a host of its own, 10.x.y.z by its id; the daemon is 127.0.0.1, and the TPM behind it, which has
 * an interface of its own, 127.0.0.2. Who and how long is in the packets' comments.
 *
 * A response follows its command at once, since the dissector takes the last command for its own. So where clients wait
 * for each other, packets are not in the order of their times.
 */
typedef struct Pcapng Pcapng;

Pcapng *pcapng_new(void);
Pcapng *pcapng_free(Pcapng *pcapng); /* takes NULL, returns NULL */

void pcapng_head(bool payload, GString *to); /* what a file begins with */
void pcapng_record(Pcapng *pcapng, const Record *record, GString *to);

#endif
