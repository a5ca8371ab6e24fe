/* A program that uses the newer functions of memcrclient.h. It does what it is told by lines, and answers each
 * with the name of the code, figures, and why it failed. */

#include <memcrclient.h>

#include <stdio.h>
#include <string.h>

/* the header declares what programs for the original's library declare themselves */
int memcr_client_connect(const char *location);
void memcr_client_disconnect(const int cd);
int memcr_client_checkpoint(const int cd, const unsigned int pid);
int memcr_client_restore(const int cd, const unsigned int pid);

static void answer(memcr_connection *connection, memcr_code code, const char *figures)
{
    printf("%s%s | %s\n", memcr_code_name(code), figures, memcr_error_message(connection));
}

int main(void)
{
    char line[512], word[256], figures[256];
    memcr_connection *connection = NULL;
    memcr_code code;
    int pid, number;

    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        memcr_checkpoint_options options = { .size = sizeof options };
        memcr_sleep_result sleep = { .size = sizeof sleep };
        memcr_wake_result wake = { .size = sizeof wake };
        memcr_status_result status = { .size = sizeof status };

        figures[0] = '\0';
        if (sscanf(line, "open %255s", word) == 1) {
            memcr_close(connection);
            code = memcr_open(word, 30, &connection);
        } else if (sscanf(line, "checkpoint-in %255s %d", word, &pid) == 2) {
            options.directory = word;
            code = memcr_checkpoint(connection, pid, &options, NULL);
        } else if (sscanf(line, "checkpoint-as %d %d", &number, &pid) == 2) {
            options.compression = number;
            code = memcr_checkpoint(connection, pid, &options, &sleep);
            snprintf(figures, sizeof figures, " dumped=%llu image=%llu", (unsigned long long)sleep.dumped,
                     (unsigned long long)sleep.image);
        } else if (sscanf(line, "checkpoint %d", &pid) == 1) {
            code = memcr_checkpoint(connection, pid, NULL, &sleep);
            snprintf(figures, sizeof figures, " before=%llu asleep=%llu dumped=%llu image=%llu guard=%d checksum=%s",
                     (unsigned long long)sleep.rss_before, (unsigned long long)sleep.rss_asleep,
                     (unsigned long long)sleep.dumped, (unsigned long long)sleep.image, sleep.guard,
                     sleep.checksum);
        } else if (sscanf(line, "restore %d", &pid) == 1) {
            code = memcr_restore(connection, pid, &wake);
            snprintf(figures, sizeof figures, " restored=%llu checksum=%s", (unsigned long long)wake.restored,
                     wake.checksum);
        } else if (sscanf(line, "status %d", &pid) == 1) {
            code = memcr_status(connection, pid, &status, &sleep);
            snprintf(figures, sizeof figures, " state=%d pid=%d uid=%u dumped=%llu", status.state, status.pid,
                     status.uid, (unsigned long long)sleep.dumped);
        } else if (strcmp(line, "close\n") == 0) {
            memcr_close(connection);
            connection = NULL;
            code = MEMCR_CODE_OK;
        } else {
            code = -1;
        }
        answer(connection, code, figures);
    }
    memcr_close(connection);
    return 0;
}
