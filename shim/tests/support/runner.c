/* A stand-in for the runner: says what it was started with, then ends as the plan tells it.
 *
 * Arguments: its name, then the descriptors of the connection, the plan, the module, and others.
 * The plan is a line of text: `exit N`, `kill N` or `copy` (stdin to stdout, exit 0).
 * What the module holds is written to the connection: the agent sees that it came through.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

static void descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
            printf("open %s\n", entry->d_name);
}

static void signals(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, "SigBlk", 6) || !strncmp(line, "SigIgn", 6) || !strncmp(line, "SigCgt", 6))
            fputs(line, stdout);
    if (status) fclose(status);
}

static void connection(int socket) {
    struct timeval receive = {0}, send = {0};
    socklen_t length = sizeof receive;
    getsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &receive, &length);
    getsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &send, &length);
    printf("blocking %d\n", !(fcntl(socket, F_GETFL) & O_NONBLOCK));
    printf("timeouts %ld %ld\n", receive.tv_sec + receive.tv_usec, send.tv_sec + send.tv_usec);
}

int main(int count, char **arguments) {
    char buffer[4096], plan[64] = "", directory[4096];
    ssize_t length;
    printf("pid %d\n", (int)getpid());
    for (int i = 0; i < count; i++) printf("argument %s\n", arguments[i]);
    for (char **name = environ; *name; name++) printf("variable %s\n", *name);
    if (getcwd(directory, sizeof directory)) printf("directory %s\n", directory);
    descriptors();
    signals();
    if (count < 4) return 99;
    connection(atoi(arguments[1]));
    while ((length = read(atoi(arguments[3]), buffer, sizeof buffer)) > 0)
        if (write(atoi(arguments[1]), buffer, (size_t)length) != length) return 98;
    if (read(atoi(arguments[2]), plan, sizeof plan - 1) < 0) return 97;
    fflush(stdout);
    if (!strncmp(plan, "exit ", 5)) return atoi(plan + 5);
    if (!strncmp(plan, "kill ", 5)) return raise(atoi(plan + 5)), 96;
    while ((length = read(0, buffer, sizeof buffer)) > 0)
        if (write(1, buffer, (size_t)length) != length) return 95;
    return strncmp(plan, "copy", 4) ? 94 : 0;
}
