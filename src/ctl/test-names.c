/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/names.h"

#include <stdio.h>
#include <stdlib.h>

/* Prints each code that has a name, with that; for test-names.sh. The table must have as many, and no vendor's. */
int main(void) {
        static TpmCommandTable table;
        unsigned n = 0;

        command_table(&table);
        for (uint32_t code = 0; code < 0x10000; code++) {
                const char *name = command_name(code);

                if ((name != NULL) != (tpm_command_table_find(&table, code) != NULL))
                        return EXIT_FAILURE;
                if (name)
                        printf("%s 0x%08x\n", name, code);
                n += name != NULL;
        }
        for (uint32_t code = UINT32_MAX; code > 0xFFFF0000; code--)
                if (command_name(code))
                        return EXIT_FAILURE;
        printf("%s 0x%08x\n", command_name(0x20000000), 0x20000000);
        return n == table.n_commands ? EXIT_SUCCESS : EXIT_FAILURE;
}
