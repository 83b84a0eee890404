/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/pcapng.h"

#include "tpm/writer.h"

#include <string.h>

/* Blocks and options, in the byte order of the machine (draft-ietf-opsawg-pcapng). */
#define BLOCK_SECTION 0x0A0D0D0Au
#define BLOCK_INTERFACE 1u
#define BLOCK_PACKET 6u
#define SECTION_MAGIC 0x1A2B3C4Du
#define LINK_IPV4 228 /* bare packets */
#define OPTION_END 0
#define OPTION_COMMENT 1
#define OPTION_NAME 2 /* of an interface */
#define OPTION_DESCRIPTION 3
#define OPTION_PROGRAM 4 /* of a section */
#define OPTION_RESOLUTION 9

/* Interfaces, in the order of their blocks */
enum {
        INTERFACE_CLIENTS,
        INTERFACE_TPM,
};

#define IP_SIZE 20
#define TCP_SIZE 20
#define TPM_PORT 2321
#define FIRST_PORT 49152
#define ADDRESS_DAEMON 0x7F000001u
#define ADDRESS_TPM 0x7F000002u
#define ADDRESS_CLIENTS 0x0A000000u
#define CLIENT_MASK 0x00FFFFFFu
#define FLOWS_MAX 65536 /* known at a time; then all begin anew, from another port */

/* What went between a client and the daemon, or for it, the TPM. */
typedef struct Flow {
        uint32_t n_sent, n_got;
} Flow;

struct Pcapng {
        GHashTable *flows;
        uint16_t port;
};

static void put_u16(GString *to, uint16_t value) {
        g_string_append_len(to, (const char *)&value, sizeof(value));
}

static void put_u32(GString *to, uint32_t value) {
        g_string_append_len(to, (const char *)&value, sizeof(value));
}

static void put_padded(GString *to, const void *bytes, size_t n) {
        g_string_append_len(to, bytes, (gssize)n);
        g_string_append_len(to, "\0\0\0", (4 - n % 4) % 4);
}

static void put_option(GString *to, uint16_t option, const void *bytes, size_t n) {
        n = MIN(n, UINT16_MAX);
        put_u16(to, option);
        put_u16(to, (uint16_t)n);
        put_padded(to, bytes, n);
}

static void put_text(GString *to, uint16_t option, const char *text) {
        put_option(to, option, text, strlen(text));
}

/* Return: where it begins, for end_block(). */
static size_t begin_block(GString *to, uint32_t type) {
        size_t at = to->len;

        put_u32(to, type);
        put_u32(to, 0);
        return at;
}

static void end_block(GString *to, size_t at) {
        uint32_t size;

        put_option(to, OPTION_END, NULL, 0);
        size = (uint32_t)(to->len - at + sizeof(size));
        put_u32(to, size);
        memcpy(to->str + at + sizeof(uint32_t), &size, sizeof(size));
}

static void put_interface(GString *to, const char *name, const char *description) {
        const uint8_t resolution = 6; /* 10^-6 s */
        size_t at = begin_block(to, BLOCK_INTERFACE);

        put_u16(to, LINK_IPV4);
        put_u16(to, 0);
        put_u32(to, 0); /* no limit to packets */
        put_text(to, OPTION_NAME, name);
        put_text(to, OPTION_DESCRIPTION, description);
        put_option(to, OPTION_RESOLUTION, &resolution, 1);
        end_block(to, at);
}

void pcapng_head(bool payload, GString *to) {
        size_t at = begin_block(to, BLOCK_SECTION);

        put_u32(to, SECTION_MAGIC);
        put_u16(to, 1); /* version 1.0 */
        put_u16(to, 0);
        put_u32(to, UINT32_MAX); /* its size is not known */
        put_u32(to, UINT32_MAX);
        if (!payload)
                put_text(to, OPTION_COMMENT, "Parameters and authorizations are not in this file: they are zero.");
        put_text(to, OPTION_PROGRAM, "tabrmctl " TABRMD_VERSION);
        end_block(to, at);
        put_interface(to, "clients", "commands of clients of tpm2-abrmd");
        put_interface(to, "tpm", "commands that the TPM was sent");
}

static uint32_t sum_of(uint32_t sum, const uint8_t *bytes, size_t n) {
        for (size_t i = 0; i < n; i++)
                sum += (uint32_t)bytes[i] << (i % 2 ? 0 : 8);
        return sum;
}

static void put_sum(uint8_t *at, uint32_t sum) {
        while (sum >> 16)
                sum = (sum & 0xFFFF) + (sum >> 16);
        at[0] = (uint8_t)(~sum >> 8);
        at[1] = (uint8_t)~sum;
}

typedef struct Segment {
        uint32_t from, to;
        uint16_t from_port, to_port;
        uint32_t sequence, acknowledged;
        const uint8_t *bytes;
        size_t n_bytes;
} Segment;

/* Headers of IPv4 (RFC 791) and TCP (RFC 9293) before the bytes. */
static void put_segment(GString *to, const Segment *segment) {
        uint16_t size = (uint16_t)(IP_SIZE + TCP_SIZE + segment->n_bytes);
        uint8_t bytes[IP_SIZE + TCP_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));
        uint32_t sum;

        tpm_write_u16(&writer, 0x4500);
        tpm_write_u16(&writer, size);
        tpm_write_u32(&writer, 0x00004000); /* not to be fragmented */
        tpm_write_u16(&writer, 64 << 8 | 6);
        tpm_write_u16(&writer, 0);
        tpm_write_u32(&writer, segment->from);
        tpm_write_u32(&writer, segment->to);
        put_sum(bytes + 10, sum_of(0, bytes, IP_SIZE));

        tpm_write_u16(&writer, segment->from_port);
        tpm_write_u16(&writer, segment->to_port);
        tpm_write_u32(&writer, segment->sequence);
        tpm_write_u32(&writer, segment->acknowledged);
        tpm_write_u16(&writer, 0x5018); /* five words; ACK, PSH */
        tpm_write_u16(&writer, UINT16_MAX);
        tpm_write_u32(&writer, 0);
        sum = sum_of(6 + size - IP_SIZE, bytes + 12, 8); /* the pseudo header */
        sum = sum_of(sum, bytes + IP_SIZE, TCP_SIZE);
        put_sum(bytes + IP_SIZE + 16, sum_of(sum, segment->bytes, segment->n_bytes));
        g_string_append_len(to, (const char *)bytes, sizeof(bytes));
        g_string_append_len(to, (const char *)segment->bytes, (gssize)segment->n_bytes);
}

static void put_packet(GString *to, const Record *record, uint64_t when_us, const Segment *segment,
                       const char *comment) {
        uint32_t size = (uint32_t)(IP_SIZE + TCP_SIZE + segment->n_bytes);
        size_t at = begin_block(to, BLOCK_PACKET);

        put_u32(to, record->tpm ? INTERFACE_TPM : INTERFACE_CLIENTS);
        put_u32(to, (uint32_t)(when_us >> 32));
        put_u32(to, (uint32_t)when_us);
        put_u32(to, size);
        put_u32(to, size);
        put_segment(to, segment);
        g_string_append_len(to, "\0\0\0", (4 - size % 4) % 4);
        put_text(to, OPTION_COMMENT, comment);
        end_block(to, at);
}

static Flow *find_flow(Pcapng *pcapng, const Record *record) {
        guint key = (guint)(record->client & CLIENT_MASK) | (record->tpm ? CLIENT_MASK + 1 : 0);
        Flow *flow = g_hash_table_lookup(pcapng->flows, GUINT_TO_POINTER(key));

        if (flow)
                return flow;
        if (g_hash_table_size(pcapng->flows) >= FLOWS_MAX) {
                g_hash_table_remove_all(pcapng->flows);
                pcapng->port = pcapng->port == UINT16_MAX ? FIRST_PORT : pcapng->port + 1;
        }
        flow = g_new(Flow, 1);
        *flow = (Flow){ 1, 1 };
        g_hash_table_insert(pcapng->flows, GUINT_TO_POINTER(key), flow);
        return flow;
}

static char *comment_of_command(const Record *record) {
        GString *text = g_string_new(NULL);

        if (record->n_dropped > 0)
                g_string_append_printf(text, "%" G_GUINT64_FORMAT " records are lost before this one; ",
                                       record->n_dropped);
        g_string_append_printf(text, "client %" G_GUINT64_FORMAT ", uid %u, pid %u (%s), locality %u", record->client,
                               record->uid, record->pid, record->name, record->locality);
        if (!record->tpm)
                g_string_append_printf(text, ", waited %" G_GUINT64_FORMAT " us", record->wait_us);
        if (record->n_response == 0)
                g_string_append(text, "; no answer came");
        return g_string_free(text, FALSE);
}

static char *comment_of_response(const Record *record) {
        GString *text = g_string_new(NULL);

        g_string_append_printf(text, "%s; took %" G_GUINT64_FORMAT " us", record_answer_text(record), record->took_us);
        if (!record->tpm)
                g_string_append_printf(text, ", TPM commands: %u", record->n_transmits);
        return g_string_free(text, FALSE);
}

void pcapng_record(Pcapng *pcapng, const Record *record, GString *to) {
        g_autofree char *asked = comment_of_command(record), *answered = comment_of_response(record);
        Flow *flow = find_flow(pcapng, record);
        const Segment command = {
                .from = ADDRESS_CLIENTS | (uint32_t)(record->client & CLIENT_MASK),
                .to = record->tpm ? ADDRESS_TPM : ADDRESS_DAEMON,
                .from_port = pcapng->port,
                .to_port = TPM_PORT,
                .sequence = flow->n_sent,
                .acknowledged = flow->n_got,
                .bytes = record->command,
                .n_bytes = record->n_command,
        };
        const Segment response = {
                .from = command.to,
                .to = command.from,
                .from_port = command.to_port,
                .to_port = command.from_port,
                .sequence = flow->n_got,
                .acknowledged = flow->n_sent + (uint32_t)record->n_command,
                .bytes = record->response,
                .n_bytes = record->n_response,
        };

        put_packet(to, record, record->when_us, &command, asked);
        if (record->n_response > 0)
                put_packet(to, record, record->when_us + record->took_us, &response, answered);
        flow->n_sent += (uint32_t)record->n_command;
        flow->n_got += (uint32_t)record->n_response;
}

Pcapng *pcapng_new(void) {
        Pcapng *pcapng = g_new(Pcapng, 1);

        *pcapng = (Pcapng){
                .flows = g_hash_table_new_full(NULL, NULL, NULL, g_free),
                .port = FIRST_PORT,
        };
        return pcapng;
}

Pcapng *pcapng_free(Pcapng *pcapng) {
        if (!pcapng)
                return NULL;
        g_hash_table_unref(pcapng->flows);
        g_free(pcapng);
        return NULL;
}
