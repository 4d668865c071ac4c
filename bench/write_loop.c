/* The physical limit: one write() per connection and message, nothing else.
 *
 *   write_loop CONNECTIONS
 *
 * Prints its port, takes the connections and answers their handshakes (with a wrong accept key: only receiver.c connects).
 * For each line "MESSAGES SIZE AT_ONCE" on stdin it sends so many frames of SIZE bytes to everybody, AT_ONCE in one
 * write, and prints "sent CPU_US".
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

static long cpu_us(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000L + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static void send_all(int fd, const char *data, size_t size) {
  while (size) {
    ssize_t n = write(fd, data, size);
    if (n < 0) { perror("write"); exit(1); }
    data += n; size -= n;
  }
}

int main(int argc, char **argv) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof at;
  int count = argc > 1 ? atoi(argv[1]) : 0, listener = socket(AF_INET, SOCK_STREAM, 0);
  int *fds = calloc(count, sizeof *fds), messages, size, at_once;
  char line[128], request[8192];
  if (bind(listener, (struct sockaddr *)&at, length) || listen(listener, 1024)) return perror("listen"), 1;
  getsockname(listener, (struct sockaddr *)&at, &length);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("%d\n", ntohs(at.sin_port));
  for (int i = 0; i < count; i++) {
    fds[i] = accept(listener, NULL, NULL);
    size_t have = 0;
    do {
      ssize_t n = read(fds[i], request + have, sizeof request - have - 1);
      if (n <= 0) return perror("handshake"), 1;
      request[have += n] = 0;
    } while (!strstr(request, "\r\n\r\n"));
    send_all(fds[i], ANSWER, sizeof ANSWER - 1);
  }
  while (fgets(line, sizeof line, stdin) && sscanf(line, "%d %d %d", &messages, &size, &at_once) == 3) {
    size_t frame = size + (size < 126 ? 2 : 4);
    char *block = malloc(frame * at_once);
    for (int i = 0; i < at_once; i++) {
      unsigned char *f = (unsigned char *)block + i * frame;
      f[0] = 0x81; f[1] = size < 126 ? size : 126;
      if (size >= 126) { f[2] = size >> 8; f[3] = size & 255; }
      memset(f + (frame - size), 'x', size);
    }
    long before = cpu_us();
    for (int sent = 0; sent < messages; sent += at_once)
      for (int i = 0; i < count; i++) send_all(fds[i], block, frame * at_once);
    printf("sent %ld\n", cpu_us() - before);
    free(block);
  }
  return 0;
}
