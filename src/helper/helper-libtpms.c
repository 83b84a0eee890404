/* SPDX-License-Identifier: BSD-2-Clause */
#include "helper/helper.h"

#if HAVE_LIBTPMS

#include "tpm/writer.h"
#include "util/fd.h"
#include "util/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_memory.h>
#include <libtpms/tpm_nvfilename.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * A TPM of our own
 *
 * State lies in STATE-DIR, a file per name that libtpms gives it; the format is libtpms' own, without the header that
 * swtpm puts before it. Without a directory it lies in memory: a TPM that is new each time. (It must lie somewhere:
 * libtpms reads back what it has just written, and is half a TPM when it finds nothing.)
 *
 * It is ended in order, as firmware does it: without a Shutdown, each start after an authorization that is subject to
 * dictionary attack protection would count as a failed one (TPM 2.0 Part 1, 19.8.6), and orderly NV data would be lost.
 * Within one boot of the machine it goes on where it was, like a chip that stays powered while the daemon is replaced:
 * Shutdown(STATE), then Startup(STATE), which the daemon takes for a TPM that somebody has started before. After
 * another boot it is reset, unless a client's Shutdown(STATE) was the last command but for what the daemon sends by
 * itself: then the daemon's Startup(CLEAR) is a restart, as it is to a chip. A file in the directory has the number of
 * the boot, and which of the two it is; without it, the TPM was not ended in order.
 */
#define RESUME_NAME "resume"
#define LOCK_TRIES 100 /* our predecessor may have to finish a command, and to write its state */
#define LOCK_PAUSE_NS 100000000

typedef struct Memory {
        const char *name;
        unsigned char *bytes; /* NULL: none */
        uint32_t n;
} Memory;

static Memory memories[] = {
        { .name = TPM_PERMANENT_ALL_NAME },
        { .name = TPM_VOLATILESTATE_NAME },
        { .name = TPM_SAVESTATE_NAME },
};
static int state_dir = -1; /* -1: in memory */
static uint8_t current_locality;
static unsigned char *answer; /* libtpms allocates and grows it */
static uint32_t n_answer_max;
static bool restarts; /* after another boot: a client's Shutdown(STATE) was the last command that counted */

static Memory *memory_of(const char *name) {
        for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++)
                if (strcmp(memories[i].name, name) == 0)
                        return &memories[i];
        return NULL;
}

static TPM_RESULT memory_load(const Memory *memory, unsigned char **data, uint32_t *length) {
        unsigned char *bytes = NULL;

        if (!memory || !memory->bytes)
                return TPM_RETRY; /* there is none */
        if (TPM_Malloc(&bytes, memory->n) != TPM_SUCCESS)
                return TPM_FAIL;
        memcpy(bytes, memory->bytes, memory->n);
        *data = bytes;
        *length = memory->n;
        return TPM_SUCCESS;
}

static void memory_delete(Memory *memory) {
        if (memory->bytes)
                explicit_bzero(memory->bytes, memory->n);
        TPM_Free(memory->bytes);
        memory->bytes = NULL;
}

static TPM_RESULT memory_store(Memory *memory, const unsigned char *data, uint32_t length) {
        unsigned char *bytes = NULL;

        if (!memory || TPM_Malloc(&bytes, length) != TPM_SUCCESS)
                return TPM_FAIL;
        memcpy(bytes, data, length);
        memory_delete(memory);
        memory->bytes = bytes;
        memory->n = length;
        return TPM_SUCCESS;
}

static TPM_RESULT nvram_init(void) {
        return TPM_SUCCESS;
}

static TPM_RESULT nvram_load(unsigned char **data, uint32_t *length, uint32_t tpm_number, const char *name) {
        unsigned char *bytes = NULL;
        struct stat status;
        fd_auto fd = -1;

        if (state_dir < 0)
                return memory_load(memory_of(name), data, length);
        fd = openat(state_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return errno == ENOENT ? TPM_RETRY : TPM_FAIL;
        if (fstat(fd, &status) < 0 || status.st_size <= 0 || status.st_size > INT32_MAX ||
            TPM_Malloc(&bytes, (uint32_t)status.st_size) != TPM_SUCCESS)
                return TPM_FAIL;
        if (read(fd, bytes, (size_t)status.st_size) != status.st_size) {
                TPM_Free(bytes);
                return TPM_FAIL;
        }
        *data = bytes;
        *length = (uint32_t)status.st_size;
        return TPM_SUCCESS;
}

static bool write_file(int fd, const unsigned char *bytes, size_t n) {
        while (n > 0) {
                ssize_t r = write(fd, bytes, n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return false;
                bytes += r;
                n -= (size_t)r;
        }
        return fsync(fd) == 0;
}

/* libtpms goes into failure mode; why, is for the log of the daemon, which has our standard error. */
static void store_failed(const char *name) {
        static bool logged;

        if (!logged)
                (void)fprintf(stderr, "the TPM fails: its state (%s) cannot be written: %s\n", name, strerror(errno));
        logged = true;
}

static TPM_RESULT nvram_store(const unsigned char *data, uint32_t length, uint32_t tpm_number, const char *name) {
        char temporary[NAME_MAX];
        fd_auto fd = -1;

        if (state_dir < 0)
                return memory_store(memory_of(name), data, length);
        (void)snprintf(temporary, sizeof(temporary), "%s.new", name);
        fd = openat(state_dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || !write_file(fd, data, length) || renameat(state_dir, temporary, state_dir, name) < 0 ||
            fsync(state_dir) < 0) {
                store_failed(name);
                return TPM_FAIL;
        }
        return TPM_SUCCESS;
}

static TPM_RESULT nvram_delete(uint32_t tpm_number, const char *name, TPM_BOOL must_exist) {
        Memory *memory = memory_of(name);

        if (state_dir < 0) {
                if (!memory || (!memory->bytes && must_exist))
                        return TPM_FAIL;
                memory_delete(memory);
                return TPM_SUCCESS;
        }
        return unlinkat(state_dir, name, 0) == 0 || (errno == ENOENT && !must_exist) ? TPM_SUCCESS : TPM_FAIL;
}

static TPM_RESULT io_init(void) {
        return TPM_SUCCESS;
}

static TPM_RESULT io_locality(TPM_MODIFIER_INDICATOR *locality, uint32_t tpm_number) {
        *locality = current_locality;
        return TPM_SUCCESS;
}

static TPM_RESULT io_physical_presence(TPM_BOOL *presence, uint32_t tpm_number) {
        *presence = 0;
        return TPM_SUCCESS;
}

/* What the daemon sends by itself. It decides nothing here but what a client has meant last. */
static bool is_upkeep(uint32_t code) {
        static const uint32_t CODES[] = { TPM2_CC_ContextLoad,   TPM2_CC_ContextSave, TPM2_CC_FlushContext,
                                          TPM2_CC_GetCapability, TPM2_CC_ReadClock,   TPM2_CC_ReadPublic };

        for (size_t i = 0; i < sizeof(CODES) / sizeof(CODES[0]); i++)
                if (CODES[i] == code)
                        return true;
        return false;
}

/* The type is the last thing in a Shutdown, with a session or without. */
static void note_shutdown(const uint8_t *command, size_t n_command) {
        TpmReader reader = TPM_READER(command, n_command);
        TpmReader last = TPM_READER(command + n_command - sizeof(TPM2_SU), sizeof(TPM2_SU));
        TpmReader answered = TPM_READER(answer, TPM_HEADER_SIZE);
        uint32_t code = tpm_read_header(&reader).code;

        if (tpm_read_header(&answered).code == TPM2_RC_SUCCESS && !is_upkeep(code))
                restarts = code == TPM2_CC_Shutdown && tpm_read_u16(&last) == TPM2_SU_STATE;
}

static bool libtpms_run(uint8_t *command, size_t n_command, uint8_t response[static TPM_MESSAGE_MAX], size_t *ret_n,
                        HelperReason *reason) {
        uint32_t n = 0;
        TPM_RESULT result;

        result = TPMLIB_Process(&answer, &n, &n_answer_max, command, (uint32_t)n_command);
        if (result != TPM_SUCCESS || n > TPM_MESSAGE_MAX) {
                helper_reason(reason, "libtpms failed (%u, %u bytes)", result, n);
                return false;
        }
        if (n >= TPM_HEADER_SIZE)
                note_shutdown(command, n_command);
        memcpy(response, answer, n);
        explicit_bzero(answer, n);
        *ret_n = n;
        return true;
}

/* Startup or Shutdown. Return: whether the TPM has done it. */
static bool change_power(TPM2_CC code, TPM2_SU type) {
        uint8_t command[TPM_HEADER_SIZE + sizeof(type)], response[TPM_MESSAGE_MAX];
        TpmWriter writer = TPM_WRITER(command, sizeof(command));
        TpmReader reader = TPM_READER(response, TPM_HEADER_SIZE);
        HelperReason reason = { .text = "" };
        size_t n;

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, code);
        tpm_write_u16(&writer, type);
        return libtpms_run(command, tpm_write_end(&writer), response, &n, &reason) && n >= TPM_HEADER_SIZE &&
               tpm_read_header(&reader).code == TPM2_RC_SUCCESS;
}

#define RESTARTS " restarts" /* behind the number of the boot */

/* Return: false: there is none, or it cannot be read. It counts once. */
static bool take_note(char note[static 2 * PLATFORM_BOOT_SIZE]) {
        fd_auto fd = openat(state_dir, RESUME_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t n = fd < 0 ? -1 : read(fd, note, 2 * PLATFORM_BOOT_SIZE - 1);

        note[n > 0 ? n : 0] = '\0';
        return unlinkat(state_dir, RESUME_NAME, 0) == 0 && n > 0;
}

static void leave_note(bool with_restart) {
        char boot[PLATFORM_BOOT_SIZE], note[2 * PLATFORM_BOOT_SIZE];
        fd_auto fd = -1;

        if (!platform_boot(boot))
                return;
        (void)snprintf(note, sizeof(note), "%s%s", boot, with_restart ? RESTARTS : "");
        fd = openat(state_dir, RESUME_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || !write_file(fd, (const unsigned char *)note, strlen(note)))
                (void)unlinkat(state_dir, RESUME_NAME, 0);
}

/* A TPM that refuses STATE will be reset; one that refuses both was not started, or is in failure mode. */
static void end_in_order(void) {
        bool with_restart = restarts;

        if (change_power(TPM2_CC_Shutdown, TPM2_SU_STATE))
                leave_note(with_restart);
        else
                (void)change_power(TPM2_CC_Shutdown, TPM2_SU_CLEAR);
}

/* The TPM has its power; what is done before the daemon's Startup. */
static TPM_RESULT begin_in_order(void) {
        char boot[PLATFORM_BOOT_SIZE], note[2 * PLATFORM_BOOT_SIZE];

        if (!take_note(note) || !platform_boot(boot))
                return TPM_SUCCESS;
        if (strncmp(note, boot, strlen(boot)) == 0) {
                if (!change_power(TPM2_CC_Startup, TPM2_SU_STATE))
                        (void)fprintf(stderr, "the TPM does not go on where it was: it is reset\n");
                return TPM_SUCCESS;
        }
        if (strstr(note, RESTARTS))
                return TPM_SUCCESS;
        (void)change_power(TPM2_CC_Startup, TPM2_SU_CLEAR);
        (void)change_power(TPM2_CC_Shutdown, TPM2_SU_CLEAR);
        TPMLIB_Terminate();
        return TPMLIB_MainInit();
}

static bool libtpms_set_locality(uint8_t locality) {
        if (locality > 4) /* the extended ones, 32 to 255, are not for a TPM of this kind */
                return false;
        current_locality = locality;
        return true;
}

/* Asks the command that is running; what is asked between commands is forgotten when the next one begins. */
static void libtpms_cancel(void) {
        (void)TPMLIB_CancelCommand();
}

static void libtpms_close(void) {
        if (state_dir >= 0)
                end_in_order();
        TPMLIB_Terminate();
        TPM_Free(answer);
        for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++)
                memory_delete(&memories[i]);
        state_dir = fd_close(state_dir);
}

/* The lock keeps two TPMs from one state. */
static bool open_state(const char *path, HelperReason *reason) {
        if (mkdir(path, 0700) < 0 && errno != EEXIST) {
                helper_reason(reason, "cannot make the directory: %s", strerror(errno));
                return false;
        }
        state_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (state_dir < 0) {
                helper_reason(reason, "cannot open the directory: %s", strerror(errno));
                return false;
        }
        for (int i = 0; i < LOCK_TRIES; i++) {
                if (flock(state_dir, LOCK_EX | LOCK_NB) == 0)
                        return true;
                (void)nanosleep(&(struct timespec){ .tv_nsec = LOCK_PAUSE_NS }, NULL);
        }
        helper_reason(reason, "cannot lock the directory, which another TPM has: %s", strerror(errno));
        return false;
}

bool helper_libtpms_open(const char *path, HelperTpm *ret_tpm, HelperReason *reason) {
        struct libtpms_callbacks callbacks = {
                .sizeOfStruct = sizeof(callbacks),
                .tpm_nvram_init = nvram_init,
                .tpm_nvram_loaddata = nvram_load,
                .tpm_nvram_storedata = nvram_store,
                .tpm_nvram_deletename = nvram_delete,
                .tpm_io_init = io_init,
                .tpm_io_getlocality = io_locality,
                .tpm_io_getphysicalpresence = io_physical_presence,
        };
        TPM_RESULT result;

        if (path && !open_state(path, reason))
                return false;
        result = TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2);
        if (result == TPM_SUCCESS)
                result = TPMLIB_RegisterCallbacks(&callbacks);
        if (result == TPM_SUCCESS)
                result = TPMLIB_MainInit();
        if (result == TPM_SUCCESS && path)
                result = begin_in_order();
        if (result != TPM_SUCCESS) {
                helper_reason(reason, "libtpms does not start (0x%x)%s", result, path ? ": is its state whole?" : "");
                return false;
        }
        *ret_tpm = (HelperTpm){
                .flags = HELPER_LOCALITIES | HELPER_CANCEL,
                .run = libtpms_run,
                .set_locality = libtpms_set_locality,
                .cancel = libtpms_cancel,
                .close = libtpms_close,
        };
        return true;
}

#else

bool helper_libtpms_open(const char *path, HelperTpm *ret_tpm, HelperReason *reason) {
        helper_reason(reason, "built without libtpms");
        return false;
}

#endif
