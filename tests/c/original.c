/* A program that was written for the original's library: it knows four prototypes and no header. It does what
 * it is told by lines, and answers each with the number that the function gave. */

#include <stdio.h>
#include <string.h>

int memcr_client_connect(const char *location);
void memcr_client_disconnect(const int cd);
int memcr_client_checkpoint(const int cd, const unsigned int pid);
int memcr_client_restore(const int cd, const unsigned int pid);

int main(void)
{
    char line[512], word[256];
    int cd;
    unsigned int pid;

    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "connect-null\n") == 0) {
            printf("%d\n", memcr_client_connect(NULL));
        } else if (sscanf(line, "connect %255s", word) == 1) {
            printf("%d\n", memcr_client_connect(word));
        } else if (sscanf(line, "disconnect %d", &cd) == 1) {
            memcr_client_disconnect(cd);
            puts("disconnected");
        } else if (sscanf(line, "checkpoint %d %u", &cd, &pid) == 2) {
            printf("%d\n", memcr_client_checkpoint(cd, pid));
        } else if (sscanf(line, "restore %d %u", &cd, &pid) == 2) {
            printf("%d\n", memcr_client_restore(cd, pid));
        } else {
            puts("what?");
        }
    }
    return 0;
}
