/* A program that was written for the original's library: it knows four prototypes and no header. It does what
 * it is told by lines, and answers each with the number that the function gave. Once it is told so, it handles a
 * signal every millisecond while a function works. */

#define _XOPEN_SOURCE 700

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

int memcr_client_connect(const char *location);
void memcr_client_disconnect(const int cd);
int memcr_client_checkpoint(const int cd, const unsigned int pid);
int memcr_client_restore(const int cd, const unsigned int pid);

static volatile sig_atomic_t signals;
static long period;

static void count(int signal)
{
    (void)signal;
    signals++;
}

/* No SA_RESTART: what waits is interrupted. */
static void disturb(long microseconds)
{
    struct sigaction action = { .sa_handler = count };
    struct itimerval timer = { { 0, microseconds }, { 0, microseconds } };

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

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
            disturb(period);
            cd = memcr_client_checkpoint(cd, pid);
            disturb(0);
            printf("%d\n", cd);
        } else if (sscanf(line, "restore %d %u", &cd, &pid) == 2) {
            disturb(period);
            cd = memcr_client_restore(cd, pid);
            disturb(0);
            printf("%d\n", cd);
        } else if (strcmp(line, "handle signals\n") == 0) {
            period = 1000;
            puts("handling");
        } else if (strcmp(line, "signals\n") == 0) {
            printf("%d\n", (int)signals);
        } else {
            puts("what?");
        }
    }
    return 0;
}
